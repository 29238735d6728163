# SPDX-License-Identifier: Apache-2.0
"""The first step: everything is checked here, and only here is a request refused.

A malformed tensor that reaches several steps of an ensemble at once can take the server down, so one model
without dynamic batching takes the raw request alone. Whatever passes is well-formed for all that follows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from quorum.contract import (
    ATTRIBUTES,
    CANARY_SHARE,
    CATEGORY,
    MAX_ATTRIBUTE_BYTES,
    MAX_CATEGORY_BYTES,
    MAX_TEXT_BYTES,
    QUESTION,
    TEXT,
    InvalidRequest,
    check_attributes,
    check_text,
    decode,
)
from quorum.serving.admission import Admission, default_path
from quorum.serving.packing import Admitted, pack_question
from quorum.serving.tensors import answer, packed_tensor, raw, settings_of, tensor

_MAX_MESSAGE = 500


class TritonPythonModel:
    """``quorum_gate``: raw request in; the checked question with deadline and ticket out."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the limits and open the shared tickets."""
        settings = settings_of(args)
        self._limit = int(settings["max_in_flight"])
        self._default_timeout_ns = int(settings["timeout_s"] * 1e9)
        self._max_timeout_ns = int(settings["max_timeout_s"] * 1e9)
        self._canary_share = float(settings["canary_share"])
        self._admission = Admission(default_path())
        self._admission.open_gate()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Admit or refuse each request."""
        return [self._admit(request) for request in requests]

    def _admit(self, request: Any) -> Any:
        try:
            text = _one(request, TEXT, MAX_TEXT_BYTES)
            category = _one(request, CATEGORY, MAX_CATEGORY_BYTES)
            attributes = [
                decode(e, ATTRIBUTES, MAX_ATTRIBUTE_BYTES) for e in raw(request, ATTRIBUTES).reshape(-1)
            ]
            check_text(text)
            check_attributes(attributes)
        except InvalidRequest as error:
            return _refuse(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            return _refuse(f"unreadable request: {error}", pb_utils.TritonError.INVALID_ARG)
        if self._admission.is_closed:
            return _refuse("the server is stopping; ask another one", pb_utils.TritonError.UNAVAILABLE)
        now = time.monotonic_ns()
        timeout = int(request.timeout()) * 1000 or self._default_timeout_ns
        deadline = now + min(timeout, self._max_timeout_ns)
        seal = self._admission.seal(text, category, attributes, deadline)
        ticket = self._admission.claim(self._limit, now, deadline, seal)
        if ticket is None:
            message = f"{self._limit} requests are being answered; retry later, or raise gate.max_in_flight"
            return _refuse(message, pb_utils.TritonError.UNAVAILABLE)
        return answer(
            packed_tensor(QUESTION, pack_question(Admitted(text, category, attributes, deadline, ticket))),
            tensor(CANARY_SHARE, [self._canary_share], np.float64),
        )


def _one(request: Any, name: str, limit: int) -> str:
    elements = raw(request, name).reshape(-1)
    if len(elements) != 1:
        raise InvalidRequest(f"{name}: {len(elements)} elements, expected 1; send one product a request")
    return decode(elements[0], name, limit)


def _refuse(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message[:_MAX_MESSAGE], code))
