# SPDX-License-Identifier: Apache-2.0
"""Write the Markdown summary, and one line to quote."""

from __future__ import annotations

from quorum_bench.report.figures import MANY, cell, columns, figure_of, labels, machine, number
from quorum_bench.results import Results, ScenarioResult


def markdown_text(results: Results) -> str:
    """Return findings and one table per scenario."""
    e = results.effort
    how = (
        f"Made {results.made}, {results.form} form: {e['runs']:g} runs of {e['seconds']:g} s each after "
        f"{e['warmup_s']:g} s of warm-up; medians over runs, 95 % bootstrap intervals in brackets.  \n"
        f"{machine(results)}."
    )
    parts = ["# quorum benchmark", honest_line(results), how]
    parts += [_scenario(scenario, results) for scenario in results.scenarios]
    return "\n\n".join(parts) + "\n"


def honest_line(results: Results) -> str:
    """Return one line to quote: the headline figures, with their machine."""
    figures = []
    points = results.points()
    lone = points.get("overhead/asked=ensemble,thinking=none")
    if lone:
        figures.append(f"an answer of five members that cost nothing in {cell(lone, 'latency_p50')} ms (p50)")
    for scenario in results.scenarios:
        for finding in scenario.findings[:1]:
            if scenario.name == "overhead" and finding.value:
                figures.append(f"{number(finding.value.value)} ms more than the slowest of them alone")
            if scenario.name == "peers" and finding.value:
                figures.append(
                    f"{number(finding.value.value)} times the answers/s of the best other way to serve them"
                )
            if scenario.name == "concurrency" and finding.value:
                figures.append(f"at most {number(finding.value.value)} answers/s")
    where = f"{results.environment.get('cores_usable')} cores of {results.environment.get('cpu')}"
    return f"On {where}: {', '.join(figures)}." if figures else f"On {where}; see the scenarios below."


def _scenario(scenario: ScenarioResult, results: Results) -> str:
    lines = [f"## {scenario.title}", "", scenario.question]
    if scenario.skipped:
        lines += ["", f"*Skipped*: {scenario.skipped}"]
    if scenario.failed:
        lines += ["", f"*Failed*: {scenario.failed}"]
    if scenario.findings:
        lines.append("")
    for finding in scenario.findings:
        verdict = (
            "" if finding.met is None else f" (aim: {finding.aim}; {'met' if finding.met else 'missed'})"
        )
        figure = f": **{figure_of(finding)}**" if finding.value else ""
        lines.append(f"- {finding.text}{figure}{verdict}")
    if len(scenario.points) > MANY:
        lines += [
            "",
            f"{len(scenario.points)} points: the report's plots show them, results.json holds them.",
        ]
    elif scenario.points:
        metrics = columns(scenario, results)
        keys = labels(scenario)
        head = [*keys, *(f"{m.title}, {m.unit}" if m.unit else m.title for _, m in metrics)]
        lines += [
            "",
            *_table(
                head,
                [
                    [*(str(p.labels.get(k, "")) for k in keys), *(cell(p, key) for key, _ in metrics)]
                    for p in scenario.points
                ],
            ),
        ]
    for table in scenario.tables:
        lines += ["", f"**{table.title}**", "", *_table(table.columns, table.rows)]
    notes = [f"- {point.id}: {note}" for point in scenario.points for note in point.notes]
    if notes:
        lines += ["", "Read with care:", "", *notes]
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
