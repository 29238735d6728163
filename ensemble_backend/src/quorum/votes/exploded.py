# SPDX-License-Identifier: Apache-2.0
"""Turn cells whose answers name several things into one cell per thing: was it named, and rightly?

So learning and drift work on spans, and on several values, as they do on single values. Votes of the new
cells are "named", "n/a" for not named, or none; gold likewise. Cells of a product stay cells of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from quorum.decision.answer_kinds import SET_KINDS, AnswerKinds, has_one_value, is_stated, kind_in
from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.sets import NAMED, Thing, explode, things_remembered
from quorum.decision.spans import SpansError
from quorum.votes.readable import readable
from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable, build_table


def exploded(table: VotesTable, kinds: AnswerKinds) -> VotesTable:
    """The table with one cell per named thing; written texts are left out.

    Votes that cannot be read count as abstentions, and such gold as none; they are named by
    :func:`quorum.votes.readable.readable`. A thing that no member named has no cell: no weights could bring
    it into the answer. Texts of the new cells, and of labels, are left out, as what a text says about the
    word "named", or about a label that is not in it, is no evidence. The table itself is returned where every
    attribute has single values.

    Args:
        table: Any votes.
        kinds: Kinds of the attributes.
    """
    if not any(cell.attribute in kinds for cell in table.cells):
        return table
    cells = readable(table, kinds)[0].cells
    return build_table(table.members, [new for cell in cells for new in _cells(cell, kinds)])


def written_texts(table: VotesTable, kinds: AnswerKinds) -> dict[str, list[Cell]]:
    """Attribute of kind "text" -> its cells."""
    found: dict[str, list[Cell]] = {}
    for cell in table.cells:
        if kind_in(kinds, cell.attribute) == "text":
            found.setdefault(cell.attribute, []).append(cell)
    return found


def look_like_spans(table: VotesTable) -> list[str]:
    """Attributes whose answers are JSON lists of [text, type] throughout, sorted."""
    pairs: dict[str, bool] = {}
    for cell in table.cells:
        for value in cell.values:
            if value is not None and value != "[]" and pairs.get(cell.attribute, True):
                pairs[cell.attribute] = value.startswith('[["')
    return sorted(name for name, are_pairs in pairs.items() if are_pairs)


def accepted_sets(cell: Cell) -> list[frozenset[Thing]]:
    """The things of each acceptable answer that can be read, the preferred answer first."""
    found = []
    for answer in cell.gold:
        try:
            found.append(frozenset(things_remembered(answer, cell.title)))
        except SpansError:
            continue
    return found


def _cells(cell: Cell, kinds: AnswerKinds) -> Iterator[Cell]:
    kind = kind_in(kinds, cell.attribute)
    if has_one_value(kind):
        yield cell if is_stated(kind) else replace(cell, title="")
    elif kind in SET_KINDS:
        accepted = accepted_sets(cell)
        for thing, votes in explode(cell.values, cell.title).items():
            yield replace(cell, title="", values=votes, gold=_gold(thing, accepted))


def _gold(thing: Thing, accepted: list[frozenset[Thing]]) -> tuple[str, ...]:
    """Whether a thing is right; where acceptable answers differ, both are, and "n/a" must stand first."""
    right = {thing in things for things in accepted}
    names = {True: NAMED, False: NOT_APPLICABLE}
    return tuple(names[is_named] for is_named in sorted(right))
