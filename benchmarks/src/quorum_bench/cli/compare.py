# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench compare``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from quorum_bench.compare import DEFAULT_METRICS, CompareError, Row, compare, differences
from quorum_bench.results import ResultsError

out = Console()
err = Console(stderr=True)
_COLOURS = {"worse": "red", "better": "green", "no difference shown": "dim"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare_results)


def compare_results(
    a: Annotated[Path, typer.Argument(help="Before: a folder of `quorum-bench run`, or its results.json.")],
    b: Annotated[Path, typer.Argument(help="After.")],
    metric: Annotated[list[str] | None, typer.Option("--metric", "-m", help="May be repeated.")] = None,
    max_ratio: Annotated[
        float | None, typer.Option(help="Fail if a figure got worse by more, e.g. 1.10 for a tenth.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Fail also if a figure may have got worse by more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Compare two results: how many times worse, with a 95 % interval.

    Example, as a gate: `quorum-bench compare out/main out/branch --max-ratio 1.10`.

    Exit status: 0 no regression, 1 a regression, 2 the two cannot be compared.
    """
    try:
        rows = compare(a, b, metric or DEFAULT_METRICS)
        unlike = differences(a, b)
    except (CompareError, ResultsError) as error:
        err.print(f"[red]error:[/] {error}", highlight=False)
        raise typer.Exit(2) from error
    bad = [row for row in rows if max_ratio is not None and row.exceeds(max_ratio, strict)]
    if as_json:
        print(
            json.dumps(
                {
                    "rows": [asdict(row) | {"verdict": row.verdict} for row in rows],
                    "environments_differ": unlike,
                    "max_ratio": max_ratio,
                    "regressions": [f"{row.point} {row.metric}" for row in bad],
                }
            )
        )
    else:
        for line in unlike:
            err.print(f"[yellow]the two ran differently[/]: {line}", highlight=False)
        _print(rows)
        if max_ratio is not None:
            _print_gate(bad, len(rows), max_ratio, strict)
    raise typer.Exit(1 if bad else 0)


def _print(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("point", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("before", "after", "times worse", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        r = row.ratio
        colour = _COLOURS[row.verdict]
        table.add_row(
            row.point,
            row.metric,
            f"{row.a:.4g}",
            f"{row.b:.4g}",
            f"{r.value:.3f}",
            f"{r.low:.3f} - {r.high:.3f}",
            f"[{colour}]{row.verdict}[/]",
        )
    out.print(table, highlight=False)


def _print_gate(bad: list[Row], count: int, max_ratio: float, strict: bool) -> None:
    if not bad:
        out.print(f"[green]no regression[/]: none of {count} figures got worse by more than {max_ratio:g}")
        return
    how = "may have got" if strict else "got"
    out.print(f"[red]regression[/]: {len(bad)} of {count} figures {how} worse by more than {max_ratio:g}:")
    for row in bad:
        out.print(f"  {row.point} {row.metric}: {row.ratio.value:.3f} times", highlight=False)
