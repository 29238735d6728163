# SPDX-License-Identifier: Apache-2.0
"""What IWMV, EM and the conditional logit learn, against arithmetic, plain loops and simulated truth."""

import itertools
import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorum.decision.arrays import Rule, decide, equal_rule
from quorum.decision.histogram import histogram, right_mask
from quorum.learning.em import OneCoin, TooFewMembersError, log_odds, posterior
from quorum.learning.iwmv import Iwmv
from quorum.learning.loglinear import LogLinear, NoGoldError
from quorum.learning.newton import NoConvergenceError, minimise
from quorum.learning.shrinkage import best_strength
from quorum.learning.simulate import accuracy_percent, independent, with_bloc

SEEDS = 6 if os.environ.get("QUORUM_LONG") else 2
"""Draws of a simulation."""


def wide(rng, members):
    return rng.permutation(np.linspace(0.55, 0.95, members))


def oracle(codes, truth, accuracy, values):
    return accuracy_percent(decide(codes, Rule(log_odds(accuracy, values)[None], np.zeros(1))), codes, truth)


def labelled(codes, truth, labels, rng):
    gold = np.where(rng.permutation(len(codes)) < labels, truth, -1)
    return histogram(codes, None, right_mask(codes, gold))


def test_posterior_of_two_that_disagree():
    shares, rest, _ = posterior(np.array([[1, 2]]), np.array([0.9, 0.6]), 3.0)
    assert shares[0].tolist() == pytest.approx([9 / 11, 1.5 / 11])
    assert rest[0] == pytest.approx(0.5 / 11)


def test_log_odds_let_the_best_decide_alone_and_the_paper_does_not():
    accuracy = np.array([0.95, 0.75, 0.55])
    weights = log_odds(accuracy, 3)
    assert weights.tolist() == pytest.approx([3.638, 1.792, 0.894], abs=1e-3)
    codes = np.array([[1, 2, 2]])
    assert decide(codes, Rule(weights[None], np.zeros(1))).winner[0] == 0
    assert decide(codes, Rule(3 * accuracy[None] - 1, np.zeros(1))).winner[0] == 1


def test_the_papers_weights_maximise_the_bound_and_the_bound_holds():
    accuracy, labels = np.array([0.85, 0.7, 0.6, 0.5, 0.45]), 3
    paper = labels * accuracy - 1

    def strength(v):
        return (v @ paper) / np.linalg.norm(v) / (labels - 1)

    rng = np.random.default_rng(0)
    assert all(strength(v) <= strength(paper) + 1e-12 for v in rng.normal(size=(2000, 5)))
    codes, truth = independent(rng, 20_000, accuracy, labels, 0.0)
    error = 1 - accuracy_percent(decide(codes, Rule(paper[None], np.zeros(1))), codes, truth) / 100
    assert error <= (labels - 1) * math.exp(-(strength(paper) ** 2) / 2)


def plain_iwmv(codes, labels):
    weights = [1.0] * codes.shape[1]
    labelled = None
    for _ in range(100):
        current = []
        for row in codes:
            score = {value: sum(w for w, v in zip(weights, row, strict=True) if v == value) for value in row}
            score.pop(-1, None)
            best = [v for v in score if score[v] >= max(score.values()) - 1e-9]
            current.append(dict.fromkeys(best, 1 / max(1, len(best))))
        if current == labelled:
            break
        labelled = current
        for j in range(codes.shape[1]):
            given = [i for i, row in enumerate(codes) if row[j] >= 0]
            agreed = sum(labelled[i].get(codes[i][j], 0.0) for i in given)
            weights[j] = labels * agreed / len(given) - 1 if given else 0.0
    return weights, labelled


@pytest.mark.parametrize("seed", range(5))
def test_iwmv_on_patterns_is_iwmv_row_by_row(seed):
    rng = np.random.default_rng(seed)
    codes, _ = independent(rng, 300, wide(rng, 4), 4, 0.15)
    weights, labelled = plain_iwmv(codes, 4.0)
    fitted = Iwmv(4.0).fit(histogram(codes))
    assert fitted.rule_.weights[0].tolist() == pytest.approx(weights)
    for row, j, label in zip(codes, fitted.predict(codes).winner, labelled, strict=True):
        assert row[j] in label if j >= 0 else not label


