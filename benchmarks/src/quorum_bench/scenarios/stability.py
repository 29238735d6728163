# SPDX-License-Identifier: Apache-2.0
"""Measure accuracy over weeks in which members or texts change."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from quorum.bulk.ask import ask_all
from quorum.bulk.listings import Listing, read_listings
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.deployment import load_deployment
from quorum.evaluation.stats import bootstrap
from quorum.votes import VotesTable, VotesWriter, read_votes
from quorum_bench.bench import Bench, Scenario, Skipped, point_id, value_of
from quorum_bench.bootstrap import interval_of
from quorum_bench.results import Finding, Plot, PointResult, ScenarioResult, Table, Value
from quorum_bench.scenarios.weeks import (
    CHANGE,
    FROZEN,
    WEEKS,
    WINDOW,
    Course,
    Recorded,
    World,
    play,
    same_cells,
    scramble,
    ways,
)
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload
from quorum_contract import STABLE

NOISE = (5, 10, 20)
_GOLD = 30
_PRODUCTS = 60
_IN_FLIGHT = 16
_DEPLOY, _LISTINGS = Path("deploy.yaml"), Path("examples/demo/listings.jsonl")


def _play(bench: Bench) -> ScenarioResult:
    options = bench.options
    deploy, path = options.deploy or _DEPLOY, options.listings or _LISTINGS
    if not (deploy.is_file() and path.is_file()):
        raise Skipped(
            f"needs LLMs and texts with gold: --deploy FILE ({deploy}) and --listings FILE ({path})"
        )
    recorded = record(deploy, read_listings(path)[: options.pick(160, 400)])
    best = int(recorded.clean.correct().mean(axis=0).argmax())
    seeds = options.pick(5, 20)
    courses = {}
    for world in worlds(best):
        courses[world] = [play(recorded, world, seed, _PRODUCTS, _GOLD) for seed in range(seeds)]
        bench.say(f"{SCENARIO.name}/{world.name}: {seeds} draws")
    points = [point for world, runs in courses.items() for point in _points(world, runs, recorded.members)]
    plots = [
        Plot(title=f"accuracy: {w.name}", x=f"week ({w.name})", y=["accuracy"], series="who") for w in courses
    ]
    tables = [_accuracies(courses, recorded), _alarms(courses, recorded)]
    result = SCENARIO.result([], findings=_findings(courses), plots=plots, tables=tables)
    return result.model_copy(update={"points": points})


def worlds(member: int) -> list[World]:
    """List the worlds; ``member`` is the index of the member that changes."""
    return [
        World("nothing changes"),
        World("one member worse", member, after=20),
        World("one member better", member, before=20),
        World("one member biased", member, bias=0.3),
        *(World(f"{noise} % noise in the texts", after=noise) for noise in NOISE),
    ]


def record(deploy: Path, listings: Sequence[Listing]) -> Recorded:
    """Record the deployment's votes on all texts at every level of noise, each once."""
    spec = load_deployment(deploy)
    tables = {}
    with (
        QuorumTarget(Workload.made(1), deploy=deploy) as target,
        tempfile.TemporaryDirectory(prefix="quorum-bench-") as folder,
    ):
        for noise in (0, *NOISE):
            noisy = [replace(x, text=scramble(x.text, noise, seed)) for seed, x in enumerate(listings)]
            tables[noise] = _ask(target.url, noisy, spec, Path(folder) / f"{noise}.jsonl")
    return Recorded(tables[0].members, same_cells(tables, tables[0].cells))


def _ask(url: str, listings: Sequence[Listing], spec: object, path: Path) -> VotesTable:
    catalogue = spec.catalogue()  # type: ignore[attr-defined]
    names = list(dict.fromkeys(name for listing in listings for name in listing.gold))
    results = ask_all(url, STABLE, listings, names, _IN_FLIGHT)
    with VotesWriter(path) as writer:
        sink = VotesSink(writer, catalogue)
        for listing, result in zip(listings, results, strict=True):
            sink.write(listing, result)
    return read_votes(path)


