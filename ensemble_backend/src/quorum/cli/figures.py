# SPDX-License-Identifier: Apache-2.0
"""Print tables of figures with intervals so that the names of the rows stay readable at any width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from quorum.cli.console import out

Row = tuple[Text, Sequence[str]]
"""Name and figures, such as "84.7 [83.0, 86.2]"."""
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
    longest = max(map(len, names))
    least = min(max(len(word) for name in names for word in name.split()), _MOST)

    def table(room: int, *, narrow: bool) -> Table:
        columns = (Column(one, no_wrap=True) for one in heads)
        first = Column(_wrapped(head, room), width=room)
        made = Table(first, *columns, box=SIMPLE, show_edge=False, padding=padding)
        for section in sections:
            for name, figures in section:
                shown = Text(_wrapped(str(name), room), name.style)
                made.add_row(shown, *(f.replace(" [", "\n[", 1) if narrow else f for f in figures))
            made.add_section()
        return made

    def rest(*, narrow: bool) -> int:
        wide = out.options.update(width=_ANY_WIDTH)
        return out.width - Measurement.get(out, wide, table(least, narrow=narrow)).maximum + least

    narrow = rest(narrow=False) < least
    out.print(table(max(min(longest, rest(narrow=narrow)), 1), narrow=narrow))
    out.print()


def _wrapped(name: str, room: int) -> str:
    """A name on lines of at most ``room`` characters, broken at hyphens where spaces are too far apart."""
    too_long = any(len(word) > room for word in name.split())
    return "\n".join(textwrap.wrap(name, room, break_on_hyphens=too_long)) or name
