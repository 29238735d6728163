# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench compare``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from quorum.reports.figures import bracketed
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
    """Print a block for each point, with a line for each metric."""
    out.print(Text(f"{'':14}{'before':>9}{'after':>9}{'times worse [95 %]':>24}  verdict"))
    for point in dict.fromkeys(row.point for row in rows):
        out.print(Text(point, "bold"), soft_wrap=True)
        for row in (row for row in rows if row.point == point):
            r = row.ratio
            ratio = bracketed(f"{r.value:.3f}", f"{r.low:.3f}", f"{r.high:.3f}")
            figures = f"  {row.metric:12}{row.a:>9.4g}{row.b:>9.4g}{ratio:>24}  "
            out.print(Text.assemble(figures, (row.verdict, _COLOURS[row.verdict])), soft_wrap=True)


def _print_gate(bad: list[Row], count: int, max_ratio: float, strict: bool) -> None:
    if not bad:
        out.print(f"[green]no regression[/]: none of {count} figures got worse by more than {max_ratio:g}")
        return
    how = "may have got" if strict else "got"
    out.print(f"[red]regression[/]: {len(bad)} of {count} figures {how} worse by more than {max_ratio:g}:")
    for row in bad:
        out.print(f"  {row.point} {row.metric}: {row.ratio.value:.3f} times", highlight=False)
