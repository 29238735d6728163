# SPDX-License-Identifier: Apache-2.0
"""Make SVG of matplotlib's figures: in the page's colours and font, with a text alternative."""

from __future__ import annotations

import functools
import hashlib
import html
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from quorum.reports.page import ReportError
from quorum.reports.palette import MOST_SERIES, variables

P = ParamSpec("P")

INK = "#010203"
"""Drawn in the colour of the page's text."""
_SERIES = tuple(f"#0a0b{number:02x}" for number in range(1, MOST_SERIES + 1))
"""Drawn in the colours of the palette."""
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
_GEOMETRY = re.compile(r'(?<= d=")[^"]*|(?<= [xy]=")[^"]*|(?<=translate\()[^)]*')
_FONT = re.compile(r"font-family: [^;\"]*; ?")
"""The page's own font is used."""
_PLACES = re.compile(r"(\.\d\d)\d+")
_WIDTH = 6.2
_LONGEST_NAME = 30
_MOST_WORDS = 60
_STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9.5),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.labelsize": 10,
    "axes.axisbelow": True,
    "font.family": "sans-serif",
    # Names may hold dollars, which are no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
}


def in_style(draw: Callable[P, str]) -> Callable[P, str]:
    """Let a function draw in the common style.

    Raises:
        ReportError: When it is called: matplotlib is not installed.
    """

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> str:
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise ReportError("charts need matplotlib: pip install 'quorum[deploy]'") from error
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


def new_axes(height: float, panels: tuple[int, int] = (1, 1)) -> tuple[Any, Any]:
    """A figure of the common width, and its axes; several share their scales.

    Args:
        height: In inches.
        panels: Rows and columns.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots(*panels, sharex=True, sharey=True)


def series_look(index: int) -> dict[str, Any]:
    """Colour and marker of a series: no two of a chart have the same."""
    return {"color": _SERIES[index], "marker": _MARKERS[index]}


def wrapped(name: str, room: int = _LONGEST_NAME) -> str:
    """A name on as many lines of so many characters as it needs."""
    return "\n".join(textwrap.wrap(name, room, break_on_hyphens=False)) or name


def legend(figure: Any, axes: Any) -> None:
    """A legend below the axes, where it covers nothing; none without names."""
    _, names = axes.get_legend_handles_labels()
    if not names:
        return
    columns = max(1, min(len(names), 76 // (max(map(len, names)) + 6)))
    figure.legend(loc="outside lower center", ncols=columns, handletextpad=0.4, columnspacing=1.4)


def plotted(figure: Any, title: str, words: Sequence[str]) -> str:
    """A figure as SVG for a page that has the palette's variables.

    Args:
        figure: Of :func:`new_axes`.
        title: Says what is shown.
        words: What it shows, for those who do not see it.

    Returns:
        ``Markup``, which templates do not escape; equal for equal input.
    """
    import matplotlib as mpl
    from markupsafe import Markup

    shown = "; ".join(words[:_MOST_WORDS]) + (
        f"; {len(words) - _MOST_WORDS} more" * (len(words) > _MOST_WORDS)
    )
    name = hashlib.sha256(f"{title}\0{shown}".encode()).hexdigest()[:10]
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = _FONT.sub("", text)
    text = _GEOMETRY.sub(lambda match: _PLACES.sub(r"\1", match[0]), text)
    text = text.replace(INK, "currentColor")
    for number, colour in enumerate(_SERIES, 1):
        text = text.replace(colour, f"var(--series-{number})")
    head = (
        f'<svg role="img" aria-labelledby="{name}-t {name}-d" viewBox="{_view_box(text)}" '
        f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">\n'
        f'<title id="{name}-t">{html.escape(title)}</title>\n<desc id="{name}-d">{html.escape(shown)}</desc>'
    )
    return Markup(head + text[text.index(">") + 1 :])  # noqa: S704  (matplotlib escapes what it writes)


def standalone(svg: str) -> str:
    """The SVG as a file of its own, with the palette for light and dark in it."""
    end = svg.index(">") + 1
    style = f"<style>{variables()}:root{{color:var(--ink);background:var(--page)}}</style>"
    return f"{svg[:end]}\n{style}{svg[end:]}\n"


def _view_box(svg: str) -> str:
    match = re.search(r'viewBox="([^"]+)"', svg)
    assert match
    return match[1]
