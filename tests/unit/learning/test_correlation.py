# SPDX-License-Identifier: Apache-2.0
"""Correlated members are found, independent ones are left alone; confusion matrices only where they pay."""

import numpy as np
import pytest

from quorum.decision.arrays import Rule, decide
from quorum.decision.histogram import histogram, right_mask
from quorum.learning.blocs import find_bloc
from quorum.learning.correlation import blocs, correlation
from quorum.learning.dawid_skene import DawidSkene
from quorum.learning.em import OneCoin, TooFewMembersError
from quorum.learning.simulate import accuracy_percent, independent, with_bloc

ACCURACY = np.array([0.85, 0.8, 0.8, 0.75, 0.7])


def test_figures_of_a_table_counted_by_hand():
    codes = np.array([[1, 1, 2], [1, 1, 1], [2, 3, 1], [2, 2, 1], [1, -1, 1]])
    gold = np.array([1, 1, 1, 1, -1])
    figures = correlation(histogram(codes, None, right_mask(codes, gold)), np.array([0.5, 0.5, 0.75]), 4.0)
    assert figures.agreement[0, 1] == pytest.approx(3 / 4)
    assert figures.agreement[0, 2] == pytest.approx(2 / 5)
    assert figures.same_error[0, 1] == pytest.approx(1 / 2)
    assert figures.error_phi[0, 1] == pytest.approx(1.0)
    assert figures.error_phi[0, 2] == pytest.approx(-1 / np.sqrt(3))
    chance = 0.5 * 0.5 + 0.5 * 0.5 / 3
    assert figures.excess[0, 1] == pytest.approx((0.75 - chance) / (1 - chance))


def test_without_gold_the_error_correlation_is_unknown():
    codes, _ = independent(np.random.default_rng(0), 500, ACCURACY, 5)
    figures = correlation(histogram(codes), ACCURACY, 5.0)
    assert np.isnan(figures.error_phi[0, 1])
    assert np.abs(figures.excess[~np.eye(5, dtype=bool)]).max() < 0.15


def test_a_bloc_is_named_with_and_without_gold():
    rng = np.random.default_rng(1)
    codes, truth = with_bloc(rng, 5000, ACCURACY, 6, [1, 3], 0.7)
    hist = histogram(codes, None, right_mask(codes, truth))
    with_gold = correlation(hist, ACCURACY, 6.0)
    assert blocs(with_gold.error_phi, 0.5) == [[1, 3]]
    em = OneCoin(6.0, per_group=False).fit(hist)
    without = correlation(hist.unlabelled(), em.accuracy_, 6.0)
    assert np.unravel_index(np.argmax(without.excess - 2 * np.eye(5)), (5, 5)) in {(1, 3), (3, 1)}


def test_blocs_are_joined_through_common_members():
    figures = np.eye(5)
    figures[0, 1] = figures[1, 2] = figures[3, 4] = 0.9
    assert blocs(figures, 0.5) == [[0, 1, 2], [3, 4]]
    assert blocs(figures, 0.95) == []
    assert blocs(figures, 0.5, np.where(figures == 0.9, 2.0, 9.0)) == []


def confused(rng, cells):
    """A rare value that most members take for a common one."""
    truth = rng.choice(3, cells, p=[0.6, 0.3, 0.1])
    codes = np.empty((cells, 4), np.int16)
    for j in range(4):
        matrix = np.array([[0.9, 0.08, 0.02], [0.1, 0.88, 0.02], [0.6, 0.05, 0.35 + 0.1 * j]])
        matrix /= matrix.sum(axis=1, keepdims=True)
        codes[:, j] = (rng.random(cells)[:, None] > matrix[truth].cumsum(axis=1)).sum(axis=1)
    return codes, truth


def test_confusion_matrices_win_where_values_are_confused():
    codes, truth = confused(np.random.default_rng(2), 5000)
    model = DawidSkene(3).fit(codes)
    coin = accuracy_percent(OneCoin(3.0).fit(histogram(codes)).predict(codes), codes, truth)
    assert model.preferred_
    assert 100 * np.mean(model.predict(codes) == truth) > coin + 1
    assert model.confusion_[3, 2, 0] > 0.3
    assert np.allclose(model.confusion_.sum(axis=2), 1)


def test_one_accuracy_is_preferred_where_it_suffices_or_cells_are_few():
    rng = np.random.default_rng(3)
    codes, _ = independent(rng, 4000, ACCURACY, 4)
    assert not DawidSkene(4).fit(np.where(codes > 0, codes - 1, -1)).preferred_
    few, _ = confused(rng, 300)
    assert not DawidSkene(3).fit(few).preferred_


