# SPDX-License-Identifier: Apache-2.0
"""Count the questions about a recorded cell when members are asked one by one until it is settled.

A question is one member's about one cell; a call is one member's about all open cells of a product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quorum.decision.answer_kinds import AnswerKinds, form_of, kind_in, parameters_for
from quorum.decision.cell import Ballot, Parameters
from quorum.decision.evidence import Evidence, TextEvidence
from quorum.decision.forms import Form, decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.settle import is_settled
from quorum.decision.weights import Weights
from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable
from quorum_contract import DecisionStatus


class OpenCell(NamedTuple):
    """A recorded cell with all that decides it."""

    cell: Cell
    parameters: Parameters
    scores: Sequence[float | None]
    evidence: TextEvidence | None
    form: Form

    def ballots(self) -> list[Ballot]:
        """Per member: (value, status)."""
        return [(value or "", int(value is None)) for value in self.cell.values]

    def decide(self, rule: QuorumRule, ballots: Sequence[Ballot]) -> tuple[str, float, DecisionStatus]:
        """As :func:`quorum.decision.forms.decide`."""
        text = self.cell.title
        return decide(rule, self.parameters, ballots, self.scores, self.evidence, self.form, text)

    def questions(self, rule: QuorumRule, turn: Sequence[int]) -> int:
        """Number of members, in the order ``turn``, asked until no other can change the answer."""
        known: list[Ballot | None] = [None] * len(turn)
        ballots, text = self.ballots(), self.cell.title
        for asked, member in enumerate(turn, start=1):
            known[member] = ballots[member]
            if is_settled(rule, self.parameters, known, self.scores, self.evidence, self.form, text):
                return asked
        return len(turn)


def open_cell(
    table: VotesTable, row: int, weights: Weights, evidence: Evidence | None, kinds: AnswerKinds
) -> OpenCell:
    """A row of a table, as weights decide it; ``evidence`` is theirs, None if texts do not count."""
    cell = table.cells[row]
    kind = kind_in(kinds, cell.attribute)
    parameters = parameters_for(weights, cell.attribute, cell.category, kind)
    scores = [None if score != score else score for score in table.scores[row].tolist()]
    text = evidence.of(cell.title) if evidence else None
    return OpenCell(cell, parameters, scores if parameters.scores else (), text, form_of(kind))
