# SPDX-License-Identifier: Apache-2.0
"""Render an evaluation as one self-contained HTML page, readable in light and dark."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import numpy as np

from quorum.evaluation.draws import Spread
from quorum.evaluation.evaluate import Evaluation
from quorum.evaluation.member_scores import ScoresResult

# Replaced by the colour of the page's text.
_INK = "#010203"
_ATTRIBUTES_SHOWN = 20
_COLOURS = ("#1f77b4", "#e07b00", "#2a9d5c", "#c2418c", "#8a6fd1", "#8c6d31")
_DASHES = {"": "-", "scores": "--", "na_bias": ":", "evidence": "-."}
"""Dashes of a method by what is left out of it."""
_STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 9),
    "legend.fontsize": 8,
    "legend.frameon": False,
    # Names may hold dollars, which are no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "quorum",
}


def report_html(
    evaluation: Evaluation,
    *,
    title: str = "Evaluation of members and methods",
    curve: Mapping[int, Spread] | None = None,
) -> str:
    """Render an evaluation as an HTML page with tables and plots, everything inline.

    Args:
        evaluation: The figures.
        title: Heading of the page.
        curve: Gold labels -> held-out accuracy, from :func:`quorum.evaluation.curve.learning_curve`.

    Raises:
        ImportError: jinja2 or matplotlib is missing; the message names the extra to install.
    """
    try:
        import jinja2
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("the report needs jinja2 and matplotlib: pip install 'quorum[deploy]'") from error
    template = resources.files("quorum.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    with mpl.rc_context(_STYLE):
        return environment.from_string(template).render(
            e=evaluation,
            title=title,
            pct=lambda share: "-" if share is None or math.isnan(share) else f"{100 * share:.1f}",
            signed=lambda share: "-" if math.isnan(share) else f"{100 * share:+.2f}",
            reliability=_reliability(evaluation),
            own_reliability=_own_reliability(evaluation.scores) if evaluation.scores else "",
            heat=_heat(evaluation),
            attributes=_attributes(evaluation),
            curve=_curve(evaluation, curve) if curve else "",
        )


def _svg(width: float, height: float, draw: Callable[[Any], None]) -> str:
    """SVG in the colour of the page's text; without a date, so that equal figures give equal files."""
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.subplots())
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")


def _reliability(evaluation: Evaluation) -> str:
    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":")
        bases = list(dict.fromkeys(name.partition("_without_")[0] for name in evaluation.methods))
        for name, result in evaluation.methods.items():
            x = [row.confidence for row in result.reliability]
            y = [row.accuracy for row in result.reliability]
            base, _, left_out = name.partition("_without_")
            look = {"color": _COLOURS[bases.index(base) % len(_COLOURS)], "linestyle": _DASHES[left_out]}
            label = f"{evaluation.label(name)} ({result.confidence})"
            axes.plot(x, y, marker="o", markersize=3, linewidth=1.2, label=label, **look)
        axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
        _legend(axes, "right upper")

    return _svg(8.4, 4.4, draw)


def _legend(axes: Any, place: str, columns: int = 1) -> None:
    """A legend next to the axes, where it covers nothing."""
    axes.figure.legend(loc=f"outside {place}", ncols=columns)


def _own_reliability(scores: ScoresResult) -> str:
    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":")
        for number, (name, member) in enumerate(scores.members.items()):
            x = [row.confidence for row in member.reliability]
            y = [row.accuracy for row in member.reliability]
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(x, y, marker="o", markersize=3, linewidth=1.2, color=colour, label=name)
        axes.set(xlabel="probability of its vote", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
        _legend(axes, "right upper")

    return _svg(8.4, 4.4, draw)


def _heat(evaluation: Evaluation) -> str:
    names = evaluation.correlation.members

    def draw(axes: Any) -> None:
        phi = np.array(evaluation.correlation.error_phi, np.float64)
        axes.imshow(phi, cmap="YlOrRd", vmin=0.0, vmax=1.0)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_yticks(range(len(names)), names)
        for (i, j), value in np.ndenumerate(phi):
            text, ink = "-" if np.isnan(value) else f"{value:.2f}", "#ffffff" if value > 0.7 else "#222222"
            axes.text(j, i, text, ha="center", va="center", fontsize=9, color=ink)

    return _svg(1.6 + 0.9 * len(names), 1.2 + 0.7 * len(names), draw)


def _attributes(evaluation: Evaluation) -> str:
    name = max(evaluation.methods, key=lambda key: evaluation.methods[key].accuracy)
    best, plain = evaluation.methods[name].by_attribute, evaluation.methods["majority"].by_attribute
    shown = sorted(best, key=lambda key: -best[key][1])[:_ATTRIBUTES_SHOWN]

    label = evaluation.label(name)

    def draw(axes: Any) -> None:
        places = np.arange(len(shown))
        axes.barh(places - 0.2, [best[key][0] for key in shown], 0.38, color=_COLOURS[0], label=label)
        axes.barh(places + 0.2, [plain[key][0] for key in shown], 0.38, color=_COLOURS[1], label="majority")
        axes.set_yticks(places, [f"{key} ({best[key][1]})" for key in shown])
        axes.invert_yaxis()
        axes.set(xlabel="share right, held out (labelled cells in brackets)", xlim=(0, 1))
        _legend(axes, "upper center", 2)

    return _svg(7.0, 1.2 + 0.3 * len(shown), draw)


def _curve(evaluation: Evaluation, curve: Mapping[int, Spread]) -> str:
    member, majority = evaluation.best_member, evaluation.methods["majority"].accuracy
    best = evaluation.members[member].value if member else None

    def draw(axes: Any) -> None:
        means = [found.mean for found in curve.values()]
        axes.plot(list(curve), means, marker="o", color=_COLOURS[0], label="learned")
        low, high = ([getattr(found, end) for found in curve.values()] for end in ("lowest", "highest"))
        if low != high:
            band = {"color": _COLOURS[0], "alpha": 0.2, "linewidth": 0}
            axes.fill_between(list(curve), low, high, label="by the draw of the labels", **band)
        if best is not None:
            axes.axhline(best, color=_COLOURS[1], linewidth=1.0, label=f"best single member ({member})")
        axes.axhline(majority, color=_INK, linewidth=0.8, linestyle=":", label="majority")
        axes.set(xlabel="gold labels", ylabel="share right, held out")
        _legend(axes, "upper center", 3 if low == high else 2)

    return _svg(6.8, 3.8, draw)
