# SPDX-License-Identifier: Apache-2.0
"""Levels of scores: their edges, and histograms that tell votes apart by them."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from quorum.decision.cell import Parameters, decide_one
from quorum.decision.histogram import histogram
from quorum.decision.scores import EDGES, LEVELS, LOG_ODDS, NO_SCORE, level_of, levels_of

SCORES = st.one_of(st.none(), st.floats(-50, 0, width=32), st.sampled_from([0.0, -math.inf, math.nan]))


@pytest.mark.parametrize(("p", "level"), [(0.001, 0), (0.05, 0), (0.5, 3), (0.73, 4), (0.95, 6), (0.9999, 8)])
def test_the_level_is_that_of_the_closest_log_odds(p, level):
    assert level_of(math.log(p)) == level
    assert level in (0, LEVELS - 1) or abs(LOG_ODDS[level] - math.log(p / (1 - p))) <= 0.5


@given(st.lists(SCORES, min_size=1, max_size=20))
def test_levels_of_an_array_are_those_of_its_numbers(scores):
    row = np.array([math.nan if score is None else score for score in scores], np.float32)
    assert levels_of(row).tolist() == [level_of(score) for score in scores]


def test_edges_and_what_lies_beyond():
    assert [level_of(edge) for edge in EDGES] == list(range(1, LEVELS))
    assert [level_of(np.nextafter(edge, -9)) for edge in EDGES] == list(range(LEVELS - 1))
    assert (level_of(0.0), level_of(1e-7), level_of(-math.inf)) == (LEVELS - 1, LEVELS - 1, 0)
    assert level_of(None) == level_of(math.nan) == NO_SCORE


CELLS = st.integers(1, 4).flatmap(
    lambda members: st.tuples(
        arrays.arrays(np.int8, st.tuples(st.integers(1, 30), st.just(members)), elements=st.integers(-1, 2)),
        st.integers(0, 2**32 - 1),
    )
)


@given(CELLS)
def test_a_histogram_with_levels_counts_each_kind_of_cell(drawn):
    codes, seed = drawn
    rng = np.random.default_rng(seed)
    levels = np.where(codes < 0, NO_SCORE, rng.integers(-1, 3, codes.shape)).astype(np.int8)
    groups, right = rng.integers(0, 2, len(codes)), rng.integers(-1, 2, len(codes))
    hist = histogram(codes, groups, right, None, levels)
    plain = histogram(codes, groups, right)
    rows = zip(hist.codes.tolist(), hist.groups, hist.right, hist.levels.tolist(), strict=True)
    have = Counter({(*map(tuple, (c, lv)), int(g), int(r)): 0 for c, g, r, lv in rows})
    for c, g, r, lv, n in zip(
        hist.codes.tolist(), hist.groups, hist.right, hist.levels.tolist(), hist.counts, strict=True
    ):
        have[tuple(c), tuple(lv), int(g), int(r)] += int(n)
    want = Counter(
        (
            tuple(histogram(codes[i : i + 1]).codes[0].tolist()),
            tuple(levels[i].tolist()),
            int(groups[i]),
            int(right[i]),
        )
        for i in range(len(codes))
    )
    assert have == want
    assert len(hist.counts) == len(want)
    merged = hist.without_levels()
    for name in ("codes", "groups", "right", "counts"):
        assert (getattr(merged, name) == getattr(plain, name)).all()
    half = len(codes) // 2
    parts = [
        histogram(codes[s], groups[s], right[s], None, levels[s]) for s in (slice(half), slice(half, None))
    ]
    total = parts[0] + parts[1]
    assert (total.levels == hist.levels).all()
    assert (total.counts == hist.counts).all()
    mixed = parts[0].without_levels() + parts[1]
    assert mixed.total == len(codes)


def test_a_sure_vote_beats_two_unsure_ones():
    offsets = ((-2.0,) * 3 + (0.0,) * 3 + (2.0,) * 3,) * 3
    parameters = Parameters((2.0, 2.0, 2.0), scores=offsets)
    ballots = [("red", 0), ("blue", 0), ("blue", 0)]
    sure, unsure = math.log(0.99), math.log(0.1)
    assert decide_one(parameters, ballots)[0] == "blue"
    assert decide_one(parameters, ballots, [sure, unsure, unsure]) == ("red", 1.0)
    assert decide_one(parameters, ballots, [unsure, None, None]) == ("blue", 1.0)
    assert decide_one(Parameters((2.0, 2.0, 2.0)), ballots, [sure, unsure, unsure])[0] == "blue"
    assert parameters.highest() == (4.0, 4.0, 4.0)


def test_a_weight_never_falls_below_0():
    parameters = Parameters((1.0, 0.5), scores=((-9.0,) * 9, (0.0,) * 9))
    assert parameters.at([math.log(0.5), None]).weights == (0.0, 0.5)
    assert decide_one(parameters, [("red", 0), ("blue", 0)], [-0.1, -0.1]) == ("blue", 1.0)
    assert decide_one(parameters, [("red", 0), ("red", 0)], [-0.1, -0.1]) == ("red", 1.0)
