# SPDX-License-Identifier: Apache-2.0
"""Build requests for keyphrases, and read the answers; shared by both clients."""

from __future__ import annotations

import struct
from typing import Any

from quorum_client import _wire
from quorum_client._results import Keyphrase, Recommendation, RecommendItem
from quorum_contract import RECOMMEND, Priority
from quorum_contract.checks import check_limit, check_min_score, encode_category, encode_text
from quorum_contract.tensors import (
    KEYPHRASE_SCORES,
    KEYPHRASES,
    RECOMMEND_ASKED,
    RECOMMENDED,
    RETRIEVER_VERSION,
)

_ANY_SCORE = -1.0
_CONTENTS = {"BYTES": "bytes_contents", "INT32": "int_contents", "FP32": "fp32_contents"}


def request(
    item: RecommendItem, *, channel: str, request_id: str, timeout_us: int, priority: Priority
) -> Any:
    """Check an item and build the ``ModelInferRequest``.

    Raises:
        InvalidRequest: It breaks the contract.
    """
    least = _ANY_SCORE if item.min_score is None else check_min_score(item.min_score)
    contents = (encode_text(item.text), encode_category(item.category), check_limit(item.k), least)
    message = _wire.envelope(channel, request_id, timeout_us, priority)
    for tensor, value in zip(RECOMMEND_ASKED, contents, strict=True):
        added = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[1])
        getattr(added.contents, _CONTENTS[tensor.datatype]).append(value)
    return message


def recommendation(
    response: Any,
    request_id: str,
    latency_s: float,
    channel: str = RECOMMEND,
    fallback_from: str | None = None,
) -> Recommendation:
    """Read a ``ModelInferResponse``.

    Raises:
        ProtocolError: It breaks the contract.
    """
    with _wire.reading(response, request_id):
        raw = _wire.outputs_of(response, RECOMMENDED)
        texts = _wire.strings(KEYPHRASES, raw[KEYPHRASES][1])
        scores = struct.unpack(f"<{len(texts)}f", raw[KEYPHRASE_SCORES][1])
        if not all(-1.0 <= score <= 1.0 for score in scores):
            raise ValueError(f"{KEYPHRASE_SCORES} {scores} is not in [-1, 1]")
        (version,) = struct.unpack("<q", raw[RETRIEVER_VERSION][1])
        found = tuple(Keyphrase(text, score) for text, score in zip(texts, scores, strict=True))
        return Recommendation(request_id, found, version, latency_s, channel, fallback_from)