def test_unanimity_abstention_and_refusals():
    codes, _ = confused(np.random.default_rng(4), 500)
    model = DawidSkene(3).fit(codes)
    rows = np.array([[2, 2, 2, 2], [-1, 2, -1, -1], [-1, -1, -1, -1]])
    assert model.predict(rows).tolist() == [2, 2, -1]
    with pytest.raises(ValueError, match=r"in \[0, 2\)"):
        DawidSkene(2).fit(codes)
    with pytest.raises(TooFewMembersError):
        DawidSkene(3).fit(codes[:, :2])


@pytest.mark.parametrize(
    ("members", "bloc", "share"), [(5, [0, 1, 2], 0.6), (5, [1, 3], 0.6), (4, [0, 2], 0.6)]
)
def test_a_bloc_is_found_without_gold_and_counting_it_as_one_pays(members, bloc, share):
    gains = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        codes, truth = with_bloc(rng, 3000, rng.permutation(np.linspace(0.75, 0.9, members)), 10, bloc, share)
        hist = histogram(codes)
        found = find_bloc(hist, 10.0)
        assert found is not None
        assert list(found.members) == bloc
        em = accuracy_percent(OneCoin(10.0).fit(hist).predict(codes), codes, truth)
        discounted = decide(codes, Rule(found.weights[None], np.zeros(1)))
        gains.append(accuracy_percent(discounted, codes, truth) - em)
    assert min(gains) > 0
    assert np.mean(gains) > 1


@pytest.mark.parametrize("members", [3, 4, 5])
def test_independent_members_are_no_bloc(members):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        codes, _ = independent(rng, 2000, rng.permutation(np.linspace(0.55, 0.95, members)), 5)
        assert find_bloc(histogram(codes), 5.0) is None


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_cells_that_are_hard_for_everybody_are_no_bloc(spread):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        accuracy = rng.permutation(np.linspace(0.6, 0.95, 5))
        logit = np.log(accuracy / (1 - accuracy)) + rng.normal(0, spread, (3000, 1))
        codes, _ = independent(rng, 3000, 1 / (1 + np.exp(-logit)), 5)
        assert find_bloc(histogram(codes), 5.0) is None


def test_a_wrong_value_that_tempts_everybody_is_no_bloc():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        codes, truth = independent(rng, 3000, rng.permutation(np.linspace(0.7, 0.95, 5)), 8, 0.0)
        tempting = rng.integers(1, 8, 3000)
        tempting += tempting >= truth
        falls = (codes != truth[:, None]) & (rng.random(codes.shape) < 0.5)
        assert find_bloc(histogram(np.where(falls, tempting[:, None], codes)), 8.0) is None


@pytest.mark.slow
def test_many_members_are_searched_on_a_draw_of_cells():
    rng = np.random.default_rng(5)
    codes, _ = with_bloc(rng, 20_000, np.linspace(0.75, 0.9, 8), 10, [1, 4, 6], 0.7)
    found = find_bloc(histogram(codes), 10.0)
    assert found is not None
    assert found.members == (1, 4, 6)


@pytest.mark.parametrize(("members", "values"), [(3, 2), (5, 4), (4, 60), (14, 25)])
def test_confusion_matrices_from_distinct_rows_are_those_of_all_cells(members, values):
    """Every route to the distinct rows (counted, sorted as numbers, sorted as rows), against one-hot EM."""
    rng = np.random.default_rng(members)
    truth = rng.integers(0, values, 400)
    right = rng.random((400, members)) < 0.8
    codes = np.where(right, truth[:, None], rng.integers(0, values, (400, members)))
    codes[rng.random(codes.shape) < 0.1] = -1
    codes = np.concatenate([codes, codes[:50]]).astype(np.int32)
    model = DawidSkene(values)
    answers = model.fit_predict(codes)
    assert np.array_equal(answers, DawidSkene(values).fit(codes).predict(codes))

    said = (codes[:, :, None] == np.arange(values)).astype(float)
    scores = np.log(model.prevalence_) + np.einsum("njl,jkl->nk", said, np.log(model.confusion_))
    top = scores.max(axis=1)
    terms = np.exp(scores - top[:, None])
    np.testing.assert_allclose(
        model.predict_proba(codes), terms / terms.sum(axis=1, keepdims=True), atol=1e-9
    )
    assert model.log_likelihood_ == pytest.approx((top + np.log(terms.sum(axis=1))).sum())

    posterior = terms / terms.sum(axis=1, keepdims=True)
    # The fit has come to rest: one more plain M step moves the prevalence by next to nothing.
    np.testing.assert_allclose((posterior.sum(axis=0) + 1) / (450 + values), model.prevalence_, atol=2e-3)
