# SPDX-License-Identifier: Apache-2.0
"""Decide a request by the version's ``weights.json``, or say which of its attributes are still open.

It is the last step of every channel, and in lazy channels also the step between two rows of members: one that
is asked for an ``OPEN`` tensor alone only says which attributes the remaining votes could change.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils

from quorum.decision import weights as weights_file
from quorum.decision.evidence import Evidence
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import WEIGHTS_FILE, WeightsError
from quorum.serving import tensors
from quorum.serving.admission import own_admission
from quorum.serving.cells import Cells
from quorum.serving.gate_counts import PROBE
from quorum.serving.log import limit_repeats, log_as
from quorum.serving.open_question import pack_open, rows_in, unpack_open
from quorum.serving.packing import (
    Admitted,
    PackedAnswer,
    PackedVote,
    take_ticket,
    unpack_answer,
    unpack_question,
)
from quorum.serving.regions import make_private
from quorum.serving.spans import traced_vote
from quorum.serving.tracing import Tracing, open_tracing
from quorum.serving.vote_counts import CANCELLED, FAILED, REFUSED, Answered, VoteCounts, try_to_count
from quorum.tasks.catalogue import Catalogue
from quorum_contract import (
    CONFIDENCE,
    COST,
    DECISION_STATUS,
    MEMBER_SCORES,
    MEMBER_STATUS,
    MEMBER_USAGE,
    MEMBER_VALUES,
    MEMBERS,
    OPEN,
    QUESTION,
    VALUES,
    VOTE,
    VOTES,
    WEIGHTS_VERSION,
    DecisionStatus,
    Price,
    Spent,
    Status,
)
from quorum_contract.usage import CALLED, NOTHING

logger = logging.getLogger(__name__)

Decision = tuple[str, float, DecisionStatus]
_UNDECIDED = ("", 0.0, DecisionStatus.NO_ANSWER)
_UNKNOWN = CALLED._replace(calls=math.nan)


class _Read(NamedTuple):
    """What a request brings to the vote.

    Attributes:
        votes: One member's after the other's.
        spent: What each member took.
        asked: How many members were asked each attribute.
        left_out: Members that a lazy channel did not ask everything, with the number of attributes; None
            where the ticket is not valid.
    """

    votes: list[PackedVote]
    spent: list[Spent]
    asked: list[int]
    left_out: list[tuple[int, int]] | None


class TritonPythonModel:
    """``quorum_vote``: every member's votes in; decision, confidence and the votes out."""

    _tracing: Tracing | None = None

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load this version's weights.

        If one version fails to load, Triton gives up the whole model, and at its start the whole server.
        Until the server has answered a request, a damaged version therefore loads without weights, and
        responds to requests with an error that says what is wrong. Later its load fails with that error,
        and the versions already loaded go on serving.
        """
        make_private()
        limit_repeats()
        log_as(VOTE)
        settings = tensors.settings_of(args)
        self._members: list[str] = settings["members"]
        self._names = np.array([name.encode("utf-8") for name in self._members], dtype=object)
        self._inputs = [f"{name}_{VOTES}" for name in self._members]
        self._direct = bool(settings["allow_direct"])
        # A repository that an earlier release rendered has no such settings.
        self._quorum = QuorumRule(int(settings.get("min_members", 1)), float(settings.get("min_weight", 0.0)))
        self._whole = bool(settings.get("whole_questions", False))
        prices = settings.get("prices", [None] * len(self._members))
        self._prices = [None if price is None else Price(**price) for price in prices]
        self._version = int(args["model_version"])
        path = Path(args["model_repository"]) / args["model_version"] / WEIGHTS_FILE
        self._admission = own_admission()
        self._damage: WeightsError | None = None
        attributes: Iterable[str] = ()
        try:
            weights, catalogue = weights_file.load(path), Catalogue.load(tensors.catalogue_path(args))
            attributes = catalogue.attributes
            kinds, hashes = catalogue.answer_kinds(), catalogue.hashes
            if change := weights.check_fits(self._members, hashes, catalogue.hash, kinds):
                logger.warning("vote: version %d: %s", self._version, change)
            fitted = weights.fitted(hashes)
            evidence = Evidence(fitted.evidence) if fitted.evidence else None
            self._cells = Cells(fitted, evidence, kinds, float(settings.get("flip_risk", 0.0)))
        # Any exception: with one that is not caught, no version of the vote would load.
        except Exception as error:
            if self._admission.has_answered:
                raise
            self._damage = WeightsError(f"weights version {self._version} is damaged: {error}")
            logger.exception("vote: a damaged version is loaded without weights")
        self._counts = VoteCounts(self._members, attributes, self._version)
        self._tracing = open_tracing()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Decide each request, or settle it; unreadable votes count as abstentions."""
        tracing = self._tracing
        if tracing is None:
            return [self._answer_or_settle(request) for request in requests]
        return [traced_vote(tracing, request, self._answer_or_settle) for request in requests]

    def finalize(self) -> None:
        """Write down what was counted, and send the spans that wait."""
        self._counts.close()
        if self._tracing is not None:
            self._tracing.close()

    def _answer_or_settle(self, request: Any) -> Any:
        row = _row_of(request)
        return self._respond(request) if row is None else self._settle(request, *row)

    def _refuse(self, request: Any, damage: WeightsError) -> Any:
        ticket = take_ticket(tensors.packed_inputs(request)[QUESTION]).ticket
        self._admission.release(ticket)
        self._count_failed(self._admission.claimed(ticket))
        # Only the last step of the ensemble may respond with an error.
        return tensors.refusal(damage, pb_utils.TritonError.INTERNAL)

    def _respond(self, request: Any) -> Any:
        if self._damage:
            return self._refuse(request, self._damage)
        attributes, claimed = 1, None
        try:
            inputs = tensors.packed_inputs(request)
            ticket, body = take_ticket(inputs[QUESTION])
            question = unpack_question(body)
            attributes = max(1, len(question.attributes))
            # What it is counted as, before its slot goes to another request.
            claimed, is_lazy = self._admission.claimed(ticket), OPEN in inputs
            read = self._read(inputs, len(question.attributes), ticket, body)
            decisions = self._decide(question, read.votes, read.asked if is_lazy else None)
            response, counted = self._answer(question.attributes, decisions, read)
        except Exception:
            logger.exception("vote: could not decide a request")
            try_to_count(self._count_failed, claimed)
            unknown = [_UNKNOWN] * len(self._members)
            votes = self._abstentions(Status.ERROR, attributes)
            return self._answer((), [_UNDECIDED] * attributes, _Read(votes, unknown, [], []))[0]
        channel, claimed_ns = claimed or (2 * is_lazy, 0)
        if channel != PROBE:
            try_to_count(self._count, channel, claimed_ns, ticket, counted, read.left_out)
        return response

    def _count(
        self,
        channel: int,
        claimed_ns: int,
        ticket: int,
        answered: Answered,
        left_out: list[tuple[int, int]] | None,
    ) -> None:
        """Count an answer, or a refusal where nothing is known of what was left out."""
        if left_out is None:
            is_cancelled = self._admission.is_cancelled(ticket)
            self._counts.ended(channel, CANCELLED if is_cancelled else REFUSED)
            return
        took_s = (time.monotonic_ns() - claimed_ns) * 1e-9 if claimed_ns else math.nan
        self._counts.answered(channel, took_s, answered, left_out)

    def _count_failed(self, claimed: tuple[int, int] | None) -> None:
        self._counts.ended(claimed[0] if claimed else 0, FAILED)

    def _settle(self, request: Any, name: str, rows: int) -> Any:
        """Say what the next row is asked; all that was open before, where that is not known."""
        now, deadline, positions = time.monotonic_ns(), 0, list[int]()
        try:
            inputs = tensors.packed_inputs(request)
            ticket, body = take_ticket(inputs[QUESTION])
            question = unpack_question(body)
            deadline, positions = question.deadline_ns, [*range(len(question.attributes))]
            if OPEN in inputs:
                positions = [*unpack_open(inputs[OPEN], len(positions)).positions]
            # Without a valid ticket the next row refuses, and without weights the vote does.
            if self._damage or not self._is_valid(ticket, body):
                positions = []
            elif positions:
                votes = self._votes_so_far(inputs, len(question.attributes))
                positions = self._cells.still_open(self._quorum, question, votes, positions)
        except Exception:
            logger.exception("vote: could not settle a request")
        packed = pack_open(positions, deadline, now, rows, self._whole)
        return tensors.answer(tensors.packed_tensor(name, packed))

    def _votes_so_far(self, inputs: Mapping[str, bytes], attributes: int) -> list[PackedVote | None]:
        """The votes, one member's after the other's; None for each of a member that was not asked yet."""
        votes: list[PackedVote | None] = []
        for name in self._inputs:
            votes += _of_member(inputs[name], attributes).votes if name in inputs else [None] * attributes
        return votes

    def _is_valid(self, ticket: int, body: bytes) -> bool:
        gate = self._admission
        return self._direct or gate.is_valid(ticket, time.monotonic_ns(), gate.seal(body))

    def _decide(
        self, question: Admitted, votes: Sequence[PackedVote], asked: Sequence[int] | None = None
    ) -> list[Decision]:
        """Decide each attribute; ``votes`` are one member's after the other's, ``asked`` their number."""
        return [*self._cells.decide(self._quorum, question, votes, asked)]

    def _read(self, inputs: Mapping[str, bytes], attributes: int, ticket: int, body: bytes) -> _Read:
        """The votes of a question, or refusals where its ticket is not valid."""
        asked = [len(self._members)] * attributes
        if not self._is_valid(ticket, body):
            refused = self._abstentions(Status.REFUSED, attributes)
            # Members that were called before a request was cancelled are paid.
            parts = self._inputs if self._admission.is_cancelled(ticket) else []
            took = [_spent(inputs.get(name, b"")) for name in parts]
            return _Read(refused, took or [NOTHING] * len(self._members), asked, None)
        self._admission.release(ticket)
        self._admission.mark_answered()
        votes: list[PackedVote] = []
        spent: list[Spent] = []
        left_out: list[tuple[int, int]] = []
        for member, name in enumerate(self._inputs):
            found = _of_member(inputs[name], attributes)
            votes += found.votes
            spent.append(found.spent)
            if found.left_out:
                positions = {*found.left_out}.intersection(range(attributes))
                left_out.append((member, len(positions)))
                for at in positions:
                    asked[at] -= 1
        return _Read(votes, spent, asked, left_out)

    def _abstentions(self, status: Status, attributes: int) -> list[PackedVote]:
        return [_abstained(status)] * (attributes * len(self._members))

    def _answer(
        self, attributes: Sequence[str], decisions: Sequence[Decision], read: _Read
    ) -> tuple[Any, Answered]:
        """The response, and what is counted of it."""
        spent, votes = read.spent, read.votes
        given, abstained, scores = zip(*votes, strict=True) if votes else ((), (), ())
        shape = (len(self._members), len(decisions))
        costs = [_cost(took, price) for took, price in zip(spent, self._prices, strict=True)]
        total = math.nan if None in costs else math.fsum(filter(None, costs))
        usage = [number for took, cost in zip(spent, costs, strict=True) for number in (*took[:-1], cost)]
        answered = Answered(
            attributes,
            [value for value, _, _ in decisions],
            tensors.floats([confidence for _, confidence, _ in decisions]),
            np.array([status for _, _, status in decisions], np.int32),
            given,
            np.array(abstained, np.int32),
            tensors.floats(usage),
        )
        response = tensors.answer(
            tensors.text_tensor(VALUES, answered.values),
            pb_utils.Tensor(CONFIDENCE, answered.confidences),
            pb_utils.Tensor(MEMBERS, self._names),
            tensors.text_tensor(MEMBER_VALUES, given, shape),
            pb_utils.Tensor(MEMBER_STATUS, answered.statuses.reshape(shape)),
            tensors.floats_tensor(MEMBER_SCORES, scores, shape),
            pb_utils.Tensor(DECISION_STATUS, answered.outcomes),
            tensors.tensor(WEIGHTS_VERSION, [self._version], np.int64),
            tensors.floats_tensor(COST, [total]),
            pb_utils.Tensor(MEMBER_USAGE, answered.usage.reshape(len(spent), len(Spent._fields))),
        )
        return response, answered


def _row_of(request: Any) -> tuple[str, int] | None:
    """The one output that a step between two rows is asked for, and the rows left; None for the last step."""
    requested = request.requested_output_names()
    rows = rows_in(requested)
    return next(iter(rows.items())) if rows and len(rows) == len(requested) else None


def _of_member(packed: bytes, attributes: int) -> PackedAnswer:
    found = unpack_answer(packed)
    if len(found.votes) == attributes:
        return found
    return PackedAnswer([_abstained(Status.ERROR)] * attributes, found.spent)


def _spent(packed: bytes) -> Spent:
    """What a member's part took; nothing where it cannot be read."""
    try:
        return unpack_answer(packed).spent
    except ValueError:
        return NOTHING


def _cost(spent: Spent, price: Price | None) -> float | None:
    """What a member's part cost: not known where it was called and has no price."""
    if price is None:
        return None if spent.calls else 0.0
    return price.of(spent)


def _abstained(status: Status) -> PackedVote:
    return "", int(status), None
