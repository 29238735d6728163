# SPDX-License-Identifier: Apache-2.0
"""The colours of every report, for light and dark, as CSS variables.

Each colour has a contrast of 4.5 : 1 (text) or 3 : 1 (series of charts) against page and panel (WCAG 2.2,
1.4.3 and 1.4.11), and series differ from each other for readers with protanopia, deuteranopia and tritanopia
too (Machado et al., IEEE TVCG 15(6), 2009); a test computes both.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "ink": "#1d2430",
    "soft": "#566070",
    "page": "#ffffff",
    "panel": "#f5f7fa",
    "line": "#d6dce4",
    "accent": "#1f5fae",
    "good": "#12704a",
    "bad": "#b3261e",
}
DARK: Mapping[str, str] = {
    "ink": "#e4e8ee",
    "soft": "#a3adbb",
    "page": "#14181f",
    "panel": "#1b212b",
    "line": "#343d4a",
    "accent": "#7ab4f5",
    "good": "#5cc796",
    "bad": "#ff8a80",
}
SERIES_LIGHT = ("#4c81fa", "#b57b37", "#0b3807", "#631ba6", "#690959", "#80602c", "#30647f", "#7e8089")
SERIES_DARK = ("#27b4f9", "#d78c29", "#b6f3c3", "#9053db", "#d92756", "#fcc535", "#488399", "#a8a8a8")
MOST_SERIES = len(SERIES_LIGHT)
"""Series that one chart can have: each has a colour of its own."""


def variables() -> str:
    """CSS that sets the colours as variables: ``--ink``, ``--series-1``, ..., for light and for dark."""
    light, dark = (
        "".join(f"--{name}:{value};" for name, value in {**roles, **_numbered(series)}.items())
        for roles, series in ((LIGHT, SERIES_LIGHT), (DARK, SERIES_DARK))
    )
    return (
        f":root{{color-scheme:light dark;{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )


def _numbered(series: tuple[str, ...]) -> dict[str, str]:
    return {f"series-{number}": colour for number, colour in enumerate(series, 1)}
