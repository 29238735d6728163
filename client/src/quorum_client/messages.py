# SPDX-License-Identifier: Apache-2.0
"""Build Triton's messages and read them, for programs that send them by a transport of their own.

Most callers want a :class:`quorum_client.Client`; a gateway, which has its own connection, wants these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quorum_client import _recommend, _wire
from quorum_client._results import Extraction, Recommendation, RecommendItem
from quorum_client.errors import RequestError
from quorum_contract import INTERACTIVE, Priority
from quorum_contract.fields import join_fields


def extract_message(
    text: str | Mapping[str, str],
    attributes: Sequence[str],
    category: str,
    *,
    channel: str,
    request_id: str,
    timeout_s: float,
    priority: Priority = INTERACTIVE,
) -> Any:
    """The ``ModelInferRequest`` for attributes of a product; members have a little less than the time.

    Raises:
        InvalidRequest: The arguments break the contract.
    """
    joined = join_fields(text) if isinstance(text, Mapping) else text
    timeout_us = _wire.server_timeout_us(timeout_s)
    return _wire.request(
        joined, attributes, category, channel=channel, request_id=request_id, timeout_us=timeout_us,
        priority=priority,
    )  # fmt: skip


def bare_message(channel: str, request_id: str, timeout_s: float, priority: object = INTERACTIVE) -> Any:
    """A ``ModelInferRequest`` without tensors.

    Raises:
        InvalidRequest: A name, id or priority that cannot be.
    """
    checked = _wire.check_priority(priority)
    return _wire.envelope(channel, request_id, _wire.server_timeout_us(timeout_s), checked)


def recommend_message(
    item: RecommendItem,
    *,
    channel: str,
    request_id: str,
    timeout_s: float,
    priority: Priority = INTERACTIVE,
) -> Any:
    """The ``ModelInferRequest`` for keyphrases of an item.

    Raises:
        InvalidRequest: The arguments break the contract.
    """
    timeout_us = _wire.server_timeout_us(timeout_s)
    return _recommend.request(
        item, channel=channel, request_id=request_id, timeout_us=timeout_us, priority=priority
    )


def read_extraction(
    response: Any,
    attributes: Sequence[str],
    request_id: str,
    latency_s: float,
    channel: str,
    fallback_from: str | None = None,
) -> Extraction:
    """Read the ``ModelInferResponse`` to :func:`extract_message`.

    Raises:
        ProtocolError: It breaks the contract.
    """
    return _wire.extraction(response, attributes, request_id, latency_s, channel, fallback_from)


def read_recommendation(
    response: Any, request_id: str, latency_s: float, channel: str, fallback_from: str | None = None
) -> Recommendation:
    """Read the ``ModelInferResponse`` to :func:`recommend_message`.

    Raises:
        ProtocolError: It breaks the contract.
    """
    return _recommend.recommendation(response, request_id, latency_s, channel, fallback_from)


def error_of(
    failure: Any, *, server: str, channel: str, timeout_s: float, request_id: str | None = None
) -> RequestError:
    """The error of this package for a ``grpc.RpcError``; ``server`` is its name in the message."""
    error = _wire.from_grpc(failure, url=server, channel=channel, timeout_s=timeout_s, request_id=request_id)
    error.__cause__ = failure
    return error
