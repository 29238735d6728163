# SPDX-License-Identifier: Apache-2.0
"""Print how decisions compare with others, attribute by attribute and by category."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Column
from rich.text import Text

from quorum.cli.console import new_table, note, out
from quorum.reports.figures import points_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quorum.evaluation.by_attribute import Compared, Judgement

_FEW = 6
_STYLES = {"worse": "bold red", "better": "green"}


def show_judgement(found: Judgement, own: str, other: str = "") -> None:
    """Print one set of decisions against another, as a table.

    Args:
        found: The comparison.
        own: Name of the one, for people.
        other: Name of the other; "": what it is called in the comparison.
    """
    other = other or found.against
    enough = {name: c for name, c in found.by_attribute.items() if c.verdict != "too few cells"}
    _table("attribute", enough or found.by_attribute, own, other, found.draws)
    if found.by_category:
        _table("category", found.by_category, own, other, found.draws)
    for line in found.legend:
        note(line)
    if enough and found.too_few:
        few, more = found.too_few[:_FEW], len(found.too_few) - _FEW
        note(f"too few cells to say: {', '.join(few)}" + (f" and {more} others" if more > 0 else ""))


def _table(head: str, rows: Mapping[str, Compared], own: str, other: str, draws: int) -> None:
    heads = (own, other, "cells", "points [95 %]")
    figures = [Column(name, justify="right", no_wrap=name in heads[2:]) for name in heads]
    last = Column("falls" if draws > 1 else "", no_wrap=True)
    table = new_table(Column(f"{head}, %", overflow="fold"), *figures, last)
    for name, c in rows.items():
        shares = (f"{100 * share:.1f}" for share in (c.accuracy, c.other))
        falls = "" if c.falls is None else f"{c.falls}/{draws} "
        word = falls + ("" if c.verdict == "unclear" else c.verdict)
        style = _STYLES.get(c.verdict, "")
        # All that a default question asks about count as one attribute, without a name.
        shown = name or ("outside the catalogue" if head == "attribute" else "")
        table.add_row(
            Text(shown, style), *shares, str(c.cells), points_interval(c.difference), Text(word, style)
        )
    out.print(table)
