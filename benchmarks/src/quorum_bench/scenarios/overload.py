# SPDX-License-Identifier: Apache-2.0
"""Measure more requests than the server can answer, and how soon it is well again after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from quorum.deployment import load_deployment
from quorum.deployment.schema import GateSpec
from quorum.evaluation.stats import quantile
from quorum_bench.arrivals import Offsets, poisson
from quorum_bench.bench import Bench, Scenario, point_id, value_of
from quorum_bench.bootstrap import interval_of, median_draws
from quorum_bench.load import Closed, Generated, Open, run_load
from quorum_bench.results import Finding, Plot, PointResult, ScenarioResult, Value
from quorum_bench.samples import NOT_SENT, Samples
from quorum_bench.targets import CallerSpec
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

GOOD_MS = 2_000.0
"""An answer that takes longer is no good one; a person would have gone."""

_MEMBERS, _ATTRIBUTES, _SATURATING = 5, 5, 32
_FACTORS = (1, 2, 3, 10)
_AFTER = 0.5
_DEFAULT = GateSpec().max_in_flight
_AIM_MS = 100.0
_LATE_MS = 50.0
_PATIENCE_S = 60.0
_DEPLOY, _LISTINGS = Path("deploy.yaml"), Path("examples/demo/listings.jsonl")


def _play(bench: Bench) -> ScenarioResult:
    points, findings = [], []
    for members, workload, serve, limit in _servers(bench):
        made, capacity = _crowd(bench, members, workload, serve, limit)
        points += made
        findings += [_refusals(made[-1]), _most_inside(members, capacity)]
        fitting = int(capacity * GOOD_MS / 1e3)
        if fitting < limit:
            made, _ = _crowd(bench, members, workload, serve, fitting)
            points += made
            findings.append(_refusals(made[-1]))
    result = SCENARIO.result([], findings=[f for f in findings if f], plots=_PLOTS)
    return result.model_copy(update={"points": points})


Serve = Callable[[int], QuorumTarget]
"""A server, not yet started, whose gate admits so many."""


def _servers(bench: Bench) -> Iterator[tuple[str, Workload, Serve, int]]:
    made = Workload.made(_ATTRIBUTES)
    names: dict[str, dict[str, object]] = {f"m{i}": {} for i in range(_MEMBERS)}
    yield "instant", made, lambda n: QuorumTarget(made, names, gate={"max_in_flight": n}), _DEFAULT
    deploy, listings = bench.options.deploy or _DEPLOY, bench.options.listings or _LISTINGS
    if deploy.is_file() and listings.is_file():
        spec = load_deployment(deploy)
        texts = Workload.of_listings(listings, list(spec.attributes))
        limit = spec.gate.max_in_flight
        yield "LLMs", texts, lambda n: QuorumTarget(texts, deploy=deploy, gate={"max_in_flight": n}), limit


def _crowd(
    bench: Bench, members: str, workload: Workload, serve: Serve, limit: int
) -> tuple[list[PointResult], float]:
    """Measure every load on a server; also returns its capacity, answers per second."""
    with serve(limit) as target:
        caller, seconds = target.caller(workload), bench.options.pick(5.0, 10.0)
        callers = Closed(min(limit, _SATURATING))
        run_load(caller, callers, seconds / 2)
        full = run_load(caller, callers, seconds)
        capacity = full.samples.answered_between(full.start_ns, full.stop_ns) / seconds
        label = f"{members}, {limit} inside"
        bench.say(
            f"{SCENARIO.name}/members={label}: {capacity:.1f} answers/s by {callers.concurrency} callers"
        )
        return [_loaded(bench, label, caller, capacity, factor, seconds) for factor in _FACTORS], capacity


def _loaded(
    bench: Bench, members: str, caller: CallerSpec, capacity: float, factor: int, seconds: float
) -> PointResult:
    rows: list[dict[str, float]] = []
    for number in range(bench.options.effort.runs):
        arrivals = crowd_and_after(capacity * factor, capacity * _AFTER, seconds, seed=number)
        load = Open(arrivals, capacity * factor, _PATIENCE_S)
        generated = run_load(caller, load, 2 * seconds)
        rows.append(figures_of(generated, seconds))
        ident = point_id(SCENARIO.name, {"members": members, "load": factor})
        window = generated.start_ns, generated.start_ns + int(seconds * 1e9)
        bench.file.add(ident, number, generated.samples, window)
        bench.say(f"{ident} run {number + 1}: " + ", ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()))
    return _point(members, factor, rows)


def crowd_and_after(rate: float, after: float, seconds: float, seed: int) -> Offsets:
    """Draw arrivals at ``rate`` a second for ``seconds``, then at ``after`` a second for as long."""
    crowd = poisson(rate, seconds, seed)
    return np.concatenate([crowd, poisson(after, seconds, seed) + int(seconds * 1e9)])


def figures_of(generated: Generated, seconds: float) -> dict[str, float]:
    """Compute the figures of a run by metric key; those without any request are left out.

    Throughput and goodput go by one clock: answers that came before the load fell, of its seconds.
    """
    turn_ns = generated.start_ns + int(seconds * 1e9)
    samples = generated.samples
    came = samples.where(samples.ok & (samples.done_ns >= generated.start_ns) & (samples.done_ns < turn_ns))
    crowd = generated.samples.between(generated.start_ns, turn_ns)
    answered, refused = crowd.latency_ms, crowd.refusal_ms
    figures = {
        "throughput": len(came) / seconds,
        "goodput": float(np.count_nonzero(came.latency_ms <= GOOD_MS)) / seconds,
        "failed": 100.0 * (1.0 - float(np.mean(crowd.ok))),
        "lateness_p99": quantile(crowd.lateness_ms, 0.99),
        "generator_cpu": 100.0 * generated.cpu_share,
        "recovery": recovery_s(generated.samples, turn_ns),
        "not_sent": float(np.count_nonzero(crowd.status == NOT_SENT)),
    }
    for name, times in (("latency", answered), ("refusal", refused)):
        if len(times):
            figures |= {f"{name}_p50": quantile(times, 0.5), f"{name}_p99": quantile(times, 0.99)}
    return figures


def recovery_s(samples: Samples, turn_ns: int) -> float:
    """Seconds from the fall of the load to the last request without a good answer; 0 for none."""
    after = samples.where(samples.intended_ns >= turn_ns)
    bad = ~after.ok | ((after.done_ns - after.intended_ns) / 1e6 > GOOD_MS)
    return float((after.intended_ns[bad].max() - turn_ns) / 1e9) if bad.any() else 0.0


def _point(members: str, factor: int, rows: Sequence[dict[str, float]]) -> PointResult:
    keys = dict.fromkeys(key for row in rows for key in row if key != "not_sent")
    labels: dict[str, str | int | float] = {"members": members, "load": factor}
    values = {}
    for key in keys:
        runs = [row[key] for row in rows if key in row]
        values[key] = value_of(interval_of(float(np.median(runs)), median_draws(runs)), runs)
    notes = []
    if values["lateness_p99"].value > _LATE_MS:
        late = values["lateness_p99"].value
        notes.append(f"the generator itself was {late:.0f} ms late (p99), which counts in every time")
    if unsent := sum(row["not_sent"] for row in rows):
        notes.append(f"{unsent:.0f} requests were not sent: too many in flight, counted as failed")
    return PointResult(
        id=point_id(SCENARIO.name, labels),
        labels=labels,
        values=values,
        missing={} if "refusal_p99" in values else {"refusal_p99": "nothing was refused"},
        notes=notes,
    )


def _most_inside(members: str, capacity: float) -> Finding:
    most = capacity * GOOD_MS / 1e3
    return Finding(
        text=f"{members}: `gate.max_in_flight` with which the last one admitted gets a good answer",
        value=Value(value=most, low=most, high=most),
        unit="requests",
    )


def _refusals(most: PointResult) -> Finding | None:
    value = most.values.get("refusal_p99")
    if value is None:
        return None
    return Finding(
        text=f"{most.labels['members']}: refusals at {most.labels['load']} times the capacity, p99",
        value=value,
        unit="ms",
        aim=f"under {_AIM_MS:g} ms",
        met=value.value < _AIM_MS,
    )


_PLOTS = [
    Plot(
        title="time to an answer and to a refusal, p99",
        x="load",
        y=["latency_p99", "refusal_p99"],
        series="members",
        log_x=True,
        log_y=True,
    ),
    Plot(
        title=f"answers within {GOOD_MS / 1e3:g} s",
        x="load",
        y=["goodput"],
        series="members",
        log_x=True,
        log_y=True,
    ),
]
SCENARIO = Scenario(
    "overload",
    "More requests than can be answered",
    f"Poisson arrivals at 1, 2, 3 and 10 times what {_SATURATING} callers get, then at half of it: how many "
    f"good answers are there (within {GOOD_MS / 1e3:g} s), how long do answers and refusals take, and how "
    "long after the crowd are requests still refused or late? The generator runs on the same machine and "
    "takes its share of the cores. Throughput counts the answers that come before the load falls, goodput "
    "the good ones of these; failed, latency and refusal are of the requests sent before. "
    "Where fewer inside would give the last one admitted a good answer, that limit is measured too.",
    _play,
)