def test_iwmv_weighs_members_alike_in_whatever_order_they_are():
    accuracy = np.array([0.9, 0.7, 0.5])
    for values in (3, 10):
        codes, _ = independent(np.random.default_rng(4), 300, accuracy, values, 0.1)
        for per_group in (False, True):
            groups = np.arange(300, dtype=np.int32) % 2
            fitted = Iwmv(10.0, per_group).fit(histogram(codes, groups)).rule_.weights
            for order in itertools.permutations(range(3)):
                other = Iwmv(10.0, per_group).fit(histogram(codes[:, order], groups)).rule_.weights
                assert other == pytest.approx(fitted[:, order])


def test_iwmv_has_no_favourite_where_members_only_contradict_each_other():
    contradicting = np.array([[1, 2, 3]] * 20)
    assert Iwmv(10.0).fit(histogram(contradicting)).rule_.weights.tolist() == [[1.0, 1.0, 1.0]]
    both = np.concatenate([contradicting, [[1, 1, 2]] * 5])
    groups = np.repeat([0, 1], [20, 5])
    fitted = Iwmv(10.0, per_group=True).fit(histogram(both, groups))
    assert fitted.rule_.weights.tolist() == [[1.0, 1.0, 1.0], [9.0, 9.0, -1.0]]
    assert fitted.accuracy_.tolist() == [[0.5, 0.5, 0.5], [1.0, 1.0, 0.0]]
    alone = np.array([[1, -1, -1], [-1, 1, -1]])
    assert Iwmv(10.0).fit(histogram(alone)).rule_.weights.tolist() == [[9.0, 9.0, 4.0]]


def test_global_iwmv_decides_the_cells_of_any_group():
    codes, _ = independent(np.random.default_rng(2), 60, wide(np.random.default_rng(2), 4), 4)
    fitted = Iwmv(4.0).fit(histogram(codes))
    groups = np.arange(60, dtype=np.int32) % 3
    assert np.array_equal(fitted.predict(codes, groups).winner, fitted.predict(codes).winner)


def test_iwmv_per_group_is_iwmv_of_each_group():
    rng = np.random.default_rng(1)
    codes, _ = independent(rng, 600, wide(rng, 4), 4)
    groups = np.arange(600, dtype=np.int32) % 2
    both = Iwmv(4.0, per_group=True).fit(histogram(codes, groups)).rule_.weights
    for g in range(2):
        assert np.allclose(both[g], Iwmv(4.0).fit(histogram(codes[groups == g])).rule_.weights[0])


def plain_em(codes, labels, start, rounds):
    accuracy = list(start)
    for _ in range(rounds):
        right, given = [1.0] * len(accuracy), [2.0] * len(accuracy)
        for row in codes:
            named = [j for j, v in enumerate(row) if v >= 0]
            if not named:
                continue
            chance = {}
            for value in range(1, labels + 1):
                terms = [accuracy[j] if row[j] == value else (1 - accuracy[j]) / (labels - 1) for j in named]
                chance[value] = math.prod(terms)
            total = sum(chance.values())
            for j in named:
                right[j] += chance[row[j]] / total
                given[j] += 1
        accuracy = [r / g for r, g in zip(right, given, strict=True)]
    return accuracy


@pytest.mark.slow
def test_em_on_patterns_is_em_row_by_row():
    rng = np.random.default_rng(2)
    codes, _ = independent(rng, 120, wide(rng, 4), 5)
    fitted = OneCoin(5.0, tolerance=1e-12, max_rounds=2000).fit(histogram(codes))
    assert fitted.accuracy_.tolist() == pytest.approx(plain_em(codes, 5, fitted.accuracy_, 1), abs=1e-9)
    assert np.allclose(fitted.accuracy_, plain_em(codes, 5, [0.7] * 4, 100), atol=1e-5)


