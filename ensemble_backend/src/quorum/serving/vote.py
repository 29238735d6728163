# SPDX-License-Identifier: Apache-2.0
"""Decide a request: the last step, which weighs the votes by its version's ``weights.json``."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from quorum.decision import weights as weights_file
from quorum.decision.answer_kinds import form_of, kind_in, parameters_for
from quorum.decision.evidence import Evidence
from quorum.decision.forms import decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import WEIGHTS_FILE, WeightsError
from quorum.serving import tensors
from quorum.serving.admission import own_admission
from quorum.serving.log import limit_repeats
from quorum.serving.packing import Admitted, PackedVote, take_ticket, unpack_answer, unpack_question
from quorum.serving.regions import make_private
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
    QUESTION,
    VALUES,
    VOTES,
    WEIGHTS_VERSION,
    DecisionStatus,
    Price,
    Spent,
    Status,
)
from quorum_contract.usage import CALLED

logger = logging.getLogger(__name__)

Decision = tuple[str, float, DecisionStatus]
_UNDECIDED = ("", 0.0, DecisionStatus.NO_ANSWER)
_UNKNOWN = CALLED._replace(calls=math.nan)


class TritonPythonModel:
    """``quorum_vote``: every member's votes in; decision, confidence and the votes out."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load this version's weights.

        If one version fails to load, Triton gives up the whole model, and at its start the whole server.
        Until the server has answered a request, a damaged version therefore loads without weights, and
        responds to requests with an error that says what is wrong. Later its load fails with that error,
        and the versions already loaded go on serving.
        """
        make_private()
        limit_repeats()
        settings = tensors.settings_of(args)
        self._members: list[str] = settings["members"]
        self._names = np.array([name.encode("utf-8") for name in self._members], dtype=object)
        self._inputs = [f"{name}_{VOTES}" for name in self._members]
        self._direct = bool(settings["allow_direct"])
        # A repository that an earlier release rendered has no such settings.
        self._quorum = QuorumRule(int(settings.get("min_members", 1)), float(settings.get("min_weight", 0.0)))
        prices = settings.get("prices", [None] * len(self._members))
        self._prices = [None if price is None else Price(**price) for price in prices]
        self._version = int(args["model_version"])
        path = Path(args["model_repository"]) / args["model_version"] / WEIGHTS_FILE
        self._admission = own_admission()
        self._damage: WeightsError | None = None
        try:
            weights, catalogue = weights_file.load(path), Catalogue.load(tensors.catalogue_path(args))
            self._kinds, hashes = catalogue.answer_kinds(), catalogue.hashes
            if change := weights.check_fits(self._members, hashes, catalogue.hash, self._kinds):
                logger.warning("vote: version %d: %s", self._version, change)
            self._weights = weights.fitted(hashes)
            self._evidence = Evidence(self._weights.evidence) if self._weights.evidence else None
        # Any exception: with one that is not caught, no version of the vote would load.
        except Exception as error:
            if self._admission.has_answered:
                raise
            self._damage = WeightsError(f"weights version {self._version} is damaged: {error}")
            logger.exception("vote: a damaged version is loaded without weights")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Decide each request; unreadable votes count as abstentions."""
        if self._damage:
            return [self._refuse(request, self._damage) for request in requests]
        return [self._respond(request) for request in requests]

    def _refuse(self, request: Any, damage: WeightsError) -> Any:
        self._admission.release(take_ticket(tensors.packed_inputs(request)[QUESTION]).ticket)
        # Only the last step of the ensemble may respond with an error.
        return tensors.refusal(damage, pb_utils.TritonError.INTERNAL)

    def _respond(self, request: Any) -> Any:
        attributes = 1
        try:
            inputs = tensors.packed_inputs(request)
            ticket, body = take_ticket(inputs[QUESTION])
            question = unpack_question(body)
            attributes = max(1, len(question.attributes))
            votes, spent = self._read(inputs, len(question.attributes), ticket, body)
            return self._answer(self._decide(question, votes), votes, spent)
        except Exception:
            logger.exception("vote: could not decide a request")
            unknown = [_UNKNOWN] * len(self._members)
            votes = self._abstentions(Status.ERROR, attributes)
            return self._answer([_UNDECIDED] * attributes, votes, unknown)

    def _decide(self, question: Admitted, votes: Sequence[PackedVote]) -> list[Decision]:
        """Decide each attribute; ``votes`` are one member's after the other's."""
        step, category = len(question.attributes), question.category
        ballots = [(value, status) for value, status, _ in votes]
        scores = [score for _, _, score in votes]
        text = self._evidence.of(question.text) if self._evidence else None
        kinds = [kind_in(self._kinds, name) for name in question.attributes]
        return [
            decide(
                self._quorum,
                parameters_for(self._weights, name, category, kind),
                ballots[at::step],
                scores[at::step],
                text,
                form_of(kind),
                question.text,
            )
            for at, (name, kind) in enumerate(zip(question.attributes, kinds, strict=True))
        ]

    def _read(
        self, inputs: Mapping[str, bytes], attributes: int, ticket: int, body: bytes
    ) -> tuple[list[PackedVote], list[Spent]]:
        """The votes, one member's after the other's, and what each member took."""
        gate = self._admission
        if not (self._direct or gate.is_valid(ticket, time.monotonic_ns(), gate.seal(body))):
            return self._abstentions(Status.REFUSED, attributes), [Spent()] * len(self._members)
        self._admission.release(ticket)
        self._admission.mark_answered()
        votes: list[PackedVote] = []
        spent: list[Spent] = []
        for name in self._inputs:
            given, took = unpack_answer(inputs[name])
            votes += given if len(given) == attributes else [_abstained(Status.ERROR)] * attributes
            spent.append(took)
        return votes, spent

    def _abstentions(self, status: Status, attributes: int) -> list[PackedVote]:
        return [_abstained(status)] * (attributes * len(self._members))

    def _answer(
        self, decisions: Sequence[Decision], votes: Sequence[PackedVote], spent: Sequence[Spent]
    ) -> Any:
        shape = (len(self._members), len(decisions))
        costs = [_cost(took, price) for took, price in zip(spent, self._prices, strict=True)]
        total = math.nan if None in costs else math.fsum(filter(None, costs))
        usage = [number for took, cost in zip(spent, costs, strict=True) for number in (*took[:-1], cost)]
        return tensors.answer(
            tensors.text_tensor(VALUES, [value for value, _, _ in decisions]),
            tensors.floats_tensor(CONFIDENCE, [confidence for _, confidence, _ in decisions]),
            pb_utils.Tensor(MEMBERS, self._names),
            tensors.text_tensor(MEMBER_VALUES, [value for value, _, _ in votes], shape),
            tensors.tensor(MEMBER_STATUS, [status for _, status, _ in votes], np.int32, shape),
            tensors.floats_tensor(MEMBER_SCORES, [score for _, _, score in votes], shape),
            tensors.tensor(DECISION_STATUS, [status for _, _, status in decisions], np.int32),
            tensors.tensor(WEIGHTS_VERSION, [self._version], np.int64),
            tensors.floats_tensor(COST, [total]),
            tensors.floats_tensor(MEMBER_USAGE, usage, (len(spent), len(Spent._fields))),
        )


def _cost(spent: Spent, price: Price | None) -> float | None:
    """What a member's part cost: not known where it was called and has no price."""
    if price is None:
        return None if spent.calls else 0.0
    return price.of(spent)


def _abstained(status: Status) -> PackedVote:
    return "", int(status), None
