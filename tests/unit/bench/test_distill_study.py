# SPDX-License-Identifier: Apache-2.0
"""Figures of the study of distilling: means over folds and seeds, paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from quorum.distill.figures import Rated, held_out_of
from quorum.evaluation.relevance import auc, pearson
from quorum.retrieval.judged import Judged, JudgedPair, gather
from quorum_bench.studies.distill import _positions
from quorum_bench.studies.distill_figures import Judge, line


@pytest.fixture
def judged() -> Judged:
    rng = np.random.default_rng(0)
    return gather(
        JudgedPair(
            item=f"i{number}", text=f"t{number}", keyphrase=f"q{number % 12}", label=label, value="x",
            confidence=1, gold=float(label > 0.5),
        )
        for number, label in enumerate(rng.random(120))
    )  # fmt: skip


def test_figures_are_means_over_folds_and_seeds(judged: Judged) -> None:
    folds = judged.keyphrase_of.astype(np.int64) % 2
    parts = {fold: judged.taking(folds == fold) for fold in (0, 1)}
    held = {fold: held_out_of(part, [], 0) for fold, part in parts.items()}
    rng = np.random.default_rng(1)
    runs, worse = {}, {}
    for fold in (0, 1):
        relevant = held[fold].relevant.sum()
        for seed in range(2):
            scores = parts[fold].labels + rng.normal(size=60).astype(np.float32) / 3
            runs[fold, seed] = Rated(scores, np.ones(relevant))
            worse[fold, seed] = Rated(scores[::-1].copy(), np.zeros(relevant))
    judge = Judge(judged, folds, held)
    row = judge.figures("two steps", 64, runs)
    expected = np.mean([pearson(own.scores, parts[fold].labels) for (fold, _), own in runs.items()])
    assert row["pearson"]["value"] == pytest.approx(expected)
    assert row["pearson"]["low"] < expected < row["pearson"]["high"]
    assert row["runs"]["1/0"]["auc"] == pytest.approx(auc(runs[1, 0].scores, parts[1].gold > 0.5))
    change = judge.difference("two steps", "worse", 64, runs, worse)
    assert change["pearson"]["low"] > 0
    assert change["recall"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "two steps to worse" in line(change)
    assert line(row).split()[2] == "64"


def test_positions_are_those_among_what_was_shown() -> None:
    rows = [
        {"keyphrase": "q", "item": "a", "search_rank": 40, "sim_impressions": 30},
        {"keyphrase": "q", "item": "b", "search_rank": 2, "sim_impressions": 0},
        {"keyphrase": "q", "item": "c", "search_rank": 7, "sim_impressions": 30},
    ]
    assert _positions(rows) == {("q", "c"): 1, ("q", "a"): 2}
