# SPDX-License-Identifier: Apache-2.0
"""Compare, for each attribute and by the measure of its kind: best member, encoders, majority, learned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quorum.decision.answer_kinds import AnswerKind, AnswerKinds, form_of, kind_in
from quorum.decision.catalogue_change import named
from quorum.decision.forms import Form
from quorum.decision.patterns import ABSTAIN
from quorum.evaluation.kinds import KINDS
from quorum.evaluation.stats import Estimate, percentile_interval
from quorum.evaluation.task_scores import answered_share, intervals, measures
from quorum.records import Record
from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable

MAJORITY = "majority"
SINGLE_VALUES = "single values"
"""Name under which all attributes of kind "value" are measured together."""


@dataclass(frozen=True, slots=True)
class TaskRow(Record):
    """The figures of one member or method on an attribute.

    Attributes:
        role: "best member", "encoder alone", "member", "majority" or "learned".
        figures: Measure -> figure in [0, 1], with its 95 % interval over products; the headline stands first.
        to_best_member: Difference in the headline to the best member; None for that one.
        answered: Share of the cells with a vote, of a member; None for a method. It is the least that the
            share of answers that could be read can be, as a table does not say why a member abstained.
    """

    name: str
    role: str
    figures: Mapping[str, Estimate]
    to_best_member: Estimate | None
    answered: float | None

    @property
    def title(self) -> str:
        """Role and name, for people."""
        return self.name if self.role in (MAJORITY, "member") else f"{self.role}: {self.name}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, each figure with its interval."""
        figures = {
            name: {"value": found.value, "ci95": [found.low, found.high]}
            for name, found in self.figures.items()
        }
        delta = self.to_best_member
        plain = None if delta is None else {"value": delta.value, "ci95": [delta.low, delta.high]}
        return Record.to_json(self) | {"figures": figures, "to_best_member": plain}


@dataclass(frozen=True, slots=True)
class TaskResult(Record):
    """An attribute by the measures of its kind.

    Attributes:
        kind: Of its answers.
        headline: The measure that decides.
        rows: The best single member, in hindsight; then encoders, majority, learned, and the other members.
            Members that answered none of the cells are left out, if any member answered one.
        cells: Labelled cells, of ``products`` products.
    """

    kind: AnswerKind
    headline: str
    rows: Sequence[TaskRow]
    cells: int
    products: int

    def answered_in_words(self, name: str) -> str:
        """Which members answered a part of the cells of the attribute ``name`` alone; "": none."""
        # No share below 1 reads as 100.0 %.
        answered = {row.name: row.answered for row in self.rows if row.answered is not None}
        shares = {member: min(share, 0.999) for member, share in answered.items() if share < 1.0}
        if not shares:
            return ""
        (first, share), *others = shares.items()
        more = "".join(f", {member} {100 * part:.1f} %" for member, part in others)
        return (
            f"{first} answered {100 * share:.1f} % of the {self.cells} cells of {name}{more}; why "
            f"{'they' if others else 'it'} abstained on the others is not in a votes table, and these count "
            "as wrong"
        )


def task_results(
    table: VotesTable,
    kinds: AnswerKinds,
    answers: Mapping[str, Sequence[Sequence[str]]],
    learned: Mapping[Form, str],
    encoders: Collection[str] = (),
    seed: int = 0,
) -> dict[str, TaskResult]:
    """Measure every attribute that has labelled cells; those of kind "value" together.

    Args:
        table: Votes with gold.
        kinds: Kinds of the attributes.
        answers: "majority" and the names of learned methods -> per draw of labels, decisions on all cells; of
            several draws the first is measured.
        learned: Form of an answer -> the learned method that is measured.
        encoders: Members that are encoders.
        seed: Of the intervals.
    """
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero(table.labelled).tolist():
        attribute = table.cells[row].attribute
        name = SINGLE_VALUES if kind_in(kinds, attribute) == "value" else attribute
        rows.setdefault(name, []).append(row)
    found = {}
    for name, own in sorted(rows.items(), key=lambda item: item[1]):
        kind = kind_in(kinds, name)
        method = learned[form_of(kind)]
        given = {key: [answers[key][0][row] for row in own] for key in dict.fromkeys((MAJORITY, method))}
        found[name] = _result(table, own, kind, given, method, encoders, seed)
    return found


def best_member(tasks: Mapping[str, TaskResult]) -> str | None:
    """The best member by the headline of the only task; None where there are several."""
    return next(iter(tasks.values())).rows[0].name if len(tasks) == 1 else None


def of_some_attributes(table: VotesTable) -> tuple[str, ...]:
    """Say which members answered some of the attributes with gold alone, and that others count as wrong."""
    names = [table.cells[row].attribute for row in np.flatnonzero(table.labelled).tolist()]
    answered = (table.codes[table.labelled] != ABSTAIN).T.tolist()
    own = {
        member: sorted({name for name, is_answer in zip(names, column, strict=True) if is_answer})
        for member, column in zip(table.members, answered, strict=True)
    }
    some = [
        f"{member} ({named(attributes)})" for member, attributes in own.items() if attributes
        and len(attributes) < len(set(names))
    ]  # fmt: skip
    if not some:
        return ()
    note = (
        f"members that answer some attributes only: {', '.join(some)}; over all cells, and where the best "
        "single member is chosen, they count as wrong on the others"
    )
    return (note,)


def _result(
    table: VotesTable,
    rows: Sequence[int],
    kind: AnswerKind,
    answers: Mapping[str, Sequence[str]],
    learned: str,
    encoders: Collection[str],
    seed: int,
) -> TaskResult:
    cells: list[Cell] = [table.cells[row] for row in rows]
    every_share = {name: answered_share(cells, at) for at, name in enumerate(table.members)}
    shares = {name: share for name, share in every_share.items() if share} or every_share
    given: dict[tuple[str, str], Sequence[str | None]] = {
        ("member", name): [cell.values[at] for cell in cells]
        for at, name in enumerate(table.members)
        if name in shares
    }
    given |= {("method", name): own for name, own in answers.items()}
    measured = {key: measures(kind, cells, own) for key, own in given.items()}
    products, headline = table.products[np.array(rows)], KINDS[kind].headline
    # The headline stands first.
    names = sorted(next(iter(measured.values())), key=lambda name: name != headline)
    figures, draws = intervals([own[name] for own in measured.values() for name in names], products, seed)
    every = len(names)
    tops = figures[::every]
    best = int(np.argmax([np.nan_to_num(top.value) for top in tops[: len(shares)]]))
    found = []
    for at, key in enumerate(measured):
        low, high = percentile_interval(np.nan_to_num(draws[:, at * every] - draws[:, best * every]))
        delta = Estimate(tops[at].value - tops[best].value, float(low), float(high))
        is_member = key[0] == "member"
        found.append(
            TaskRow(
                name=key[1],
                role=_role(key, at == best, learned, encoders),
                figures=dict(zip(names, figures[at * every : (at + 1) * every], strict=True)),
                to_best_member=None if at == best else delta,
                answered=shares[key[1]] if is_member else None,
            )
        )
    order = ("best member", "encoder alone", MAJORITY, "learned", "member")
    found.sort(key=lambda row: order.index(row.role))
    return TaskResult(kind, headline, found, len(rows), len(np.unique(products)))


def _role(key: tuple[str, str], is_best: bool, learned: str, encoders: Collection[str]) -> str:
    source, name = key
    if source == "method":
        return "learned" if name == learned and name != MAJORITY else MAJORITY
    return "best member" if is_best else "encoder alone" if name in encoders else "member"
