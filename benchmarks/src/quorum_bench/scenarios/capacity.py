# SPDX-License-Identifier: Apache-2.0
"""Measure capacity: more callers, higher rates, longer texts, channels, recorded arrivals."""

from __future__ import annotations

from quorum_bench.arrivals import poisson, replayed
from quorum_bench.bench import Bench, Measured, Scenario, Skipped
from quorum_bench.load import Closed, Open
from quorum_bench.measure import Effort, Point
from quorum_bench.results import Finding, Plot, ScenarioResult, Value
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload
from quorum_contract import CHANNELS

_MEMBERS = 5
_ATTRIBUTES = 5
_SATURATING = 32


def _target(workload: Workload) -> QuorumTarget:
    return QuorumTarget(workload, {f"m{i}": {} for i in range(_MEMBERS)})


def _concurrency(bench: Bench) -> ScenarioResult:
    workload = Workload.made(_ATTRIBUTES)
    with _target(workload) as target:
        caller = target.caller(workload)
        counts = bench.options.pick((1, 8, 64), (1, 2, 4, 8, 16, 32, 64, 128))
        measured = bench.measure(
            CONCURRENCY.name, [Point(target, caller, Closed(c), {"concurrency": c}) for c in counts]
        )
    best = max(measured, key=lambda m: m.throughput)
    findings = [
        Finding(
            text=f"most answers per second, at {best.labels['concurrency']} callers", value=_throughput(best)
        )
    ]
    plots = [
        Plot(title="throughput", x="concurrency", y=["throughput"], log_x=True),
        Plot(title="latency", x="concurrency", y=["latency_p50", "latency_p99"], log_x=True),
    ]
    return CONCURRENCY.result(measured, findings=findings, plots=plots)


def _rate(bench: Bench) -> ScenarioResult:
    workload, options = Workload.made(_ATTRIBUTES), bench.options
    with _target(workload) as target:
        caller = target.caller(workload)
        probe = Point(target, caller, Closed(_SATURATING), {"concurrency": _SATURATING})
        (capacity,) = bench.measure(RATE.name, [probe])
        shares = options.pick((30, 70, 110), (10, 25, 40, 50, 60, 70, 80, 90, 95, 100, 110))
        seconds = options.effort.seconds + options.effort.warmup_s
        points = []
        for number, share in enumerate(shares):
            rate = capacity.throughput * share / 100
            load = Open(poisson(rate, seconds, seed=number), rate)
            points.append(Point(target, caller, load, {"load": share}, slo_ms=options.slo_ms))
        measured = bench.measure(RATE.name, points)
    findings = []
    good = [m for m in measured if _within(m, options.slo_ms)]
    if good:
        top = max(good, key=lambda m: float(m.labels["load"]))
        findings.append(
            Finding(
                text=f"highest load at which 99 % of the requests kept {options.slo_ms:g} ms "
                f"({top.labels['load']} % of what a closed loop reaches)",
                value=_throughput(top),
                unit="answers/s",
            )
        )
    plots = [
        Plot(
            title="latency, counted from the intended time of sending",
            x="load",
            y=["latency_p50", "latency_p99"],
        ),
        Plot(title="throughput and goodput", x="load", y=["throughput", "goodput"]),
    ]
    return RATE.result([*measured, capacity], findings=findings, plots=plots)


def _text(bench: Bench) -> ScenarioResult:
    lengths = bench.options.pick((50, 20_000), (50, 200, 1_000, 5_000, 10_000, 20_000, 32_000))
    measured = []
    for length in lengths:
        workload = Workload.made(_ATTRIBUTES, text_characters=length)
        with _target(workload) as target:
            measured += bench.measure(
                TEXT.name, [Point(target, target.caller(workload), Closed(1), {"characters": length})]
            )
    plot = Plot(title="latency p50", x="characters", y=["latency_p50"], log_x=True)
    return TEXT.result(measured, plots=[plot])


def _channels(bench: Bench) -> ScenarioResult:
    workload, options = Workload.made(_ATTRIBUTES), bench.options
    with _target(workload) as target:
        measured = bench.measure(
            CHANNELS_.name,
            [
                Point(
                    target,
                    target.channel_caller(workload, name),
                    Closed(c),
                    {"channel": name, "concurrency": c},
                )
                for name in CHANNELS
                for c in options.pick((1,), (1, 16))
            ],
        )
    plots = [
        Plot(title="latency p50", x="channel", y=["latency_p50"], series="concurrency"),
        Plot(title="LLM calls per answer", x="channel", y=["calls"], series="concurrency"),
    ]
    return CHANNELS_.result(measured, plots=plots)


def _replay(bench: Bench) -> ScenarioResult:
    options = bench.options
    if options.arrivals is None:
        raise Skipped("give recorded arrival times with --arrivals FILE")
    workload, effort = Workload.made(_ATTRIBUTES), options.effort
    arrivals = replayed(options.arrivals)
    length_s = float(arrivals[-1]) / 1e9
    rate = len(arrivals) / max(length_s, 1e-9)
    with _target(workload) as target:
        point = Point(
            target,
            target.caller(workload),
            Open(arrivals, rate),
            {"arrivals": options.arrivals.name},
            slo_ms=options.slo_ms,
        )
        measured = bench.measure(REPLAY.name, [point], Effort(length_s, 0.0, effort.runs))
    return REPLAY.result(measured)


def _within(measured: Measured, slo_ms: float) -> bool:
    return all(
        bool(len(run.samples)) and float((run.samples.latency_ms <= slo_ms).sum()) >= 0.99 * len(run.samples)
        for run in measured.runs
    )


def _throughput(measured: Measured) -> Value:
    runs = measured.throughputs
    return Value(value=measured.throughput, low=min(runs), high=max(runs), runs=runs)


CONCURRENCY = Scenario(
    "concurrency",
    "Callers at once",
    "How do throughput and latency grow with the number of callers that each wait for their answer?",
    _concurrency,
)
RATE = Scenario(
    "rate",
    "Requests at random times",
    "How long do callers wait at a given load? Poisson arrivals at shares of what a closed loop reaches. A "
    "request counts from when it was meant to be sent, so stalls count in full.",
    _rate,
)
TEXT = Scenario("text", "Longer texts", "What does the length of the product text cost?", _text)
CHANNELS_ = Scenario(
    "channels", "Channels", "Do the channels differ in latency and in LLM calls per answer?", _channels
)
REPLAY = Scenario(
    "replay", "Recorded arrivals", "How long do callers wait when requests arrive as recorded?", _replay
)
