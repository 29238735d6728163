# SPDX-License-Identifier: Apache-2.0
"""Measure what the scores of votes cost in serving: a deployment's LLMs with and without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from quorum.deployment import load_deployment
from quorum_bench.bench import Bench, Measured, Scenario, Skipped, value_of
from quorum_bench.bootstrap import paired_ratio
from quorum_bench.load import Closed
from quorum_bench.measure import Point
from quorum_bench.results import Finding, ScenarioResult
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

_LONE, _BUSY = 1, 8
_FEWEST = 5
_WITH, _WITHOUT = "with scores", "without"
_DEPLOY, _LISTINGS = Path("deploy.yaml"), Path("examples/demo/listings.jsonl")


def _play(bench: Bench) -> ScenarioResult:
    if bench.options.effort.runs < _FEWEST:
        raise Skipped(f"so small a difference needs more runs: --runs {_FEWEST}")
    deploy, listings = bench.options.deploy or _DEPLOY, bench.options.listings or _LISTINGS
    if not (deploy.is_file() and listings.is_file()):
        raise Skipped(f"no {deploy} with {listings} here: name others by --deploy and --listings")
    tally = bench.tally(SCENARIO.name)
    workload = Workload.of_listings(listings, list(load_deployment(deploy).attributes))
    with (
        QuorumTarget(workload, deploy=deploy, scores=True) as scored,
        QuorumTarget(workload, deploy=deploy, scores=False) as plain,
    ):
        for number in range(tally.effort.runs):
            for load in (_LONE, _BUSY):
                points = [_point(scored, _WITH, load, workload), _point(plain, _WITHOUT, load, workload)]
                first = (number + (load == _BUSY)) % 2
                for point in (points[first], points[1 - first]):
                    tally.run(point, number)
        measured = tally.measured()
    return SCENARIO.result(measured, findings=_findings(measured))


def _point(target: QuorumTarget, votes: str, load: int, workload: Workload) -> Point:
    return Point(target, target.caller(workload), Closed(load), {"votes": votes, "load": load})


def _findings(measured: Sequence[Measured]) -> list[Finding]:
    by_labels = {(m.labels["votes"], m.labels["load"]): m for m in measured}

    def ratio(what: str, load: int, of: Callable[[Measured], Sequence[float]]) -> Finding:
        pairs = paired_ratio(of(by_labels[_WITH, load]), of(by_labels[_WITHOUT, load]))
        return Finding(
            text=f"{what} with scores, as a multiple of that without, median over pairs",
            value=value_of(pairs),
            no_effect=1,
        )

    return [
        ratio(f"answers per second at {_BUSY} callers", _BUSY, lambda m: m.throughputs),
        ratio(f"latency p50 at {_BUSY} callers", _BUSY, lambda m: m.p50s_ms),
        ratio("latency p50 of a lone request", _LONE, lambda m: m.p50s_ms),
        ratio(f"CPU of an answer at {_BUSY} callers", _BUSY, lambda m: m.cpu_ms),
    ]


SCENARIO = Scenario(
    "scores",
    "Votes with scores",
    "What does it cost that every LLM also returns the log-probability of its values? The deployment's LLMs "
    "with `scores: true`, the default, and with `scores: false`, on two servers that are loaded in turn.",
    _play,
)
