# SPDX-License-Identifier: Apache-2.0
"""Equal, common or own weights for each attribute, on simulated votes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from quorum.decision.arrays import decide, equal_rule
from quorum.decision.histogram import histogram, right_mask
from quorum.learning.attributes import KINDS
from quorum.learning.design import Design
from quorum.learning.hierarchy import Prior, at_center, fit_hierarchy
from quorum.learning.learn import learn_statistic
from quorum.learning.loglinear import LogLinear
from quorum.learning.newton import NoConvergenceError
from quorum.learning.simulate import independent
from quorum.operations.learn_remarks import attribute_remarks
from quorum.votes.statistic import count

EXPERT = np.array([[0.5, 0.9, 0.55, 0.55], [0.55, 0.5, 0.9, 0.55], [0.55, 0.55, 0.5, 0.9]])
"""Per attribute (rows) the accuracy of each member: each attribute has an expert of its own. It is not the
first member, whose vote decides ties of majority."""

MIXED = np.array([[0.5, 0.5, 0.9]] * 3 + [[0.85, 0.85, 0.45]])
"""The best member of most attributes is the worst of the last."""


def votes(accuracy, cells, labels, seed=0, values=8):
    """Histogram with gold on ``labels`` cells, and codes, truth and attribute of each cell."""
    rng = np.random.default_rng(seed)
    attribute = rng.integers(0, len(accuracy), cells).astype(np.int32)
    codes, truth = independent(rng, cells, np.asarray(accuracy)[attribute], values)
    gold = np.where(np.arange(cells) < labels, truth, -1)
    return histogram(codes, attribute, right_mask(codes, gold)), codes, truth, attribute


def fitted(hist, groups=3, **settings):
    level = np.arange(groups, dtype=np.int32)
    return LogLinear(levels=[level], per_attribute=True, **settings).fit(hist)


def right(decision, codes, truth):
    winner = np.take_along_axis(codes, np.maximum(decision.winner, 0)[:, None], axis=1)[:, 0]
    return (winner == truth) & (decision.winner >= 0)


def kinds(model):
    return [KINDS[kind] for kind in model.attributes_.kinds]


def test_members_that_are_good_at_different_attributes_get_weights_of_their_own():
    hist, codes, truth, attribute = votes(EXPERT, 3000, 600)
    model = fitted(hist)
    assert kinds(model) == ["own"] * 3
    assert model.rule_.weights.argmax(axis=1).tolist() == EXPERT.argmax(axis=1).tolist()
    own = right(model.predict(codes, attribute), codes, truth)
    common = right(LogLinear().fit(hist).predict(codes), codes, truth)
    assert own.mean() > common.mean() + 0.05
    expected = model.attributes_.gain @ np.bincount(attribute) / len(codes)
    gained = own.mean() - right(decide(codes, equal_rule(4)), codes, truth).mean()
    assert expected == pytest.approx(gained, abs=0.03)


def test_alike_attributes_follow_the_common_fit():
    accuracy = np.tile([0.6, 0.95, 0.6, 0.6], (20, 1))
    hist, codes, _, attribute = votes(accuracy, 4000, 200)
    model = fitted(hist, 20)
    assert KINDS[model.attributes_.base] == "common"
    assert kinds(model).count("equal") == 0
    common = LogLinear().fit(hist).predict(codes).winner
    assert (model.predict(codes, attribute).winner == common).mean() > 0.98


def test_no_attribute_is_much_worse_than_majority_however_labels_fall():
    """Common weights would cost the attribute of another expert many points."""
    hurt = {"by attribute": 0, "common": 0}
    for seed in range(6):
        hist, codes, truth, attribute = votes(MIXED, 2000, 60, seed)
        majority = right(decide(codes, equal_rule(3)), codes, truth)
        for name, model in (("by attribute", fitted(hist, 4)), ("common", LogLinear().fit(hist))):
            groups = attribute if name == "by attribute" else None
            found = right(model.predict(codes, groups), codes, truth)
            away = [found[attribute == a].mean() - majority[attribute == a].mean() for a in range(4)]
            hurt[name] += min(away) < -0.03
    assert hurt["by attribute"] <= 1
    assert hurt["common"] >= 4


def test_fewer_than_two_labels_an_attribute_give_common_weights():
    accuracy = np.repeat(EXPERT, 10, axis=0)
    hist, *_ = votes(accuracy, 3000, 59)
    model = fitted(hist, 30)
    assert model.attributes_ is None
    assert np.array_equal(model.rule_.weights, np.repeat(model.default_.weights, 30, axis=0))
    assert fitted(votes(accuracy, 3000, 60)[0], 30).attributes_ is not None


def test_attributes_without_a_sure_gain_decide_by_majority():
    hist, codes, _, attribute = votes(MIXED, 2000, 60, 1)
    model = fitted(hist, 4)
    assert kinds(model) == ["own"] * 3 + ["equal"]
    majority = decide(codes, equal_rule(3)).winner
    for a, kind in enumerate(kinds(model)):
        if kind == "equal":
            cells = attribute == a
            assert np.array_equal(model.predict(codes[cells], attribute[cells]).winner, majority[cells])
            assert not model.rule_.na_bias[a]
    assert len(set(model.default_.weights[0])) == 1


def test_the_order_of_attributes_and_of_members_makes_no_difference():
    hist, codes, truth, attribute = votes(EXPERT, 2000, 600, 3)
    model = fitted(hist)
    other = np.array([2, 0, 1], np.int32)
    gold = np.where(np.arange(2000) < 600, truth, -1)
    moved = fitted(histogram(codes, other[attribute], right_mask(codes, gold)))
    assert np.allclose(moved.rule_.weights[other], model.rule_.weights, atol=1e-5)
    assert np.array_equal(moved.attributes_.kinds[other], model.attributes_.kinds)
    turn = np.array([0, 3, 1, 2])
    turned = fitted(histogram(codes[:, turn], attribute, right_mask(codes[:, turn], gold)))
    assert np.array_equal(turned.attributes_.kinds, model.attributes_.kinds)
    assert np.allclose(turned.rule_.weights, model.rule_.weights[:, turn], atol=1e-4)


def test_a_hierarchy_lies_between_one_fit_for_all_and_separate_fits():
    hist, *_ = votes(EXPERT, 900, 900)
    design = Design(hist, 3, 4)
    prior = Prior(np.array([1.5] * 4 + [0.0, 0.0]), np.array([1.0] * 4 + [math.inf, 0.05]))
    fits = [fit_hierarchy(design.loss, prior, np.full(6, r), at_center(prior, 3)) for r in (1e-3, 1.0, 1e5)]
    apart = [fit.theta[:, :4].std(axis=0).mean() for fit in fits]
    assert apart[0] > apart[1] > 10 * apart[2]
    assert all((fit.theta[:, 4] == 0.0).all() and not fit.covariance[:, 4].any() for fit in fits)
    pooled = Design(hist.pooled(), 1, 4)
    value, slope, _ = pooled.loss(fits[2].mean[None])
    pull = np.where(np.isinf(prior.ridges), 0.0, prior.ridges) * (fits[2].mean - prior.center)
    assert np.abs((slope[0] + pull)[[0, 1, 2, 3, 5]]).max() < 1e-2 * (1 + value[0])
    assert fits[1].evidence > max(fits[0].evidence, fits[2].evidence)


def test_a_curvature_far_from_the_hessian_costs_steps_and_no_error():
    """As on 200 labels of AE-110K; a loss that never comes near its minimum is an error still."""
    target = np.array([[1.0, -1.0], [3.0, 2.0], [0.5, 0.0]])

    def loss(factor: float):
        def objective(theta):
            away = theta - target
            return 0.5 * (away**2).sum(axis=1), away, np.repeat(factor * np.eye(2)[None], 3, axis=0)

        return objective

    prior, ridges = Prior(np.zeros(2), np.ones(2)), np.ones(2)
    exact, slow = (fit_hierarchy(loss(f), prior, ridges, at_center(prior, 3)) for f in (1.0, 40.0))
    assert np.allclose(slow.theta, exact.theta, atol=0.02)
    with pytest.raises(NoConvergenceError):
        fit_hierarchy(loss(1e3), prior, ridges, at_center(prior, 3))


def test_settings_say_which_weights_each_attribute_has_and_what_they_gain():
    _, codes, truth, attribute = votes(EXPERT, 1500, 0)
    gold = np.where(np.arange(1500) < 600, truth, -1)
    names = (("", "brand"), ("", "color"), ("", "size"))
    none = np.full(1500, -1, np.int8)
    statistic = count(("a", "b", "c", "d"), names, codes, attribute, right_mask(codes, gold), none, 1500)
    weights = learn_statistic(statistic, "loglinear")
    chosen = weights.settings["attributes"]
    assert {name: found["weights"] for name, found in chosen.items()} == dict.fromkeys(
        ("brand", "color", "size"), "own"
    )
    assert all(found["gain"] > 0.02 and found["spread"] > 0 for found in chosen.values())
    assert set(weights.attributes) == set(chosen)
    assert tuple(attribute_remarks(weights)) == ("brand, color, size: weights of their own",)
    off = learn_statistic(statistic, "loglinear", settings={"per_attribute": False})
    assert not off.attributes
    assert "attributes" not in off.settings
    equal = {name: {"weights": "equal", "gain": 0.0, "spread": 0.0} for name in "abcdefg"}
    remarks = tuple(attribute_remarks(replace(weights, settings={"attributes": equal})))
    assert remarks == ("a, b, c, d, e and 2 more: equal weights, as too few labels say otherwise",)
