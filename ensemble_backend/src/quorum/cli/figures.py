# SPDX-License-Identifier: Apache-2.0
"""Print tables of figures with intervals so that the names of the rows stay readable at any width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from quorum.cli.console import new_table, out

Row = tuple[Text, Sequence[str]]
"""Name and figures, such as "84.7 [83.0, 86.2]"."""
_MOST = 24
"""Longest word of a name that is never broken."""
_ANY_WIDTH = 10_000


def show_figures(head: str, heads: Sequence[str], *sections: Sequence[Row]) -> None:
    """Print rows of figures; where they do not fit, each interval stands on a line below its figure.

    Args:
        head: Of the names.
        heads: Of the figures.
        sections: Rows, with a blank line between sections.
    """
    names = [head, *(str(name) for section in sections for name, _ in section)]
    least = min(max(len(word) for name in names for word in name.split()), _MOST)

    def table(room: int, gap: int, *, narrow: bool) -> Table:
        columns = (Column(one, no_wrap=True) for one in heads)
        made = new_table(Column(_wrapped(head, room), width=room), *columns)
        made.padding = (0, gap, 0, 0)
        for section in sections:
            for name, figures in section:
                shown = Text(_wrapped(str(name), room), name.style)
                made.add_row(shown, *(f.replace(" [", "\n[", 1) if narrow else f for f in figures))
            made.add_section()
        return made

    room = 0
    for narrow, gap in ((False, 1), (False, 0), (True, 1), (True, 0)):
        wide = Measurement.get(out, out.options.update(width=_ANY_WIDTH), table(least, gap, narrow=narrow))
        room = out.width - wide.maximum + least
        if room >= least:
            break
    out.print(table(max(min(max(map(len, names)), room), 1), gap, narrow=narrow))


def _wrapped(name: str, room: int) -> str:
    """A name on lines of at most ``room`` characters, broken at hyphens where spaces are too far apart."""
    too_long = any(len(word) > room for word in name.split())
    return "\n".join(textwrap.wrap(name, room, break_on_hyphens=too_long)) or name
