# SPDX-License-Identifier: Apache-2.0
"""Compare accuracy and cost: every LLM alone, the majority, learned weights, on the same held-out cells."""

from __future__ import annotations

from collections.abc import Sequence

from quorum.evaluation.evaluate import Evaluation, evaluate
from quorum.votes import read_votes
from quorum_bench.bench import Bench, Scenario, Skipped, point_id
from quorum_bench.results import Finding, Plot, PointResult, ScenarioResult, Value


def _play(bench: Bench) -> ScenarioResult:
    if bench.options.votes is None:
        raise Skipped("give a votes table with gold with --votes FILE; `quorum extract --votes` records one")
    evaluation = evaluate(read_votes(bench.options.votes))
    points = _alone(evaluation) + _together(evaluation)
    front = pareto([(float(p.labels["calls per answer"]), p.values["accuracy"].value) for p in points])
    best = [str(p.labels["who"]) for p, on in zip(points, front, strict=True) if on]
    findings = [
        Finding(text=f"no other is both cheaper and better than: {', '.join(best)}"),
        Finding(text=evaluation.verdict),
    ]
    plot = Plot(title="accuracy (LLM calls per answer)", x="who", y=["accuracy"])
    return SCENARIO.result([], findings=findings, plots=[plot]).model_copy(update={"points": points})


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Mark each (cost, accuracy) that no other beats: no dearer, no worse, and not both equal."""
    return [
        not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)
        for cost, accuracy in points
    ]


def _alone(evaluation: Evaluation) -> list[PointResult]:
    return [
        _point(f"{name} alone", 1.0, (100 * a.value, 100 * a.low, 100 * a.high))
        for name, a in evaluation.members.items()
    ]


def _together(evaluation: Evaluation) -> list[PointResult]:
    points = []
    members = len(evaluation.members)
    for name, method in evaluation.methods.items():
        accuracy = (100 * method.accuracy, 100 * method.ci95[0], 100 * method.ci95[1])
        points.append(_point(name, float(members), accuracy))
        if method.questions_saved > 0:
            asked = members * (1.0 - method.questions_saved)
            points.append(_point(f"{name}, asked in turn", asked, accuracy))
    return points


def _point(who: str, calls: float, accuracy: tuple[float, float, float]) -> PointResult:
    label = f"{who} ({calls:.3g})"
    labels: dict[str, str | int | float] = {"who": label, "calls per answer": round(calls, 2)}
    value, low, high = accuracy
    return PointResult(
        id=point_id(SCENARIO.name, {"who": who}),
        labels=labels,
        values={"accuracy": Value(value=value, low=min(low, value), high=max(high, value))},
    )


SCENARIO = Scenario(
    "accuracy",
    "Accuracy and cost",
    "What does each further LLM call buy? Members, majority and learned weights on recorded answers of LLMs, "
    "cross-validated over products; learned weights have seen the gold of the other folds only.",
    _play,
)
