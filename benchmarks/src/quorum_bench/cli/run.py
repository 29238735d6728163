# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench run`` and ``quorum-bench scenarios``."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from quorum_bench.bench import Bench, Options, Scenario, Skipped
from quorum_bench.environment import describe_environment
from quorum_bench.measure import Effort, Prices
from quorum_bench.metrics import ALL as METRICS
from quorum_bench.report import REPORT, SUMMARY, honest_line, write_report
from quorum_bench.results import (
    SAMPLES,
    MetricInfo,
    Results,
    ResultsError,
    ScenarioResult,
    read_results,
    write_results,
)
from quorum_bench.sample_file import SampleFile
from quorum_bench.scenarios import ALL, BY_NAME
from quorum_contract.errors import QuorumError

out = Console()
err = Console(stderr=True)
_EFFORT = {"short": Effort(1.5, 0.5, 3), "long": Effort(8.0, 2.0, 5)}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(scenarios)
    app.command()(report)


def scenarios(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """List the scenarios and their questions."""
    if as_json:
        print(json.dumps([{"name": s.name, "title": s.title, "question": s.question} for s in ALL]))
        return
    for scenario in ALL:
        out.print(f"[bold]{scenario.name}[/]  {scenario.question}", highlight=False)


def run(
    folder: Annotated[Path, typer.Argument(help="Where results, samples and report go; made if absent.")],
    only: Annotated[
        list[str] | None, typer.Option("--scenario", "-s", help="Only this one; may be repeated.")
    ] = None,
    long: Annotated[bool, typer.Option("--long", help="All points, longer and more often.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Measured time of each run.")] = None,
    runs: Annotated[int | None, typer.Option(help="Runs of every point.")] = None,
    slo_ms: Annotated[float, typer.Option(help="Latency that counts as good.")] = 50.0,
    prices: Annotated[Path | None, typer.Option(help="JSON file of prices; see the guide.")] = None,
    deploy: Annotated[Path | None, typer.Option(help="Also measure this deployment of LLMs.")] = None,
    listings: Annotated[Path | None, typer.Option(help="JSONL of product texts for it.")] = None,
    votes: Annotated[Path | None, typer.Option(help="Votes table with gold: accuracy and cost.")] = None,
    arrivals: Annotated[
        Path | None, typer.Option(help="Arrival times to replay, seconds, one a line")
    ] = None,
    perf_analyzer: Annotated[Path | None, typer.Option(help="Its path, to check our figures.")] = None,
) -> None:
    """Measure, and write **results.json**, **samples.parquet**, **report.html** and **summary.md**.

    Example: `quorum-bench run out/today` (about 7 minutes), `quorum-bench run out/o -s overhead`.
    """
    form = "long" if long else "short"
    base = _EFFORT[form]
    effort = Effort(seconds or base.seconds, base.warmup_s, runs or base.runs)
    options = Options(
        "long" if long else "short",
        effort,
        slo_ms,
        read_prices(prices) if prices else None,
        deploy,
        listings,
        votes,
        arrivals,
        perf_analyzer,
    )
    chosen = [_scenario(name) for name in only] if only else list(ALL)
    folder.mkdir(parents=True, exist_ok=True)
    results = play(chosen, options, folder)
    write_results(results, folder)
    write_report(results, folder)
    out.print(honest_line(results), highlight=False, soft_wrap=True)
    err.print(f"{folder / REPORT}, {folder / SUMMARY}, {folder / SAMPLES}", highlight=False)
    if any(scenario.failed for scenario in results.scenarios):
        raise typer.Exit(1)


def report(
    folder: Annotated[Path, typer.Argument(help="A folder of `quorum-bench run`.")],
) -> None:
    """Write **report.html** and **summary.md** again from **results.json**."""
    try:
        results = read_results(folder)
    except ResultsError as error:
        err.print(f"[red]error:[/] {error}", highlight=False)
        raise typer.Exit(2) from error
    write_report(results, folder)
    out.print(folder / REPORT, highlight=False)


def play(chosen: list[Scenario], options: Options, folder: Path) -> Results:
    """Play scenarios one after the other; one that cannot run here is noted as skipped."""
    environment = describe_environment()
    done: list[ScenarioResult] = []
    with SampleFile(folder / SAMPLES) as file:
        bench = Bench(options, file, lambda line: err.print(line, highlight=False, soft_wrap=True))
        for scenario in chosen:
            start = time.monotonic()
            try:
                result = scenario.play(bench)
            except Skipped as reason:
                result = scenario.result([], skipped=str(reason))
            except Exception as error:
                # The other scenarios' results must not be lost with it.
                if isinstance(error, QuorumError):
                    err.print(f"error: {error}", highlight=False, soft_wrap=True, markup=False)
                else:
                    err.print_exception()
                result = scenario.result([], failed=f"{type(error).__name__}: {error}")
            done.append(result.model_copy(update={"seconds": time.monotonic() - start}))
    environment["load_after"] = [round(x, 2) for x in os.getloadavg()]
    e = options.effort
    return Results(
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        form=options.form,
        effort={"seconds": e.seconds, "warmup_s": e.warmup_s, "runs": e.runs},
        environment=environment,
        metrics={
            m.key: MetricInfo(title=m.title, unit=m.unit, better=m.better, formula=m.formula) for m in METRICS
        },
        scenarios=done,
    )


def read_prices(path: Path) -> Prices:
    """Prices from JSON: ``{"machine_per_hour": 1.2, "members": {"gpt": [0.5, 1.5]}}``, per million tokens."""
    try:
        data = json.loads(path.read_text("utf-8"))
        members = {name: (float(a), float(b)) for name, (a, b) in data.get("members", {}).items()}
        return Prices(float(data.get("machine_per_hour", 0.0)), members)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise typer.BadParameter(
            f'{path}: {error}; write {{"machine_per_hour": 1.2, "members": {{"NAME": [PROMPT, GENERATED]}}}}'
        ) from error


def _scenario(name: str) -> Scenario:
    if name not in BY_NAME:
        raise typer.BadParameter(f"no scenario {name!r}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]
