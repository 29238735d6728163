# SPDX-License-Identifier: Apache-2.0
"""Read the cells of a request: what decides each attribute, and which attributes are still open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from quorum.decision.answer_kinds import AnswerKinds, form_of, kind_in, parameters_for
from quorum.decision.cell import Parameters
from quorum.decision.evidence import Evidence, TextEvidence
from quorum.decision.forms import Form, decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
from quorum.decision.stopping import EarlyStop, Stopping, confidence_at_hand, stopping_of
from quorum.decision.weights import Weights
from quorum.serving.packing import Admitted, PackedVote
from quorum_contract import DecisionStatus

_NAMES = 1024
"""Names of attributes that are remembered; callers may ask for any."""


class Cell(NamedTuple):
    """Arguments of :func:`quorum.decision.forms.decide` after the rule, and of ``is_settled``.

    Attributes:
        ballots: Per member: (value, status), or None if it has not been asked yet.
        scores: Per member.
    """

    parameters: Parameters
    ballots: Sequence[Any]
    scores: Sequence[float | None]
    evidence: TextEvidence | None
    form: Form
    text: str


@dataclass(frozen=True, slots=True)
class Cells:
    """How one version of the weights decides the attributes of this deployment.

    Attributes:
        weights: Fitted to the catalogue.
        evidence: Of the weights; None: texts do not count.
        kinds: Of the catalogue's attributes.
        flip_risk: Highest share of answers that may differ from those of all members; 0: none does.
        stops: Attribute -> what the weights know about stopping early, and when to stop; filled as asked for.
        rules: Attribute and category -> parameters, and how votes combine; likewise.
    """

    weights: Weights
    evidence: Evidence | None
    kinds: AnswerKinds
    flip_risk: float = 0.0
    stops: dict[str, tuple[Stopping | None, EarlyStop | None]] = field(default_factory=dict)
    rules: dict[tuple[str, str], tuple[Parameters, Form]] = field(default_factory=dict)

    def of(self, question: Admitted, votes: Sequence[PackedVote | None]) -> Iterator[Cell]:
        """Yield the cell of each attribute; ``votes`` are one member's after the other's."""
        step, category = len(question.attributes), question.category
        ballots = [None if vote is None else (vote[0], vote[1]) for vote in votes]
        scores = [None if vote is None else vote[2] for vote in votes]
        text = self.evidence.of(question.text) if self.evidence else None
        for at, name in enumerate(question.attributes):
            parameters, form = self.rules.get((name, category)) or self._rule(name, category)
            yield Cell(parameters, ballots[at::step], scores[at::step], text, form, question.text)

    def still_open(
        self,
        rule: QuorumRule,
        question: Admitted,
        votes: Sequence[PackedVote | None],
        among: Sequence[int],
    ) -> list[int]:
        """Positions, of those in ``among``, whose decision the members not asked yet could change."""
        cells = zip(question.attributes, self.of(question, votes), strict=True)
        return [
            at
            for at, (name, cell) in enumerate(cells)
            if at in among and not is_settled(rule, *cell, early=self._stop(name)[1])
        ]

    def decide(
        self,
        rule: QuorumRule,
        question: Admitted,
        votes: Sequence[PackedVote],
        asked: Sequence[int] | None = None,
    ) -> Iterator[tuple[str, float, DecisionStatus]]:
        """Yield the decision on each attribute.

        Args:
            rule: Of the deployment.
            question: As asked.
            votes: One member's after the other's.
            asked: Per attribute, the number of members that were asked, where that was done in rows:
                confidence by the votes of some is put on the scale of all votes. None: all were.
        """
        members = len(self.weights.members)
        counts = [members] * len(question.attributes) if asked is None else asked
        cells = zip(question.attributes, counts, self.of(question, votes), strict=True)
        for name, count, cell in cells:
            value, confidence, status = decide(rule, *cell)
            if value and count < members:
                confidence = confidence_at_hand(self._stop(name)[0], count, members, confidence)
            yield value, confidence, status

    def _rule(self, name: str, category: str) -> tuple[Parameters, Form]:
        kind = kind_in(self.kinds, name)
        found = parameters_for(self.weights, name, category, kind), form_of(kind)
        if len(self.rules) < _NAMES:
            self.rules[name, category] = found
        return found

    def _stop(self, name: str) -> tuple[Stopping | None, EarlyStop | None]:
        found = self.stops.get(name)
        if found is None:
            stopping = stopping_of(self.weights, name)
            found = stopping, stopping.at_risk(self.flip_risk) if stopping and self.flip_risk else None
            if len(self.stops) < _NAMES:
                self.stops[name] = found
        return found
