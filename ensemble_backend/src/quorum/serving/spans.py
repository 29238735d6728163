# SPDX-License-Identifier: Apache-2.0
"""Say what gate, members and vote did with a request, as attributes of their spans.

They are read from the requests and responses of those that are traced, so that the steps do no work for
others. No attribute holds a text or a value of a product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from quorum.serving.gate_counts import COUNTED, channel_of, question_of
from quorum.serving.open_question import rows_in, unpack_open
from quorum.serving.packing import Admitted, take_ticket, unpack_answer, unpack_question
from quorum.serving.requests import priority_of
from quorum.serving.tensors import packed_inputs
from quorum.serving.tracing import Attributes, Tracing
from quorum_contract import (
    ATTRIBUTES,
    CONFIDENCE,
    COST,
    DECISION_STATUS,
    MAX_ATTRIBUTES,
    QUESTION,
    TEXT,
    WEIGHTS_VERSION,
    DecisionStatus,
    Price,
    Status,
)
from quorum_contract.errors import take_code
from quorum_contract.names import PROBE_TEXT

GATE_SPAN, VOTE_SPAN, SETTLE_SPAN = "gate", "vote", "settle"
Record = Callable[[int, bytes], None]
"""Takes the position of a member in its model, and its packed votes."""


def traced_gate(tracing: Tracing, request: Any, admit: Callable[[Any], Any]) -> Any:
    """The gate's response to a request; a refusal is an error of its span."""
    begun = tracing.begin(request)
    response = admit(request)

    def attributes() -> tuple[Attributes, str]:
        requested = request.requested_output_names()
        given: dict[str, Any] = {
            "quorum.channel": COUNTED[channel_of(question_of(requested), rows_in(requested))]
        }
        if response.has_error():
            message, code = take_code(response.error().message())
            return {**given, "quorum.outcome": (code or "FAILED").lower()}, message
        given["quorum.outcome"] = "admitted"
        given["quorum.priority"] = priority_of(request.parameters())
        inputs = {tensor.name(): tensor.as_numpy().ravel() for tensor in request.inputs()}
        given["quorum.attributes.count"] = inputs[ATTRIBUTES].size
        given["quorum.probe"] = inputs[TEXT].tolist() == [PROBE_TEXT.encode()]
        return given, ""

    tracing.end(begun, GATE_SPAN, attributes)
    return response


def traced_member(tracing: Tracing, request: Any, names: list[str]) -> Record:
    """Begin the spans of a model's members; the function that it returns ends that of one of them."""
    begun = tracing.begin(request)
    if begun.parent is None:
        return _record_nothing
    prices = tracing.settings.prices if tracing.settings else {}
    asked = _asked(request)

    def record(position: int, votes: bytes) -> None:
        name = names[position]
        tracing.end(begun, f"member {name}", lambda: _of_votes(name, asked, votes, prices.get(name)))

    return record


def traced_vote(tracing: Tracing, request: Any, respond: Callable[[Any], Any]) -> Any:
    """The vote's response to a request."""
    begun = tracing.begin(request)
    asked = _asked(request) if begun.parent is not None else _UNREADABLE
    response = respond(request)

    def attributes() -> tuple[Attributes, str]:
        if response.has_error():
            return _of_question(asked), take_code(response.error().message())[0]
        outputs = {tensor.name(): tensor.as_numpy().ravel().tolist() for tensor in response.output_tensors()}
        if outputs.keys() >= VOTE_TENSORS:
            return _of_decision(asked, outputs), ""
        opened = [unpack_open(bytes(outputs[name]), MAX_ATTRIBUTES).positions for name in rows_in(outputs)]
        names = [asked.attributes[at] for row in opened for at in row]
        return {**_of_question(asked), "quorum.open": names}, ""

    requested = rows_in(request.requested_output_names())
    tracing.end(begun, SETTLE_SPAN if requested else VOTE_SPAN, attributes)
    return response


VOTE_TENSORS = frozenset({WEIGHTS_VERSION, DECISION_STATUS, CONFIDENCE, COST})


def _record_nothing(position: int, votes: bytes) -> None:
    """Of a request that is not traced."""


_UNREADABLE = Admitted("", "", (), 0)


def _asked(request: Any) -> Admitted:
    """The question that a step is asked."""
    try:
        return unpack_question(take_ticket(packed_inputs(request)[QUESTION]).body)
    except (KeyError, ValueError):
        return _UNREADABLE


def _of_question(asked: Admitted) -> Attributes:
    return {"quorum.attributes": asked.attributes, "quorum.probe": asked.text == PROBE_TEXT}


def _of_votes(name: str, asked: Admitted, packed: bytes, price: Price | None) -> tuple[Attributes, str]:
    votes, spent, _ = unpack_answer(packed)
    statuses = [_named(status) for _, status, _ in votes]
    given: dict[str, Any] = {
        **_of_question(asked),
        "quorum.member": name,
        "quorum.vote.status": statuses,
        "quorum.vote.score": [math.nan if score is None else score for _, _, score in votes],
        "quorum.abstains": Status.ANSWERED.name not in statuses,
        "quorum.calls": int(spent.calls),
    }
    cost = 0.0 if not spent.calls else price and price.of(spent)
    figures: Mapping[str, float | None] = {
        "gen_ai.usage.input_tokens": spent.prompt_tokens,
        "gen_ai.usage.output_tokens": spent.answer_tokens,
        "quorum.cached_tokens": spent.cached_tokens,
        "quorum.work_seconds": spent.seconds,
        "quorum.cost": cost,
    }
    # What is not known has no attribute.
    given |= {key: figure for key, figure in figures.items() if figure is not None and figure == figure}
    # A probe lets no member answer in time.
    failed = [status for status in statuses if status in _FAILURES and asked.text != PROBE_TEXT]
    return given, f"{name}: {failed[0]}" if failed else ""


_FAILURES = frozenset({Status.ERROR.name, Status.TIMEOUT.name, Status.UNPARSABLE.name})
"""Statuses that are errors of a span; the other abstentions are as wanted."""


def _of_decision(asked: Admitted, outputs: Mapping[str, list[Any]]) -> Attributes:
    given: dict[str, Any] = {
        **_of_question(asked),
        "quorum.weights_version": outputs[WEIGHTS_VERSION][0],
        "quorum.decision.status": [DecisionStatus(code).name for code in outputs[DECISION_STATUS]],
        "quorum.decision.confidence": outputs[CONFIDENCE],
    }
    (cost,) = outputs[COST]
    return given if math.isnan(cost) else {**given, "quorum.cost": cost}


def _named(status: int) -> str:
    try:
        return Status(status).name
    except ValueError:
        return str(status)
