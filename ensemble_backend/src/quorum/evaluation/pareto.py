# SPDX-License-Identifier: Apache-2.0
"""Set accuracy against cost: single members, votes of all, asking in turn until the answer is settled.

A member is called once for a product while an attribute is open, and a call counts whole, as lazy channels
ask by default. With ``whole_questions: false`` later ones ask for fewer attributes, and cost less than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKinds, kind_in
from quorum.decision.cell import Ballot
from quorum.decision.evidence import Evidence
from quorum.decision.lazy import order
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import Weights
from quorum.evaluation.answers import answer_score
from quorum.evaluation.costs import asking_costs
from quorum.evaluation.in_turn import OpenCell, open_cell
from quorum.records import Record
from quorum.votes.table import VotesTable
from quorum_contract import DecisionStatus, Status

SURE = (0.6, 0.7, 0.8, 0.9)
"""Confidence in the first member's answer alone from which a cascade keeps it."""
MOST_CELLS = 20_000
"""More cells than these are not asked in turn: a sample of the products is."""
_PLAIN = QuorumRule()
_NOT_ASKED: Ballot = ("", int(Status.NOT_ASKED))


@dataclass(frozen=True, slots=True)
class CostRow(Record):
    """One way to answer, of held-out cells.

    Attributes:
        name: For people.
        accuracy: Share of labelled cells that are right, or their mean score, in [0, 1].
        calls: Calls of members per answer about a product.
        cost: Of a thousand answers.
        is_pareto: Whether no other way is both as cheap and as accurate, and better in one of the two.
    """

    name: str
    accuracy: float
    calls: float
    cost: float
    is_pareto: bool = False


@dataclass(frozen=True, slots=True)
class CostTable(Record):
    """Ways to answer by falling cost, and the mean cost of a call of each member."""

    rows: tuple[CostRow, ...]
    per_call: Mapping[str, float]


def compare_costs(
    table: VotesTable,
    fold: npt.NDArray[np.int64],
    learned: Sequence[Weights],
    costs: Mapping[str, float],
    singles: Mapping[str, float],
    votes: Mapping[str, float],
    kinds: AnswerKinds | None = None,
    rule: QuorumRule | None = None,
) -> CostTable:
    """Compare ways to answer by accuracy and cost.

    Args:
        table: Votes with gold.
        fold: (n,) fold of each cell.
        learned: Weights of each fold, which did not see its gold.
        costs: Member -> cost of a call.
        singles: Member -> its accuracy alone.
        votes: Name -> accuracy of votes of all members; those by ``learned`` stand last.
        kinds: Kinds of the attributes; None: all have single values.
        rule: Quorum; None: one answer is enough. It says when asking may end; accuracies are those of the
            answers, also of those that it withholds.
    """
    quorum = rule or _PLAIN
    per_call = [costs[name] for name in table.members]
    everyone = 1e3 * sum(per_call)
    rows = [CostRow(name, right, 1.0, 1e3 * costs[name]) for name, right in singles.items()]
    rows += [CostRow(name, right, len(per_call), everyone) for name, right in votes.items()]
    best, known = list(votes)[-1], kinds or {}
    products = list(_products(table, fold, learned, known))
    paid = asking_costs(table.members, costs)
    turns = [(cells, order(weights.default.weights, paid)) for weights, cells in products]
    asked = _mean_calls(
        (turn[: max(cell.questions(quorum, turn) for cell in cells)] for cells, turn in turns), per_call
    )
    rows.append(CostRow(f"{best}, in turn until settled", votes[best], *asked))
    first = min(range(len(per_call)), key=lambda j: (per_call[j], -singles[table.members[j]]))
    for sure in SURE:
        right: list[float] = []
        asked = _mean_calls(
            (_cascade(cells, first, sure, right, known, quorum) for _, cells in products), per_call
        )
        name = f"{table.members[first]} if {sure:.0%} sure, else {best}"
        # One that is never sure enough is the vote of all.
        if asked[0] < len(per_call):
            rows.append(CostRow(name, float(np.mean(right)), *asked))
    return CostTable(tuple(_marked(rows)), dict(costs))


def _products(
    table: VotesTable, fold: npt.NDArray[np.int64], learned: Sequence[Weights], kinds: AnswerKinds
) -> Iterable[tuple[Weights, list[OpenCell]]]:
    """The cells of each product with gold, or of a sample of these, with the weights of its fold."""
    of_product: dict[int, list[int]] = {}
    with_gold = set(table.products[table.labelled].tolist())
    for row, product in enumerate(table.products.tolist()):
        if product in with_gold:
            of_product.setdefault(product, []).append(row)
    evidence = [Evidence(weights.evidence) if weights.evidence else None for weights in learned]
    left = MOST_CELLS
    for product in np.random.default_rng(0).permutation(sorted(of_product)).tolist():
        rows = of_product[product]
        if (left := left - len(rows)) < 0:
            return
        part = int(fold[rows[0]])
        yield learned[part], [open_cell(table, row, learned[part], evidence[part], kinds) for row in rows]


def _cascade(
    cells: Sequence[OpenCell],
    first: int,
    sure: float,
    right: list[float],
    kinds: AnswerKinds,
    rule: QuorumRule,
) -> list[int]:
    """The members that are asked where the first one's answers are kept if they are sure; fills ``right``."""
    is_enough = True
    for cell in cells:
        ballots = cell.ballots()
        alone = [ballot if member == first else _NOT_ASKED for member, ballot in enumerate(ballots)]
        value, confidence, status = cell.decide(rule, alone)
        if cell.form != "one" or confidence < sure or status == DecisionStatus.NO_QUORUM:
            is_enough = False
            value, _, _ = cell.decide(_PLAIN, ballots)
        if cell.cell.gold:
            right.append(answer_score(cell.cell, value, kind_in(kinds, cell.cell.attribute)))
    return [first] if is_enough else list(range(len(cells[0].cell.values)))


def _mean_calls(asked: Iterable[Sequence[int]], per_call: Sequence[float]) -> tuple[float, float]:
    """Mean calls per answer, and the cost of a thousand answers."""
    counts = np.zeros(len(per_call))
    answers = 0
    for members in asked:
        answers += 1
        counts[list(members)] += 1
    shares = counts / max(1, answers)
    return float(shares.sum()), 1e3 * float(shares @ np.array(per_call))


def _marked(rows: Sequence[CostRow]) -> list[CostRow]:
    """The rows by cost, with those on the Pareto front marked."""
    found = sorted(rows, key=lambda row: (row.cost, -row.accuracy))
    return [replace(row, is_pareto=not any(_is_better(other, row) for other in found)) for row in found]


def _is_better(one: CostRow, other: CostRow) -> bool:
    if one.cost > other.cost or one.accuracy < other.accuracy:
        return False
    return one.cost < other.cost or one.accuracy > other.accuracy
