# SPDX-License-Identifier: Apache-2.0
"""Accuracy beside cost: every LLM alone, the majority, and learned weights, on the same held-out cells."""

from __future__ import annotations

from collections.abc import Sequence

from quorum.evaluation.evaluate import Evaluation, evaluate
from quorum.votes import read_votes
from quorum_bench.bench import Bench, Scenario, Skipped, point_id
from quorum_bench.results import Finding, Plot, PointResult, ScenarioResult, Value


def _play(bench: Bench) -> ScenarioResult:
    if bench.options.votes is None:
        raise Skipped("give a votes table with gold with --votes FILE; `quorum extract --votes` records one")
    found = evaluate(read_votes(bench.options.votes))
    points = _alone(found) + _together(found)
    front = pareto([(float(p.labels["calls per answer"]), p.values["accuracy"].value) for p in points])
    best = [str(p.labels["who"]) for p, on in zip(points, front, strict=True) if on]
    findings = [
        Finding(text=f"nobody is both cheaper and better than: {', '.join(best)}"),
        Finding(text=found.verdict),
    ]
    plot = Plot(title="accuracy (LLM calls per answer)", x="who", y=["accuracy"])
    return SCENARIO.result([], findings=findings, plots=[plot]).model_copy(update={"points": points})


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, accuracy) no other beats: cheaper or equal, and better or equal, and not both equal."""
    return [
        not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)
        for cost, accuracy in points
    ]


def _alone(found: Evaluation) -> list[PointResult]:
    return [
        _point(f"{name} alone", 1.0, (100 * a.value, 100 * a.low, 100 * a.high))
        for name, a in found.members.items()
    ]


def _together(found: Evaluation) -> list[PointResult]:
    points = []
    members = len(found.members)
    for name, method in found.methods.items():
        accuracy = (100 * method.accuracy, 100 * method.ci95[0], 100 * method.ci95[1])
        points.append(_point(name, float(members), accuracy))
        if method.calls_saved > 0:
            asked = members * (1.0 - method.calls_saved)
            points.append(_point(f"{name}, asked in turn", asked, accuracy))
    return points


def _point(who: str, calls: float, accuracy: tuple[float, float, float]) -> PointResult:
    told = f"{who} ({calls:.3g})"
    labels: dict[str, str | int | float] = {"who": told, "calls per answer": round(calls, 2)}
    value, low, high = accuracy
    return PointResult(
        id=point_id(SCENARIO.name, {"who": who}),
        labels=labels,
        values={"accuracy": Value(value=value, low=min(low, value), high=max(high, value))},
    )


SCENARIO = Scenario(
    "accuracy",
    "Accuracy beside cost",
    "What does each further LLM call buy? Members, majority and learned weights on recorded answers of LLMs, "
    "cross-validated over products; learned weights have seen the gold of the other folds only.",
    _play,
)