@settings(max_examples=5 * SEEDS, deadline=None)
@given(st.integers(3, 6), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_the_likelihood_of_em_never_falls(members, values, seed):
    rng = np.random.default_rng(seed)
    codes, _ = independent(rng, 60, rng.uniform(0.2, 0.99, members), values, 0.2)
    history = np.array(OneCoin(float(values)).fit(histogram(codes)).log_likelihood_)
    assert (np.diff(history) >= -1e-8 * np.abs(history[:-1])).all()


@settings(max_examples=5 * SEEDS, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_em_does_not_care_about_names_order_repetition_or_a_silent_member(seed):
    rng = np.random.default_rng(seed)
    codes, _ = independent(rng, 200, wide(rng, 4), 4)
    base = OneCoin(4.0).fit(histogram(codes)).accuracy_
    shuffled = rng.permutation(len(codes))
    assert np.allclose(OneCoin(4.0).fit(histogram(codes[shuffled])).accuracy_, base)
    swap = rng.permutation(4)
    assert np.allclose(OneCoin(4.0).fit(histogram(codes[:, swap])).accuracy_, base[swap], atol=1e-4)
    renamed = np.where(codes > 0, 7 - codes, codes)
    assert np.allclose(OneCoin(4.0).fit(histogram(renamed)).accuracy_, base)
    silent = np.concatenate([codes, np.full((200, 1), -1, np.int16)], axis=1)
    with_silent = OneCoin(4.0).fit(histogram(silent))
    assert np.allclose(with_silent.accuracy_[:4], base)
    assert math.isnan(with_silent.accuracy_[4])
    assert with_silent.rule_.weights[0, 4] == 0.0


def test_repeating_every_cell_only_weakens_the_prior():
    rng = np.random.default_rng(3)
    codes, _ = independent(rng, 300, wide(rng, 5), 5)
    once, often = (OneCoin(5.0).fit(histogram(np.repeat(codes, k, axis=0))).accuracy_ for k in (1, 50))
    assert np.abs(once - often).max() < 0.01


def test_a_perfect_member_and_a_guesser_get_finite_weights():
    rng = np.random.default_rng(4)
    codes, _ = independent(rng, 3000, np.array([1.0, 0.8, 0.8, 0.25]), 4, 0.0)
    weights = OneCoin(4.0).fit(histogram(codes)).rule_.weights[0]
    assert np.isfinite(weights).all()
    assert weights[0] > 2 * weights[1]
    assert weights[3] < 0.2
    assert np.isfinite(log_odds(np.array([0.0, 1.0]), 4)).all()


@pytest.mark.parametrize("members", [1, 2])
def test_fewer_than_three_members_are_refused(members):
    with pytest.raises(TooFewMembersError, match="needs 3"):
        OneCoin().fit(histogram(np.ones((10, members), np.int8)))
    with pytest.raises(TooFewMembersError, match="2 of 3 members ever answered"):
        OneCoin().fit(histogram(np.array([[1, 1, -1], [1, 2, -1]])))


@pytest.mark.parametrize("members", [3, 5, 8])
@pytest.mark.parametrize("values", [3, 10, 50])
def test_em_comes_close_to_knowing_the_accuracies(members, values):
    gaps = {1000: [], 10_000: []}
    for cells, result in gaps.items():
        for seed in range(8):
            rng = np.random.default_rng(seed)
            accuracy = wide(rng, members)
            codes, truth = independent(rng, cells, accuracy, values)
            fitted = OneCoin(float(values)).fit(histogram(codes)).predict(codes)
            result.append(oracle(codes, truth, accuracy, values) - accuracy_percent(fitted, codes, truth))
    assert np.mean(gaps[1000]) <= 0.25
    assert np.mean(gaps[10_000]) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "cells"), [(0.0, 20), (0.0, 100), (0.5, 100), (1.0, 20), (1.0, 500)])
