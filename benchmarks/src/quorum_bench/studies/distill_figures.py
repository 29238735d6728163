# SPDX-License-Identifier: Apache-2.0
"""Figures of the study ``distill`` over folds and seeds, with intervals over queries; rows as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.distill.figures import HeldOut, Rated
from quorum.evaluation.relevance import OverQueries, Statistic, auc, interval, mean, pearson
from quorum.retrieval.judged import Judged

Row = dict[str, Any]
RESAMPLES = 500


class Judge:
    """Figures over folds and seeds: means, with intervals over all queries."""

    def __init__(self, judged: Judged, folds: npt.NDArray[np.int64], held: Mapping[int, HeldOut]) -> None:
        """Prepare draws of queries; ``folds`` is (P,), and ``held`` what each fold holds out."""
        self._held = held
        chosen = np.isin(folds, list(held))
        self._over = OverQueries(judged.keyphrase_of[chosen], RESAMPLES)
        self._places = {fold: np.flatnonzero(folds[chosen] == fold) for fold in held}

    def figures(self, name: str, size: int, runs: Mapping[tuple[int, int], Rated]) -> Row:
        """Means over folds and seeds, and the runs' own figures."""
        found: Row = {"kind": "figures", "name": name, "dims": size}
        for figure, statistic in self._statistics(runs).items():
            found[figure] = self._shown(statistic, self._over.draws(statistic)[:, 0])
        return found | {
            "runs": {f"{fold}/{seed}": self._run(fold, own) for (fold, seed), own in runs.items()}
        }

    def difference(
        self,
        name: str,
        other: str,
        size: int,
        runs: Mapping[tuple[int, int], Rated],
        others: Mapping[tuple[int, int], Rated],
    ) -> Row:
        """The first less the second, paired over queries."""
        found: Row = {"kind": "difference", "name": name, "to": other, "dims": size}
        theirs = self._statistics(others)
        for figure, ours in self._statistics(runs).items():
            draws = self._over.draws(ours, theirs[figure])
            whole = np.ones(sum(map(len, self._places.values())))
            shown = interval(ours(whole) - theirs[figure](whole), draws[:, 0] - draws[:, 1])
            found[figure] = {"value": shown.value, "low": shown.low, "high": shown.high}
        return found

    def _run(self, fold: int, rated: Rated) -> dict[str, float]:
        held = self._held[fold]
        found = {"pearson": pearson(rated.scores, held.labels), "auc": auc(rated.scores, held.relevant)}
        return found | ({"recall": mean(rated.hits)} if len(rated.hits) else {})

    def _statistics(self, runs: Mapping[tuple[int, int], Rated]) -> dict[str, Statistic]:
        # Of zero-shot and the cross-encoder all seeds are equal.
        distinct = {id(own.scores): (fold, own) for (fold, _), own in runs.items()}.values()

        def averaged(of: Callable[[HeldOut, Rated, npt.NDArray[np.float64]], float]) -> Statistic:
            def statistic(weights: npt.NDArray[np.float64]) -> float:
                values = [of(self._held[fold], own, weights[self._places[fold]]) for fold, own in distinct]
                return float(np.mean(values))

            return statistic

        found: dict[str, Statistic] = {
            "pearson": averaged(lambda held, own, weights: pearson(own.scores, held.labels, weights)),
            "gold_pearson": averaged(lambda held, own, w: pearson(own.scores, _gold(held), w)),
            "auc": averaged(lambda held, own, weights: auc(own.scores, held.relevant, weights)),
        }
        if all(len(own.hits) for own in runs.values()):
            found["recall"] = averaged(lambda held, own, weights: mean(own.hits, weights[held.relevant]))
        return found

    def _shown(self, statistic: Statistic, draws: npt.NDArray[np.float64]) -> dict[str, float]:
        whole = np.ones(sum(map(len, self._places.values())))
        found = interval(statistic(whole), draws)
        return {"value": found.value, "low": found.low, "high": found.high}


def _gold(held: HeldOut) -> npt.NDArray[np.float32]:
    assert held.gold is not None
    return held.gold


HEAD = f"{'method':<32}{'dims':>5}  {'Pearson':<22}{'Pearson, final':<22}{'AUC':<22}{'recall@10':<22}"


def line(row: Row) -> str:
    """A row as text."""
    if row["kind"] == "int8":
        return f"int8 less float32, {row['figure']:<8} {row['mean']:+.4f}"
    if row["kind"] == "ceiling":
        return f"rater {row['rater'] + 1} with the mean of the other two: Pearson {row['pearson']:.3f}"
    sign = "+" if row["kind"] == "difference" else ""
    name = row["name"] if not sign else f"{row['name']} to {row['to']}"
    cells = [
        f"{row[figure]['value']:{sign}.3f} [{row[figure]['low']:{sign}.3f}, {row[figure]['high']:{sign}.3f}]"
        if figure in row
        else "-"
        for figure in ("pearson", "gold_pearson", "auc", "recall")
    ]
    return f"{name:<32}{row['dims']:>5}  " + "".join(f"{cell:<22}" for cell in cells)
