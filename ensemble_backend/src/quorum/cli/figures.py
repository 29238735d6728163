# SPDX-License-Identifier: Apache-2.0
"""Print tables of figures with intervals so that the names of the rows stay readable at any width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from quorum.cli.console import out

Row = tuple[Text, Sequence[str]]
"""Name and figures, such as "84.7 (83.0-86.2)"."""
_MOST = 24
"""Longest word of a name that is never broken."""
_ANY_WIDTH = 10_000


def show_figures(
    head: str,
    heads: Sequence[str],
    *sections: Sequence[Row],
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> None:
    """Print rows of figures; where they do not fit, each interval stands on a line below its figure.

    Args:
        head: Of the names.
        heads: Of the figures.
        sections: Rows, with a blank line between sections.
        padding: Of each cell: above, right, below, left.
    """
    names = [head, *(str(name) for section in sections for name, _ in section)]
    room = min(max(len(word) for name in names for word in name.split()), _MOST)

    def table(first: Column, *, narrow: bool) -> Table:
        columns = (Column(one, no_wrap=True) for one in heads)
        made = Table(first, *columns, box=SIMPLE, padding=padding)
        for section in sections:
            for name, figures in section:
                made.add_row(name, *(f.replace(" (", "\n(", 1) if narrow else f for f in figures))
            made.add_section()
        return made

    widest = table(Column(head, max_width=room), narrow=False)
    full = Measurement.get(out, out.options.update(width=_ANY_WIDTH), widest).maximum
    out.print(table(Column(head, min_width=room, overflow="fold"), narrow=full > out.width))