@pytest.mark.parametrize("members", [3, 5])
def test_shrinkage_is_never_much_worse_than_the_better_of_global_and_separate(members, spread, cells):
    results = []
    for seed in range(6 if cells < 100 else SEEDS):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(20, dtype=np.int32), cells)
        logit = np.log(wide(rng, members) / (1 - wide(rng, members)))
        accuracy = 1 / (1 + np.exp(-(logit + spread * rng.normal(size=(20, members)))))
        codes, truth = independent(rng, len(groups), accuracy[groups], 10)
        hist = histogram(codes, groups)
        shrunk = OneCoin(10.0).fit(hist).predict(codes, groups)
        shared = OneCoin(10.0, per_group=False).fit(hist).predict(codes, groups)
        separate = np.empty(len(groups), np.int8)
        for g in range(20):
            rows = groups == g
            separate[rows] = OneCoin(10.0).fit(histogram(codes[rows])).predict(codes[rows]).winner
        own = type(shrunk)(separate, shrunk.confidence)
        results.append([accuracy_percent(d, codes, truth) for d in (shrunk, shared, own)])
    shrunk, shared, own = np.mean(results, axis=0)
    assert shrunk >= max(shared, own) - 0.15


def test_strength_of_groups_that_are_alike_and_of_groups_that_are_not():
    rng = np.random.default_rng(0)
    given_ = np.full((200, 3), 100.0)
    alike = rng.binomial(100, 0.8, (200, 3)).astype(float)
    unlike = rng.binomial(100, rng.beta(8, 2, (200, 3))).astype(float)
    assert best_strength(alike, given_, np.full(3, 0.8)) >= 200
    assert 7 <= best_strength(unlike, given_, np.full(3, 0.8)) <= 20


def test_loglinear_without_gold_is_refused():
    with pytest.raises(NoGoldError, match="no labelled cell"):
        LogLinear().fit(histogram(np.ones((5, 3), np.int8)))


def test_infinite_ridge_is_majority():
    rng = np.random.default_rng(5)
    codes, truth = independent(rng, 2000, wide(rng, 5), 4)
    pinned = LogLinear(ridge=math.inf, prior=np.ones(5)).fit(labelled(codes, truth, 300, rng))
    majority = decide(codes, equal_rule(5))
    assert np.array_equal(pinned.predict(codes).winner, majority.winner)


def test_mean_confidence_on_the_gold_is_the_accuracy_there():
    rng = np.random.default_rng(6)
    codes, truth = independent(rng, 3000, wide(rng, 5), 4)
    model = LogLinear(ridge=0.001).fit(labelled(codes, truth, 3000, rng))
    right = accuracy_percent(model.predict(codes), codes, truth) / 100
    assert model.predict(codes).confidence.mean() == pytest.approx(right, abs=0.01)


def test_a_duplicated_member_shares_its_weight():
    rng = np.random.default_rng(7)
    codes, truth = independent(rng, 3000, wide(rng, 4), 4)
    doubled = np.concatenate([codes, codes[:, :1]], axis=1)
    fits = [LogLinear(ridge=1e-4).fit(labelled(c, truth, 3000, rng)) for c in (codes, doubled)]
    single, double = (fit.rule_.weights[0] for fit in fits)
    assert double[0] + double[4] == pytest.approx(single[0], abs=0.02)
    assert double[0] == pytest.approx(double[4], abs=0.02)
    same = fits[0].predict(codes).winner == fits[1].predict(doubled).winner
    assert same.mean() > 0.995


def test_weights_are_not_negative_and_the_bias_learns_that_n_a_is_never_right():
    rng = np.random.default_rng(8)
    codes, truth = independent(rng, 2000, np.array([0.9, 0.8, 0.8, 0.2]), 3, 0.0)
    codes[rng.random(codes.shape) < 0.3] = 0
    hist = labelled(codes, truth, 1000, rng)
    model = LogLinear().fit(hist)
    assert (model.rule_.weights >= 0).all()
    assert model.rule_.na_bias[0] < -2
    without = LogLinear(na_bias=False).fit(hist)
    assert without.rule_.na_bias[0] == 0.0
    better = accuracy_percent(model.predict(codes), codes, truth)
    assert better > accuracy_percent(without.predict(codes), codes, truth) + 1


def test_gold_that_nobody_named_teaches_doubt():
    codes = np.tile(np.array([[1, 1, 1]]), (100, 1))
    gold = np.where(np.arange(100) < 30, 9, 1)
    model = LogLinear(ridge=1.0).fit(histogram(codes, None, right_mask(codes, gold)))
    assert model.predict(codes[:1]).confidence[0] == pytest.approx(0.7, abs=0.03)