def _points(world: World, runs: Sequence[Course], members: Sequence[str]) -> list[PointResult]:
    points = []
    courses = [run.ways for run in runs], [run.members for run in runs]
    for kind, names in ((courses[0], list(runs[0].ways)), (courses[1], list(members))):
        for name in names:
            for at, week in enumerate(range(WINDOW + 1, WEEKS + 1)):
                value = _value([course[name][at] for course in kind])
                labels: dict[str, str | int | float] = {f"week ({world.name})": week, "who": name}
                ident = point_id(SCENARIO.name, {"world": world.name, "week": week, "who": name})
                points.append(PointResult(id=ident, labels=labels, values={"accuracy": value}))
    return points


def _after(run: Course, name: str) -> float:
    """Mean accuracy from two weeks after the change on, when the ways could react."""
    return float(np.mean(run.ways[name][CHANGE + 1 - WINDOW :]))


def _accuracies(courses: dict[World, list[Course]], recorded: Recorded) -> Table:
    names = [way.name for way in ways(_GOLD)]
    rows = []
    for world, runs in courses.items():
        best = np.mean(
            [max(np.mean(values[CHANGE - WINDOW :]) for values in run.members.values()) for run in runs]
        )
        cells = [_text(_value([_after(run, name) for run in runs])) for name in names]
        rows.append([world.name, f"{best:.1f}", *cells])
    return Table(
        title=f"Accuracy in percent, weeks {CHANGE + 2} to {WEEKS}, mean of {len(runs)} draws (95 %)",
        columns=["what happens", "best member, in hindsight", *names],
        rows=rows,
    )


def _findings(courses: dict[World, list[Course]]) -> list[Finding]:
    """Compare each way with frozen weights, draw by draw."""
    findings = []
    for world, runs in courses.items():
        gains = {
            way.name: _value([_after(run, way.name) - _after(run, FROZEN) for run in runs])
            for way in ways(_GOLD)
            if way.name != FROZEN
        }
        top = max(gains, key=lambda name: gains[name].value)
        findings.append(
            Finding(
                text=f"{world.name}: best against frozen weights is '{top}', by",
                value=gains[top],
                unit="points",
                no_effect=0,
            )
        )
    return findings


def _alarms(courses: dict[World, list[Course]], recorded: Recorded) -> Table:
    rows = []
    for world, runs in courses.items():
        early = sum(bool(named) for run in runs for week, named in run.alarms.items() if week < CHANGE)
        weeks = sum(week < CHANGE for run in runs for week in run.alarms)
        first = [
            min((w for w, named in run.alarms.items() if w >= CHANGE and named), default=0) for run in runs
        ]
        noticed = [week - CHANGE + 1 for week in first if week]
        right = sum(world.member in run.alarms[week] for run, week in zip(runs, first, strict=True) if week)
        rows.append(
            [
                world.name,
                "–" if world.member is None else recorded.members[world.member],
                f"{len(noticed)} of {len(runs)}",
                f"{np.median(noticed):g}" if noticed else "–",
                "–" if world.member is None else f"{right} of {len(noticed)}",
                f"{early} of {weeks}",
            ]
        )
    return Table(
        title=f"Alarms of drift: weeks of {_PRODUCTS} products against the first {WINDOW}",
        columns=[
            "what happens",
            "to",
            "draws with an alarm after the change",
            "in which week after the change (median)",
            "the first alarm names that member",
            "alarms in weeks before the change",
        ],
        rows=rows,
    )


def _value(draws: Sequence[float]) -> Value:
    """Mean over draws with its 95 % interval, bootstrapped."""
    return value_of(interval_of(float(np.mean(draws)), bootstrap(draws, np.mean)), [float(v) for v in draws])


def _text(value: Value) -> str:
    return f"{value.value:.1f} ({value.low:.1f} to {value.high:.1f})"


SCENARIO = Scenario(
    "stability",
    "Weeks in which something changes",
    f"Votes of real LLMs on {_PRODUCTS} products a week; in week {CHANGE} one member becomes "
    "worse, better or biased, or all texts become noisy. A worse version is the same LLM reading texts of "
    f"which 20 % of the letters are damaged. How accurate are weights that stay, learned again over {WINDOW} "
    f"weeks, or kept online, with and without {_GOLD} gold labels a week?",
    _play,
)
