# SPDX-License-Identifier: Apache-2.0
"""Render an evaluation as one self-contained HTML page, readable in light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from quorum.evaluation.evaluate import Evaluation

_INK = "#010203"
_ATTRIBUTES_SHOWN = 20
_COLOURS = ("#1f77b4", "#e07b00", "#2a9d5c", "#c2418c", "#8a6fd1", "#8c6d31")


def report_html(
    evaluation: Evaluation,
    *,
    title: str = "Evaluation of members and methods",
    curve: Mapping[int, float] | None = None,
) -> str:
    """Render an evaluation as a page with tables and plots.

    Args:
        evaluation: The figures.
        title: Heading of the page.
        curve: Gold labels -> held-out accuracy, from :func:`quorum.evaluation.evaluate.learning_curve`.

    Returns:
        HTML with everything inline.

    Raises:
        ImportError: jinja2 or matplotlib is missing; the message names the extra to install.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError("the report needs jinja2 and matplotlib: pip install 'quorum[deploy]'") from error
    template = resources.files("quorum.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(
        e=evaluation,
        title=title,
        pct=lambda share: "-" if math.isnan(share) else f"{100 * share:.1f}",
        signed=lambda share: f"{100 * share:+.2f}",
        reliability=_reliability(evaluation),
        heat=_heat(evaluation),
        attributes=_attributes(evaluation),
        curve=_curve(evaluation, curve) if curve else "",
    )


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the report needs matplotlib: pip install 'quorum[deploy]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.patch.set_alpha(0.0)
    axes.tick_params(colors=_INK, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _svg(figure: Any) -> str:
    """SVG in the colour of the page's text; without a date, so that equal figures give equal files."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "quorum"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return re.sub(re.escape(_INK), "currentColor", text[text.index("<svg") :])


def _legend(axes: Any) -> None:
    legend = axes.legend(fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_color(_INK)


def _reliability(evaluation: Evaluation) -> str:
    figure, axes = _figure(6.2, 4.4)
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":")
    for colour, (name, result) in zip(_COLOURS, evaluation.methods.items(), strict=False):
        x = [row.confidence for row in result.reliability]
        y = [row.accuracy for row in result.reliability]
        axes.plot(
            x, y, marker="o", markersize=3, linewidth=1.2, color=colour, label=f"{name} ({result.confidence})"
        )
    axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
    _legend(axes)
    return _svg(figure)


def _heat(evaluation: Evaluation) -> str:
    phi = np.array(evaluation.correlation.error_phi, np.float64)
    names = evaluation.correlation.members
    figure, axes = _figure(1.6 + 0.9 * len(names), 1.2 + 0.7 * len(names))
    axes.imshow(phi, cmap="YlOrRd", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (i, j), value in np.ndenumerate(phi):
        ink = "#ffffff" if value > 0.7 else "#222222"
        axes.text(
            j, i, "-" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=9, color=ink
        )
    return _svg(figure)


def _attributes(evaluation: Evaluation) -> str:
    name = max(evaluation.methods, key=lambda key: evaluation.methods[key].accuracy)
    best, plain = evaluation.methods[name].by_attribute, evaluation.methods["majority"].by_attribute
    shown = sorted(best, key=lambda key: -best[key][1])[:_ATTRIBUTES_SHOWN]
    figure, axes = _figure(7.0, 0.9 + 0.3 * len(shown))
    places = np.arange(len(shown))
    axes.barh(places - 0.2, [best[key][0] for key in shown], 0.38, color=_COLOURS[0], label=name)
    axes.barh(places + 0.2, [plain[key][0] for key in shown], 0.38, color=_COLOURS[1], label="majority")
    axes.set_yticks(places, [f"{key} ({best[key][1]})" for key in shown])
    axes.invert_yaxis()
    axes.set(xlabel="share right, held out (labelled cells in brackets)", xlim=(0, 1))
    _legend(axes)
    return _svg(figure)


def _curve(evaluation: Evaluation, curve: Mapping[int, float]) -> str:
    figure, axes = _figure(6.2, 3.6)
    axes.plot(list(curve), list(curve.values()), marker="o", color=_COLOURS[0], label="learned")
    best = evaluation.members[evaluation.best_member].value
    axes.axhline(
        best, color=_COLOURS[1], linewidth=1.0, label=f"best single member ({evaluation.best_member})"
    )
    axes.axhline(
        evaluation.methods["majority"].accuracy, color=_INK, linewidth=0.8, linestyle=":", label="majority"
    )
    axes.set(xlabel="gold labels", ylabel="share right, held out")
    _legend(axes)
    return _svg(figure)
