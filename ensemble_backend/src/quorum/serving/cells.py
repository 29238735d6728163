# SPDX-License-Identifier: Apache-2.0
"""Read the cells of a request: what decides each attribute, and which attributes are still open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from quorum.decision.answer_kinds import AnswerKinds, form_of, kind_in, parameters_for
from quorum.decision.cell import Parameters
from quorum.decision.evidence import Evidence, TextEvidence
from quorum.decision.forms import Form
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
from quorum.decision.stopping import confidence_at_hand, early_stop, stopping_of
from quorum.decision.weights import Weights
from quorum.serving.packing import Admitted, PackedVote


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


class Cells:
    """How one version of the weights decides the attributes of this deployment."""

    def __init__(
        self, weights: Weights, evidence: Evidence | None, kinds: AnswerKinds, flip_risk: float = 0.0
    ) -> None:
        """Decide by weights.

        Args:
            weights: Fitted to the catalogue.
            evidence: Of the weights; None: texts do not count.
            kinds: Of the catalogue's attributes.
            flip_risk: Of lazy channels (:class:`quorum.deployment.lazy.LazySpec`).
        """
        self.weights, self.evidence, self.kinds = weights, evidence, kinds
        # Callers may ask for any attributes.
        self._stopping = lru_cache(maxsize=1024)(partial(stopping_of, weights))
        self._early = lru_cache(maxsize=1024)(partial(early_stop, weights, risk=flip_risk))

    def of(self, question: Admitted, votes: Sequence[PackedVote | None]) -> Iterator[Cell]:
        """Yield the cell of each attribute; ``votes`` are one member's after the other's."""
        step, category = len(question.attributes), question.category
        ballots = [None if vote is None else (vote[0], vote[1]) for vote in votes]
        scores = [None if vote is None else vote[2] for vote in votes]
        text = self.evidence.of(question.text) if self.evidence else None
        for at, name in enumerate(question.attributes):
            kind = kind_in(self.kinds, name)
            parameters = parameters_for(self.weights, name, category, kind)
            yield Cell(parameters, ballots[at::step], scores[at::step], text, form_of(kind), question.text)

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
            if at in among and not is_settled(rule, *cell, early=self._early(name))
        ]

    def confidence_at_hand(self, attribute: str, cell: Cell, confidence: float) -> float:
        """The confidence of a decision by some members' votes, calibrated for how many were asked."""
        if cell.form != "one" or not confidence:
            return confidence
        return confidence_at_hand(self._stopping(attribute), cell.ballots, confidence)