@pytest.mark.parametrize(("labels", "gap"), [(200, 1.5), (1000, 0.75)])
def test_gold_overcomes_a_bloc_that_misleads_em(labels, gap):
    """The Bayes optimum of this generator is approached by fitting on 20 000 labels of every pattern."""
    results = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        codes, truth = with_bloc(rng, 10_000, rng.permutation(np.linspace(0.75, 0.9, 5)), 10, [0, 1, 2], 0.6)
        best = pattern_optimum(*with_bloc_again(seed), codes, truth)
        fitted = LogLinear(labels=10).fit(labelled(codes, truth, labels, rng))
        em = OneCoin(10.0).fit(histogram(codes))
        results.append([best, *(accuracy_percent(m.predict(codes), codes, truth) for m in (fitted, em))])
    best, fitted, em = np.mean(results, axis=0)
    assert fitted >= best - gap
    assert em < best - 2


def with_bloc_again(seed):
    rng = np.random.default_rng(seed)
    accuracy = rng.permutation(np.linspace(0.75, 0.9, 5))
    return with_bloc(np.random.default_rng(seed + 1000), 200_000, accuracy, 10, [0, 1, 2], 0.6)


def pattern_optimum(train, train_truth, codes, truth):
    """Accuracy of always naming, per pattern, the member that is right most often there."""
    from quorum.decision.patterns import pattern_keys

    keys = pattern_keys(train)
    space = int(keys.max()) + 1
    hits = np.stack([np.bincount(keys, train[:, j] == train_truth, space) for j in range(5)], axis=1)
    now = np.minimum(pattern_keys(codes), space - 1)
    return 100 * np.mean(codes[np.arange(len(codes)), hits.argmax(axis=1)[now]] == truth)


def test_groups_deviate_only_when_they_differ_and_there_is_gold():
    rng = np.random.default_rng(9)
    groups = rng.integers(0, 6, 4000).astype(np.int32)
    level = np.arange(6, dtype=np.int32)
    alike, truth = independent(rng, 4000, wide(rng, 4), 4)
    hist = histogram(alike, groups, right_mask(alike, truth))
    same = LogLinear(levels=[level // 2, level]).fit(hist)
    assert min(same.group_ridges_) >= 100
    accuracy = np.where(groups[:, None] % 2 == 0, [0.9, 0.9, 0.4, 0.4], [0.4, 0.4, 0.9, 0.9])
    codes, truth = independent(rng, 4000, accuracy, 4)
    check = slice(2000, None)
    gold = np.where(np.arange(4000) < 2000, truth, -1)
    hist = histogram(codes, groups, right_mask(codes, gold))
    split = LogLinear(levels=[level // 2, level]).fit(hist)
    assert split.group_ridges_[-1] < 100
    fewer = LogLinear(levels=[level // 2, level], gold_for_groups=2001).fit(hist)
    assert np.array_equal(fewer.rule_.weights, np.repeat(fewer.default_.weights, 6, axis=0))
    right = [
        accuracy_percent(m.predict(codes[check], groups[check]), codes[check], truth[check])
        for m in (split, fewer)
    ]
    assert right[0] > right[1] + 3


def test_many_problems_at_once_are_each_solved_within_their_bounds():
    rng = np.random.default_rng(10)
    curvature = np.stack([(lambda a: a @ a.T + np.eye(3))(rng.normal(size=(3, 3))) for _ in range(20)])
    slope = rng.normal(size=(20, 3)) * 5

    def quadratic(x):
        product = np.einsum("gij,gj->gi", curvature, x)
        return 0.5 * (x * product).sum(1) + (slope * x).sum(1), product + slope, curvature

    lower = np.array([0.0, 0.0, -np.inf])
    found = minimise(quadratic, np.ones((20, 3)), lower)
    gradient = quadratic(found)[1]
    assert (found >= lower).all()
    inside = found > lower + 1e-9
    assert np.abs(gradient[inside]).max() < 1e-5
    assert (gradient[~inside] > -1e-6).all()
    assert (~inside).any()
    with pytest.raises(NoConvergenceError, match="not finite"):
        minimise(lambda x: (np.full(1, np.nan), x, np.eye(1)[None]), np.ones((1, 1)), np.zeros(1))
