# SPDX-License-Identifier: Apache-2.0
"""What agreement and gold teach about scores: honest, distorted, useless, hostile and missing ones."""

import math

import numpy as np
import pytest

from quorum.decision.arrays import decide
from quorum.decision.histogram import histogram, right_mask
from quorum.decision.scores import LOG_ODDS, levels_of
from quorum.learning import scored
from quorum.learning.design import Design
from quorum.learning.em import OneCoin, TooFewMembersError
from quorum.learning.learn import learn_statistic
from quorum.learning.loglinear import LogLinear
from quorum.learning.scored import ScoredCoin
from quorum.learning.simulate import accuracy_percent
from quorum.votes.statistic import count

GROUPS = (("", "brand"), ("", "color"))
ACCURACY = (0.6, 0.7, 0.8)


def cells(seed=0, n=4000, accuracy=ACCURACY, values=10):
    """(n, m) codes, (n,) truth, and (n, m) log odds with which each vote is right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, values + 1, n)
    p = rng.beta(4 * np.array(accuracy), 4 * (1 - np.array(accuracy)), (n, len(accuracy)))
    p = np.clip(p, 1e-3, 1 - 1e-3)
    wrong = 1 + (truth[:, None] + rng.integers(0, values - 1, p.shape)) % values
    return np.where(rng.random(p.shape) < p, truth[:, None], wrong), truth, np.log(p / (1 - p))


def as_scores(log_odds):
    return np.log(1.0 / (1.0 + np.exp(-np.asarray(log_odds, np.float64)))).astype(np.float32)


def levelled(codes, log_odds, groups=None, right=None):
    return histogram(codes, groups, right, None, levels_of(as_scores(log_odds)))


def accuracy_of(rule, codes, truth, log_odds, groups=None):
    return accuracy_percent(decide(codes, rule, groups, None, levels_of(as_scores(log_odds))), codes, truth)


def test_honest_scores_are_found_to_be_honest_and_pay():
    codes, truth, odds = cells()
    coin = ScoredCoin().fit(levelled(codes, odds))
    assert coin.slope_ == pytest.approx(np.ones(3), abs=0.15)
    assert coin.intercept_ == pytest.approx(np.zeros(3), abs=0.3)
    plain = OneCoin(per_group=False).fit(histogram(codes)).predict(codes)
    assert accuracy_of(coin.rule_, codes, truth, odds) > accuracy_percent(plain, codes, truth) + 2.5


@pytest.mark.parametrize(("gain", "shift"), [(0.5, 0.0), (0.8, 2.0), (1.3, -1.0)])
def test_distorted_scores_are_straightened(gain, shift):
    codes, truth, odds = cells(1)
    straight = accuracy_of(ScoredCoin().fit(levelled(codes, odds)).rule_, codes, truth, odds)
    bent = gain * odds + shift
    assert accuracy_of(ScoredCoin().fit(levelled(codes, bent)).rule_, codes, truth, bent) > straight - 2.5


def test_one_overconfident_member_does_not_drag_the_others_along():
    codes, _, odds = cells(2)
    odds[:, 0] = 6.0
    coin = ScoredCoin().fit(levelled(codes, odds))
    assert coin.slope_[0] == 0.0
    assert (coin.slope_[1:] > 0.5).all()
    assert (coin.rule_.scores[0, 0] == 0.0).all()
    assert coin.plain_[0] == pytest.approx(math.log(0.6 / 0.4), abs=0.2)


@pytest.mark.parametrize("kind", ["noise", "hostile", "constant", "of the attribute", "of the product"])
def test_scores_that_say_nothing_are_ignored(kind):
    codes, _, odds = cells(3)
    rng, groups = np.random.default_rng(4), np.arange(len(codes)) % 2
    useless = {
        "noise": rng.normal(1, 2, odds.shape),
        "hostile": -odds,
        "constant": np.full(odds.shape, 2.0),
        "of the attribute": np.array([[4.0], [-2.0]])[groups] + rng.normal(0, 0.3, odds.shape),
        "of the product": np.repeat(rng.normal(1, 2, (len(odds), 1)), 3, axis=1),
    }[kind]
    # Attributes that differ in difficulty, so that a score that tells only them apart could look useful.
    hard = (groups == 1)[:, None] & (rng.random(codes.shape) < 0.4)
    codes = np.where(hard, rng.integers(1, 11, codes.shape), codes)
    coin = ScoredCoin().fit(levelled(codes, useless, groups))
    assert not coin.informative
    assert not coin.rule_.scores.any()


def test_votes_without_a_score_keep_a_weight_of_their_own():
    codes, truth, odds = cells(5)
    odds[np.random.default_rng(6).random(odds.shape) < 0.5] = np.nan
    coin = ScoredCoin().fit(levelled(codes, odds))
    assert (coin.slope_ > 0.6).all()
    assert coin.plain_ == pytest.approx(np.log(np.array(ACCURACY) / (1 - np.array(ACCURACY))), abs=0.3)
    plain = OneCoin(per_group=False).fit(histogram(codes)).predict(codes)
    assert accuracy_of(coin.rule_, codes, truth, odds) > accuracy_percent(plain, codes, truth) + 1


def test_a_silent_member_gets_no_weight_and_too_few_are_refused():
    codes, _, odds = cells(7, accuracy=(0.6, 0.7, 0.8, 0.7))
    codes[:, 3] = -1
    odds[:, 3] = np.nan
    rule = ScoredCoin().fit(levelled(codes, odds)).rule_
    assert rule.weights[0, 3] == 0.0
    assert not rule.scores[0, 3].any()
    with pytest.raises(TooFewMembersError):
        ScoredCoin().fit(levelled(codes[:, :2], odds[:, :2]))


def test_many_rows_are_drawn_from(monkeypatch):
    codes, _, odds = cells(8, 20_000)
    hist = levelled(codes, odds)
    whole = ScoredCoin().fit(hist)
    monkeypatch.setattr(scored, "MAX_ROWS", 1000)
    assert len(hist.counts) > 1000
    assert ScoredCoin().fit(hist).slope_ == pytest.approx(whole.slope_, abs=0.4)


def test_permuting_members_and_rows_changes_nothing():
    codes, _, odds = cells(9)
    coin = ScoredCoin().fit(levelled(codes, odds))
    rows, order = np.random.default_rng(0).permutation(len(codes)), [2, 0, 1]
    other = ScoredCoin().fit(levelled(codes[rows][:, order], odds[rows][:, order]))
    assert other.slope_ == pytest.approx(coin.slope_[order], abs=1e-6)


def statistic(codes, truth, odds, labels, seed=0):
    rng = np.random.default_rng(seed)
    gold = np.where(rng.permutation(len(codes)) < labels, truth, -1)
    group = (np.arange(len(codes)) % 2).astype(np.int32)
    parts = np.full(len(codes), -1, np.int8)
    right, scores = right_mask(codes, gold), None if odds is None else as_scores(odds)
    return count(("a", "b", "c")[: codes.shape[1]], GROUPS, codes, group, right, parts, len(codes), scores)


@pytest.mark.parametrize("method", ["em", "loglinear"])
def test_weights_use_scores_unless_told_not_to(method):
    codes, truth, odds = cells(10)
    known = statistic(codes, truth, odds, 100)
    weights = learn_statistic(known, method)
    assert weights.uses_scores
    assert weights.settings["scores"]
    without = learn_statistic(known, method, settings={"scores": False})
    assert not without.uses_scores
    never = learn_statistic(statistic(codes, truth, None, 100), method)
    assert (never.default, never.attributes) == (without.default, without.attributes)
    assert "scores" not in never.settings


def test_gold_teaches_two_members_whose_agreement_says_nothing():
    codes, truth, odds = cells(11, accuracy=(0.6, 0.7))
    weights = learn_statistic(statistic(codes, truth, odds, 400), "loglinear")
    assert weights.uses_scores
    rows = np.array(weights.default.scores)
    assert (np.diff(rows, axis=1) > 0).all()


def test_gold_does_not_believe_useless_scores():
    codes, truth, odds = cells(12)
    useless = np.random.default_rng(0).permutation(odds)
    rows = learn_statistic(statistic(codes, truth, useless, 1000), "loglinear").default.scores
    assert np.abs(rows).max(initial=0.0) < 0.5


def test_the_likelihood_with_scores_is_that_of_a_loop_and_its_gradient_fits():
    codes, truth, odds = cells(13, 60)
    usual, theta = np.array([0.5, 1.0, 1.5]), np.array([[1.0, 0.7, 1.2, 0.5, 0.3, 0.8, -0.4, 0.6]])
    hist = levelled(codes, odds, None, right_mask(codes, truth))
    design = Design(hist, usual=usual)
    levels, expected = levels_of(as_scores(odds)), 0.0
    for row, gold, own in zip(codes.tolist(), truth.tolist(), levels.tolist(), strict=True):
        totals = dict.fromkeys(row, 0.0)
        for j, value in enumerate(row):
            totals[value] += theta[0, j] + theta[0, 3 + j] * (LOG_ODDS[own[j]] - usual[j])
        hit = totals.get(gold, theta[0, -1])
        expected += math.log(sum(map(math.exp, totals.values())) + math.exp(theta[0, -1])) - hit
    value, gradient, _ = design.loss(theta)
    assert value[0] == pytest.approx(expected, rel=1e-5)
    for i in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, i] = 1e-4
        numeric = (design.loss(theta + step)[0] - design.loss(theta - step)[0]) / 2e-4
        assert gradient[0, i] == pytest.approx(numeric[0], abs=1e-3)


def test_predictions_with_gold_use_the_scores():
    codes, truth, odds = cells(14)
    known = statistic(codes, truth, odds, 200)
    model = LogLinear().fit(known.hist, known.gold, known.scored)
    levels = levels_of(as_scores(odds))
    scored_right = accuracy_percent(model.predict(codes, levels=levels), codes, truth)
    assert scored_right > accuracy_percent(model.predict(codes), codes, truth) + 2


def test_many_attributes_share_strata_of_alike_scores():
    codes, _, odds = cells(15)
    groups = np.arange(len(codes)) % 200
    coin = ScoredCoin().fit(levelled(codes, odds, groups))
    assert coin.slope_ == pytest.approx(np.ones(3), abs=0.2)
    apart = np.repeat(np.linspace(-2, 4, 200)[groups][:, None], 3, axis=1)
    assert not ScoredCoin().fit(levelled(codes, apart, groups)).informative
