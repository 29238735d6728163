# SPDX-License-Identifier: Apache-2.0
"""Print the comparison of two channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Column
from rich.text import Text

from quorum.cli.attributes import show_judgement
from quorum.cli.console import new_table, out
from quorum.reports.figures import bracketed, percent, percent_interval, points, points_interval

if TYPE_CHECKING:
    from quorum.evaluation.canary import Report
    from quorum.evaluation.verdict import Metric


def show(r: Report) -> None:
    """Print what is worse, the figures of both channels, those by attribute, and frequent differences."""
    for found in r.compared.values():
        words = found.worse_in_words()
        if words and not r.trained_on:
            out.print(Text(f"version {r.canary_version} is worse than stable on {words}", "bold red"))
    heads = (f"stable ({r.stable_version})", f"canary ({r.canary_version})", "difference [interval]")
    table = new_table(
        "", *(Column(head, justify="right", no_wrap=True) for head in heads),
        title=f"{r.products} products, {r.cells} cells, {r.gold_labels} with gold"
        + (" that the weights were learned from" if r.trained_on else ""),
    )  # fmt: skip
    for name, metric in (
        ("right, %", r.accuracy),
        ("agreement, %", r.agreement),
        ("confidence, %", r.confidence),
    ):
        table.add_row(name, *_cells(metric))
    if r.latency:
        t = r.latency
        table.add_row(
            "p50, ms", f"{t.stable_p50:.1f}", f"{t.canary_p50:.1f}",
            bracketed(f"x {t.ratio.value:.2f}", f"{t.ratio.low:.2f}", f"{t.ratio.high:.2f}"),
        )  # fmt: skip
        table.add_row("p95, ms", f"{t.stable_p95:.1f}", f"{t.canary_p95:.1f}", "")
    if r.asked:
        table.add_row("failed", "", f"{r.failed} of {r.asked}", "")
    table.add_row("decided differently, %", "", "", percent_interval(r.changed))
    out.print(table)
    for found in r.compared.values():
        show_judgement(found, f"canary ({r.canary_version})", f"stable ({r.stable_version})")
    _show_moved(r)
    if r.top:
        moved_ = new_table("attribute", "stable", "canary", "cells", "better", "worse", "such as")
        for c in r.top:
            stable, canary = c.stable or "(none)", c.canary or "(none)"
            counts = (str(c.cells), str(c.better), str(c.worse))
            moved_.add_row(*map(Text, (c.attribute, stable, canary, *counts, c.product)))
        out.print(moved_)


def _show_moved(r: Report) -> None:
    """Print how much changes per attribute, most first; unless gold tells more, or there is only one."""
    known = {
        name for found in r.compared.values() for name in found.by_attribute if name not in found.too_few
    }
    rows = {name: m for name, m in r.moved.items() if m.stands_out or (m.changed and name not in known)}
    if not rows or len(r.moved) == 1:
        return
    table = new_table("attribute, %", "changed", "cells", "agreement", "confidence", "")
    for name, m in sorted(rows.items(), key=lambda row: -row[1].changed):
        style, word = ("bold red", "far more than the others") if m.stands_out else ("", "")
        gains = map(points, (m.agreement, m.confidence))
        table.add_row(Text(name, style), percent(m.changed), str(m.cells), *gains, Text(word, style))
    out.print(table)


def _cells(metric: Metric | None) -> tuple[str, ...]:
    if metric is None:
        return ("no gold", "no gold", "")
    return percent(metric.stable), percent(metric.canary), points_interval(metric.delta)


def words(report: Report, done: str | None) -> str:
    """The verdict, and the action that was taken."""
    verdict = report.verdict
    more = f"; about {verdict.more_products} more products would decide it" if verdict.more_products else ""
    return f"{verdict.action}: {verdict.reason}{more}" + (f" [{done}]" if done else "")
