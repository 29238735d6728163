# SPDX-License-Identifier: Apache-2.0
"""Decide recorded votes on attributes of any kind, and score each answer between 0 and 1.

A single value or label scores 1 if it is right. An answer of spans, or of several values, scores its F1
against the gold one: 2 common / (named + wanted), 1 where both are empty. A written text scores its mean
ROUGE-L over the references. See docs/adr/0082.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import (
    AnswerKind,
    AnswerKinds,
    form_of,
    has_one_value,
    kind_in,
    parameters_for,
)
from quorum.decision.arrays import Floats
from quorum.decision.cell import ANSWERED
from quorum.decision.forms import decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.sets import things_remembered
from quorum.decision.weights import Weights
from quorum.evaluation.kinds import KINDS
from quorum.evaluation.score import apply, is_right
from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable

_PLAIN = QuorumRule()
RIGHT = "right"
"""What a mean of scores of single values is: the share that is right."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Decisions on the cells of a table.

    Attributes:
        values: Per cell; "" where all members abstained.
        confidence: (n,) in [0, 1].
        scores: (n,) in [0, 1], see the module; 0 without gold.
    """

    values: Sequence[str]
    confidence: Floats
    scores: Floats


def decide_answers(table: VotesTable, weights: Weights, kinds: AnswerKinds) -> Answers:
    """Decide every cell as the vote model would; the members of the weights may stand in any order."""
    if weights.members != table.members:
        table = table.of_members(weights.members)
    side = apply(table, weights)
    winner = side.winner.tolist()
    values = ["" if j < 0 else cell.values[j] or "" for cell, j in zip(table.cells, winner, strict=True)]
    confidence, scores = side.confidence.astype(np.float64), is_right(table, side).astype(np.float64)
    for row in other_rows(table, kinds):
        cell = table.cells[row]
        kind = kind_in(kinds, cell.attribute)
        parameters = parameters_for(weights, cell.attribute, cell.category, kind)
        ballots = [("", 1) if value is None else (value, ANSWERED) for value in cell.values]
        form, text = form_of(kind), cell.title
        value, sure, _ = decide(
            _PLAIN, parameters, ballots, cell.scores, form=form, text=text, read=things_remembered
        )
        values[row], confidence[row], scores[row] = value, sure, answer_score(cell, value, kind)
    return Answers(values, confidence, scores)


def answer_scores(table: VotesTable, weights: Weights, kinds: AnswerKinds) -> Floats:
    """(n,) score of each decision, as of :func:`decide_answers`."""
    return decide_answers(table, weights, kinds).scores


def member_answer_scores(table: VotesTable, kinds: AnswerKinds) -> Floats:
    """(n, m) score of each member's vote; 0 for an abstention, and without gold."""
    scores = table.correct().astype(np.float64)
    for row in other_rows(table, kinds):
        cell = table.cells[row]
        kind = kind_in(kinds, cell.attribute)
        scores[row] = [answer_score(cell, value, kind) for value in cell.values]
    return scores


def answer_score(cell: Cell, value: str | None, kind: AnswerKind) -> float:
    """Score of an answer to a cell, see the module; 0 for none, and without gold."""
    if not value or not cell.gold:
        return 0.0
    return KINDS[kind].score(cell, value)


def agreement_of(
    value: str | None, votes: Iterable[str | None], kind: AnswerKind = "value", text: str = ""
) -> float:
    """Mean likeness of an answer to the votes cast, in [0, 1]; 0 when there are none.

    Of single values the share of the votes that name it; of sets the F1; of texts the similarity by which
    they are chosen.
    """
    cast = [vote for vote in votes if vote is not None]
    if not value or not cast:
        return 0.0
    return KINDS[kind].agreement(value, cast, text)


def unit_of(table: VotesTable, kinds: AnswerKinds) -> str:
    """What a mean of scores over labelled cells is, for people: the share right, or a mean of a mix."""
    groups = np.unique(table.groups[table.labelled]).tolist()
    present = {kind_in(kinds, table.group_names[group][1]) for group in groups}
    if all(map(has_one_value, present)):
        return RIGHT
    units = dict.fromkeys(known.unit for kind, known in KINDS.items() if kind in present)
    return f"mean score ({', '.join(units)})"


def other_rows(table: VotesTable, kinds: AnswerKinds) -> list[int]:
    """Rows of the cells that no single value answers."""
    others = [not has_one_value(kind_in(kinds, name)) for _, name in table.group_names]
    return np.flatnonzero(np.array(others, np.bool_)[table.groups]).tolist() if any(others) else []


def is_single(table: VotesTable, kinds: AnswerKinds) -> npt.NDArray[np.bool_]:
    """(n,) whether a cell is answered by a single value or label."""
    single = np.ones(len(table), np.bool_)
    single[other_rows(table, kinds)] = False
    return single


def is_written(table: VotesTable, kinds: AnswerKinds) -> npt.NDArray[np.bool_]:
    """(n,) whether a cell is answered by a written text."""
    written = [kind_in(kinds, name) == "text" for _, name in table.group_names]
    return np.asarray(np.array(written, np.bool_)[table.groups])
