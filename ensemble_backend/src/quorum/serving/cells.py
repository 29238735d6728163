# SPDX-License-Identifier: Apache-2.0
"""Read the cells of a request: what decides each attribute, and which attributes are still open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from quorum.decision.answer_kinds import AnswerKinds, form_of, kind_in, parameters_for
from quorum.decision.cell import Parameters
from quorum.decision.evidence import Evidence, TextEvidence
from quorum.decision.forms import Form
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
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


@dataclass(frozen=True, slots=True)
class Cells:
    """How one version of the weights decides the attributes of this deployment.

    Attributes:
        weights: Fitted to the catalogue.
        evidence: Of the weights; None: texts do not count.
        kinds: Of the catalogue's attributes.
    """

    weights: Weights
    evidence: Evidence | None
    kinds: AnswerKinds

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
        cells = enumerate(self.of(question, votes))
        return [at for at, cell in cells if at in among and not is_settled(rule, *cell)]
