# SPDX-License-Identifier: Apache-2.0
"""Run scenarios: measure their points in turn and compute the figures of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from quorum.evaluation.stats import Estimate, Floats, quantile, quantiles
from quorum_bench.bootstrap import interval_of, median_draws, quantile_draws
from quorum_bench.load import Closed, LoadError
from quorum_bench.measure import SATURATED, Effort, Point, Prices, Run, measure
from quorum_bench.metrics import ALL, NoValue
from quorum_bench.metrics.graph import steps_of
from quorum_bench.metrics.latency import QUANTILES
from quorum_bench.results import PointResult, ScenarioResult, Step, Value
from quorum_bench.sample_file import SampleFile
from quorum_bench.samples import Samples
from quorum_contract.errors import QuorumError

T = TypeVar("T")
Form = Literal["short", "long"]
_LATE_MS = 2.0
_CROWDED = 0.2
_LONGER = 4
_LONGEST_S = 20.0


class Skipped(QuorumError):
    """A scenario cannot run here; the message says what it needs."""

    code = "SCENARIO_SKIPPED"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a benchmark.

    Attributes:
        form: Fewer points, or all.
        effort: Length and number of runs.
        slo_ms: Latency objective.
        prices: Of machine and tokens.
        deploy: A deployment of real LLMs.
        listings: JSONL file of product texts for it.
        votes: A votes table with gold labels.
        arrivals: File of arrival times.
        perf_analyzer: Path of NVIDIA's program.
    """

    form: Form
    effort: Effort
    slo_ms: float = 50.0
    prices: Prices | None = None
    deploy: Path | None = None
    listings: Path | None = None
    votes: Path | None = None
    arrivals: Path | None = None
    perf_analyzer: Path | None = None

    def pick(self, short: T, long: T) -> T:
        """Choose by the form."""
        return short if self.form == "short" else long


