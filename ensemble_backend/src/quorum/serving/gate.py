# SPDX-License-Identifier: Apache-2.0
"""Check, admit or refuse requests; the first step, and the only one that refuses.

A malformed tensor that reaches several steps of an ensemble at once can take the server down, so this model,
without dynamic batching, is the only one to take raw requests. Later steps get well-formed input.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from quorum.serving.admission import own_admission
from quorum.serving.gate_counts import PROBE, GateCounts, channel_of, question_of
from quorum.serving.log import limit_repeats, log_as
from quorum.serving.open_question import pack_open, rows_in
from quorum.serving.packing import Admitted, add_ticket, pack_question
from quorum.serving.regions import make_private
from quorum.serving.requests import deadline_of, priority_of, refuse, single
from quorum.serving.spans import traced_gate
from quorum.serving.tensors import answer, packed_tensor, settings_of
from quorum.serving.tracing import Tracing, open_tracing
from quorum_contract import (
    ATTRIBUTES,
    BULK,
    CANARY_SHARE,
    CANCEL,
    CATEGORY,
    GATE,
    INTERACTIVE,
    TEXT,
)
from quorum_contract.checks import decode_attributes, decode_category, decode_text
from quorum_contract.errors import Cancelled, InvalidRequest, Overloaded, RequestError, Unavailable
from quorum_contract.names import PROBE_TEXT
from quorum_contract.priority import Priority


class TritonPythonModel:
    """``quorum_gate``: turns a raw request into the checked question with deadline and ticket."""

    _tracing: Tracing | None = None

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the limits and open the shared tickets."""
        make_private()
        limit_repeats()
        log_as(GATE)
        settings = settings_of(args)
        self._limit = int(settings["max_in_flight"])
        self._bulk_limit = int(settings["max_bulk_in_flight"])
        self._timeouts_s = float(settings["timeout_s"]), float(settings["max_timeout_s"])
        self._share = np.array([settings["canary_share"]], np.float64)
        self._admission = own_admission()
        self._admission.open_gate()
        self._counts = GateCounts()
        self._tracing = open_tracing()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Admit or refuse each request."""
        tracing = self._tracing
        if tracing is None:
            return [self._admit(request) for request in requests]
        return [traced_gate(tracing, request, self._admit) for request in requests]

    def finalize(self) -> None:
        """Send the spans that wait."""
        if self._tracing is not None:
            self._tracing.close()

    def _admit(self, request: Any) -> Any:
        # A server with more requests than it can answer spends no time on reading those that it refuses.
        now = time.monotonic_ns()
        requested = request.requested_output_names()
        rows = rows_in(requested)
        question = question_of(requested)
        channel = channel_of(question, rows)
        try:
            parameters = request.parameters()
            # Also while the server is full or stopping: it makes room.
            if CANCEL in parameters:
                return self._cancel(json.loads(parameters).get(CANCEL), now)
            if self._admission.is_full(self._limit, now):
                return self._full(channel)
            priority = priority_of(parameters)
            if priority == BULK and self._admission.inside(now) >= self._bulk_limit:
                return self._full(channel, BULK)
            text, category, attributes = _checked(request)
        except InvalidRequest as error:
            return self._refuse(channel, error)
        except Exception as error:
            return self._refuse(channel, InvalidRequest(f"unreadable request: {error}"))
        if self._admission.is_closed:
            return self._refuse(channel, Unavailable("the server is stopping; ask another one"))
        deadline = deadline_of(request, *self._timeouts_s, now)
        body = pack_question(Admitted(text, category, attributes, deadline))
        seal, request_id = self._admission.seal(body), request.request_id()
        counted = PROBE if text == PROBE_TEXT else channel
        ticket = self._admission.claim(self._limit, now, deadline, seal, request_id, counted)
        if ticket is None:
            return self._full(channel)
        self._counts.admitted(counted, priority)
        return answer(
            packed_tensor(question, add_ticket(ticket, body)),
            pb_utils.Tensor(CANARY_SHARE, self._share),
            *(
                packed_tensor(name, pack_open(range(len(attributes)), deadline, now, left))
                for name, left in rows.items()
            ),
        )

    def _cancel(self, request_id: object, now_ns: int) -> Any:
        if not isinstance(request_id, str) or not request_id:
            return refuse(
                InvalidRequest(f"{CANCEL}: {request_id!r:.100}; send the id of a request as a string")
            )
        if count := self._admission.cancel(request_id, now_ns):
            self._counts.cancelled(count)
            return refuse(Cancelled("the request with that id is cancelled"))
        return refuse(Cancelled("no request with that id is inside: it is answered, or was never admitted"))

    def _refuse(self, channel: int, error: RequestError) -> Any:
        self._counts.refused(channel, error)
        return refuse(error)

    def _full(self, channel: int, priority: Priority = INTERACTIVE) -> Any:
        limit, setting, kind = self._limit, "max_in_flight", ""
        if priority == BULK:
            limit, setting, kind = self._bulk_limit, "max_bulk_in_flight", ", so no bulk is admitted"
        message = f"{limit} requests or more are being answered{kind}; retry later, or raise gate.{setting}"
        return self._refuse(channel, Overloaded(message))


def _checked(request: Any) -> tuple[str, str, tuple[str, ...]]:
    inputs = {tensor.name(): tensor.as_numpy().ravel().tolist() for tensor in request.inputs()}
    text = decode_text(single(inputs, TEXT))
    category = decode_category(single(inputs, CATEGORY))
    return text, category, _attributes(tuple(inputs[ATTRIBUTES]))


# Callers repeat the same few sets of attributes.
_attributes = lru_cache(maxsize=256)(decode_attributes)
