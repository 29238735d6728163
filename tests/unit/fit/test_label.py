# SPDX-License-Identifier: Apache-2.0
"""The cells chosen for labelling disagree, are new, and teach as much as twice as many random ones."""

import os
from pathlib import Path

import numpy as np
import pytest

from quorum.fit import apply, build_table, learn, read_votes
from quorum.fit.label import choose, disagreement, label_summary
from quorum.fit.score import is_right
from quorum.fit.simulate import independent
from quorum.fit.votes import Cell


def simulated(seed, accuracy, cells=900, labelled=900, values=5):
    rng = np.random.default_rng(seed)
    codes, truth = independent(rng, cells, np.array(accuracy), values)
    rows = [
        Cell(
            f"p{i // 3}",
            "c",
            "",
            f"a{i % 3}",
            tuple(None if v < 0 else f"v{v}" for v in codes[i]),
            (f"v{truth[i]}",) if i < labelled else (),
        )
        for i in range(cells)
    ]
    return build_table([f"m{j}" for j in range(len(accuracy))], rows)


@pytest.fixture(scope="module")
def recorded():
    folder = os.environ.get("QUORUM_DATA")
    if not folder or not (path := Path(folder) / "ae-110k" / "votes.jsonl").exists():
        pytest.skip("set QUORUM_DATA to the folder that holds ae-110k/votes.jsonl")
    return read_votes(path)


def test_disagreement_is_entropy():
    rows = [("x", "x", "x", None), ("x", "y", None, None), ("x", "x", "y", "z"), (None,) * 4]
    table = build_table("abcd", [Cell("p", "", "", f"a{i}", row) for i, row in enumerate(rows)])
    assert disagreement(table).tolist() == pytest.approx([0.0, np.log(2), 1.5 * np.log(2), 0.0])


def test_cells_to_label_disagree_are_new_and_belong_to_many_products():
    table = simulated(9, [0.9, 0.8, 0.7, 0.6], labelled=300)
    rows = choose(table, 60, seed=1)
    assert len(set(rows.tolist())) == 60
    assert not table.labelled[rows].any()
    assert (disagreement(table)[rows] > 0).sum() == 36
    assert len(np.unique(table.products[rows])) >= 45
    assert np.array_equal(rows, choose(table, 60, seed=1))
    assert sum(label_summary(table, rows).values()) == 60
    half = disagreement(table)[rows[:30]] > 0
    assert 12 <= half.sum() <= 24


def test_choosing_from_little():
    table = simulated(10, [0.9, 0.8, 0.7], cells=30, labelled=25)
    assert len(choose(table, 50)) == 5 - (table.codes[25:] < 0).all(axis=1).sum()
    assert len(choose(table, 0)) == 0
    with pytest.raises(ValueError, match="labels is -1"):
        choose(table, -1)


def test_an_attribute_without_labels_comes_first():
    table = simulated(11, [0.9, 0.7, 0.6], cells=900, labelled=0)
    gold = [cell.attribute != "a0" and i < 600 for i, cell in enumerate(table.cells)]
    rows = [
        Cell(c.product, c.category, c.title, c.attribute, c.values, ("v1",) if g else ())
        for c, g in zip(table.cells, gold, strict=True)
    ]
    chosen = build_table(table.members, rows)
    names = label_summary(chosen, choose(chosen, 100))
    assert names["a0"] > 70


@pytest.mark.data
def test_50_chosen_labels_are_worth_100_random_ones(recorded):
    blank = recorded.with_gold(np.zeros(len(recorded), np.bool_))
    gaps = []
    for seed in range(20):
        half = np.random.default_rng(seed).permutation(recorded.n_products) % 2 == 0
        pool = np.flatnonzero(half[recorded.products])
        test = ~half[recorded.products]
        picks = {
            "chosen": pool[choose(blank.take(pool), 50, seed=seed)],
            "random": np.random.default_rng(seed).choice(pool, 100, replace=False),
        }
        right = {}
        for name, rows in picks.items():
            weights = learn(recorded.with_gold(np.isin(np.arange(len(recorded)), rows)), "loglinear")
            right[name] = is_right(recorded, apply(recorded, weights))[test].mean()
        gaps.append(right["chosen"] - right["random"])
    assert np.mean(gaps) >= -0.002
