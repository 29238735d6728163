# SPDX-License-Identifier: Apache-2.0
"""Write the Markdown summary, and one line to quote."""

from __future__ import annotations

from quorum_bench.report.figures import MANY, cell, columns, figure_of, interval_cell, labels, machine
from quorum_bench.results import Finding, Results, ScenarioResult


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
    """Return one line to quote: the headline figures with intervals, their comparisons, and the machine.

    The machine's load as the run began is that of other programs.
    """
    parts = [text for scenario in results.scenarios if (text := _headline(scenario))]
    e = results.environment
    load = f" (load {e['load_before'][0]:g} as it began)" if e.get("load_before") else ""
    where = f"{e.get('cores_usable')} cores of {e.get('cpu')}{load}"
    return f"On {where}: {'; '.join(parts)}." if parts else f"On {where}; see the scenarios below."


def _headline(scenario: ScenarioResult) -> str:
    """The first finding of a scenario that is quoted, in words; "" for others."""
    first = scenario.findings[0] if scenario.findings else None
    if first is None or first.value is None:
        return ""
    if scenario.name == "overhead":
        lone = next((p for p in scenario.points if p.labels.get("asked") == "ensemble"), None)
        answer = (
            f"an answer of five members in {interval_cell(lone, 'latency_p50')} ms (p50); " if lone else ""
        )
        return f"{answer}{first.text} {figure_of(first)}"
    if scenario.name == "peers":
        names = dict.fromkeys(str(p.labels.get("server")) for p in scenario.points)
        peers = ", ".join(name for name in names if not name.startswith("quorum"))
        return f"{first.text}: {figure_of(first)} (peers: {peers})"
    if scenario.name == "concurrency":
        return f"{first.text}: {figure_of(first)}"
    return ""


def _figure(finding: Finding) -> str:
    """The figure of a finding, bold where it shows something."""
    if not finding.value:
        return ""
    if finding.shows_nothing:
        return f": {figure_of(finding)}, no difference shown"
    return f": **{figure_of(finding)}**"


def _scenario(scenario: ScenarioResult, results: Results) -> str:
    lines = [f"## {scenario.title}", "", scenario.question]
    if scenario.skipped:
        lines += ["", f"*Skipped*: {scenario.skipped}"]
    if scenario.failed:
        lines += ["", f"*Failed*: {scenario.failed}"]
    if scenario.findings:
        lines.append("")
    for finding in scenario.findings:
        verdict = f" (aim: {finding.aim}; {finding.outcome})" if finding.outcome else ""
        lines.append(f"- {finding.text}{_figure(finding)}{verdict}")
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