@dataclass(frozen=True, slots=True)
class Measured:
    """A point and its runs."""

    id: str
    labels: Mapping[str, str | int | float]
    runs: tuple[Run, ...]

    @property
    def latencies(self) -> list[Floats]:
        """Per run, ms, in the order of sending."""
        return [run.samples.latency_ms for run in self.runs]

    def median(self, of: Callable[[Run], float]) -> float:
        """Median over the runs."""
        return float(np.median([of(run) for run in self.runs]))

    @property
    def p50s_ms(self) -> list[float]:
        """Per run, median latency."""
        return [float(np.median(latencies)) for latencies in self.latencies]

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return float(np.median(self.p50s_ms))

    @property
    def throughputs(self) -> list[float]:
        """Per run, answers per second."""
        return [run.answered / run.seconds for run in self.runs]

    @property
    def throughput(self) -> float:
        """Answers per second."""
        return float(np.median(self.throughputs))

    @property
    def cpu_ms(self) -> list[float]:
        """Per run, CPU milliseconds of the target per answer."""
        return [(run.last.cpu_s - run.first.cpu_s) / run.answered * 1e3 for run in self.runs]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A question that the benchmark answers.

    Attributes:
        name: On the command line.
        title: In the report.
        question: In the report.
        play: Measures; may raise :class:`Skipped`.
    """

    name: str
    title: str
    question: str
    play: Callable[[Bench], ScenarioResult]

    def result(self, measured: Sequence[Measured], **more: object) -> ScenarioResult:
        """The points as results, with findings, plots and tables in ``more``."""
        fields = {"points": [point_result(m) for m in measured], **more}
        return ScenarioResult.model_validate(
            {"name": self.name, "title": self.title, "question": self.question, **fields}
        )


@dataclass(slots=True)
class Bench:
    """Measure points and keep their samples, for scenarios.

    Attributes:
        options: The caller's.
        file: File of the samples.
        say: Called with each run in one line.
    """

    options: Options
    file: SampleFile
    say: Callable[[str], None] = field(default=lambda _: None)

    def measure(self, scenario: str, points: Sequence[Point], effort: Effort | None = None) -> list[Measured]:
        """Measure points in turn: a first run of each, a second of each, and so on.

        Raises:
            LoadError: A generator failed.
        """
        tally = self.tally(scenario, effort)
        for number in range(tally.effort.runs):
            for point in points:
                tally.run(point, number)
        return tally.measured()

    def tally(self, scenario: str, effort: Effort | None = None) -> Tally:
        """Start a tally, for a scenario that orders its runs itself."""
        return Tally(self, scenario, effort or self.options.effort)


class Tally:
    """Collect the runs of a scenario's points, in any order.

    Args:
        bench: The bench.
        scenario: Its name.
        effort: Of each run.
    """

    def __init__(self, bench: Bench, scenario: str, effort: Effort) -> None:
        self.effort = effort
        self._bench, self._scenario = bench, scenario
        self._runs: dict[str, dict[int, Run]] = {}
        self._labels: dict[str, dict[str, str | int | float]] = {}

    def run(self, point: Point, number: int) -> Run:
        """Measure a point once more.

        Callers who wait for each answer may see none in a short run on a busy machine: the run is then
        repeated over four times as long, up to 20 s.

        Args:
            point: The point.
            number: Number of the run, from 0.

        Raises:
            LoadError: A generator failed, or nothing was answered.
            ValueError: Another point of that run has the same labels.
        """
        ident = point_id(self._scenario, point.labels)
        if number in self._runs.get(ident, {}):
            raise ValueError(f"{self._scenario}: two points have the same labels, {ident}")
        run, samples = self._answered(point, ident)
        self._labels[ident] = dict(point.labels)
        self._runs.setdefault(ident, {})[number] = run
        self._bench.file.add(ident, number, samples, run.window_ns)
        self._bench.say(_line(ident, number, self.effort.runs, run))
        return run

    def _answered(self, point: Point, ident: str) -> tuple[Run, Samples]:
        effort = self.effort
        while True:
            run, samples = measure(point, effort, self._bench.options.prices)
            # Fixed arrivals are as they are: a crowd that nobody answered is a finding.
            if run.has_answers or not isinstance(point.load, Closed):
                return replace(run, repeated=effort is not self.effort), samples
            seen = f"{ident}: no answer in {effort.seconds:g} s ({_outcomes(run)})"
            if effort.seconds >= _LONGEST_S:
                raise LoadError(f"{seen}; see that the server answers, or give runs longer --seconds")
            effort = replace(effort, seconds=min(_LONGER * effort.seconds, _LONGEST_S))
            self._bench.say(f"{seen}; the run is repeated over {effort.seconds:g} s")

    def measured(self) -> list[Measured]:
        """All points, in the order of their first runs."""
        return [
            Measured(ident, self._labels[ident], tuple(runs.values())) for ident, runs in self._runs.items()
        ]


def point_id(scenario: str, labels: Mapping[str, str | int | float]) -> str:
    """Format an id: ``scenario/key=value,...``."""
    return f"{scenario}/" + ",".join(f"{key}={value}" for key, value in labels.items())


def point_result(measured: Measured) -> PointResult:
    """Compute every metric of a point over its runs."""
    values: dict[str, Value] = {}
    missing: dict[str, str] = {}
    for metric in ALL:
        try:
            runs = [metric.of(run) for run in measured.runs]
        except NoValue as error:
            missing[metric.key] = str(error)
            continue
        values[metric.key] = value_of(interval_of(float(np.median(runs)), median_draws(runs)), runs)
    latencies = measured.latencies
    if all(map(len, latencies)):
        tables = quantile_draws(latencies, list(QUANTILES.values()))
        for draws, (name, q) in zip(tables, QUANTILES.items(), strict=True):
            runs = [quantile(run, q) for run in latencies]
            values[f"latency_{name}"] = value_of(interval_of(float(np.median(runs)), draws), runs)
    return PointResult(
        id=measured.id,
        labels=dict(measured.labels),
        values=values,
        missing=missing,
        steps=_steps(measured.runs),
        notes=_notes(measured.runs),
    )


def value_of(interval: Estimate, runs: Sequence[float] = ()) -> Value:
    """Return an interval in the form that results hold."""
    return Value(value=interval.value, low=interval.low, high=interval.high, runs=list(runs))


def _steps(runs: Sequence[Run]) -> list[Step]:
    tables = [steps_of(run) for run in runs]
    names = [name for name in tables[0] if all(name in table for table in tables)]
    return [
        Step(
            step=name,
            count=sum(table[name].count for table in tables),
            queue_ms=float(np.median([table[name].queue_ms for table in tables])),
            compute_ms=float(np.median([table[name].compute_ms for table in tables])),
        )
        for name in names
    ]


def _outcomes(run: Run) -> str:
    statuses = run.samples.status[~run.samples.ok]
    failed = f", {len(statuses)} of them failed, the first with status {statuses[0]}" if len(statuses) else ""
    return f"{len(run.samples)} requests sent{failed}"


def _notes(runs: Sequence[Run]) -> list[str]:
    notes = []
    repeated = sum(run.repeated for run in runs)
    if repeated:
        notes.append(f"nothing was answered in {repeated} of {len(runs)} runs, which were repeated, longer")
    unsteady = sum(not run.steady for run in runs)
    if unsteady:
        notes.append(f"latency had not settled in {unsteady} of {len(runs)} runs (MSER-5)")
    if max(run.generator_cpu for run in runs) > SATURATED:
        notes.append("the load generator was saturated: the figures are partly its own")
    if any(len(r.samples) and quantile(r.samples.lateness_ms, 0.99) > _LATE_MS for r in runs):
        notes.append(f"the generator sent 1 % of the requests more than {_LATE_MS:g} ms late")
    if max(run.others_cpu for run in runs) > _CROWDED:
        notes.append(f"neighbours used up to {max(run.others_cpu for run in runs):.1f} cores of the machine")
    return notes


def _line(ident: str, number: int, runs: int, run: Run) -> str:
    latency = run.samples.latency_ms
    p50, p99 = quantiles(latency, [0.5, 0.99]) if len(latency) else (float("nan"),) * 2
    return (
        f"{ident} run {number + 1}/{runs}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
        f"{run.answered / run.seconds:.0f} answers/s"
    )
