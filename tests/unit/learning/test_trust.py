# SPDX-License-Identifier: Apache-2.0
"""Agreement is trusted where members are independent or copying explains it, else majority stays."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import quorum
from quorum.decision.histogram import histogram
from quorum.evaluation import apply
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.score import is_right
from quorum.learning import LearnError, learn, learn_statistic
from quorum.learning.blocs import find_bloc, rival
from quorum.learning.misfit import expected_counts, log_ways, misfit
from quorum.learning.simulate import independent, with_bloc
from quorum.learning.trust import Doubt, judge
from quorum.votes import Cell, build_table, read_votes
from quorum.votes.statistic import Statistic

ADVICE = "staying with majority; 50 labels decide it"


def statistic(codes):
    names = tuple("abcde"[: codes.shape[1]])
    return Statistic(names, (("", "colour"),), histogram(codes))


def judged(codes, values=10.0):
    return judge(histogram(codes), np.array([values]))


def two_pairs(seed, cells=2000, share=0.7, weak=0.7):
    """Four members of whom each half repeats itself: which half is right, votes do not tell."""
    rng = np.random.default_rng(seed)
    accuracy = np.array([0.8, 0.8, weak, weak])
    truth = rng.integers(1, 11, cells)
    wrong = (truth[:, None] + rng.integers(0, 9, (cells, 4))) % 10 + 1
    codes = np.where(rng.random((cells, 4)) < accuracy, truth[:, None], wrong)
    copied = rng.random(cells) < share
    codes[copied, 1], codes[copied, 3] = codes[copied, 0], codes[copied, 2]
    return codes.astype(np.int16)


def test_ways_to_give_candidates_values_by_hand():
    codes = np.array([[1, 1, 1], [1, 1, 2], [1, 2, 3], [1, -1, -1]])
    assert np.exp(log_ways(codes, 5.0)).tolist() == pytest.approx([5, 20, 60, 5])
    # Where values outnumber L, there are as many as were named.
    assert np.exp(log_ways(codes[2:3], 2.0))[0] == pytest.approx(6)


def test_expected_counts_are_those_of_the_members_that_answered():
    codes = np.array([[1, 1, 1], [1, 2, -1], [1, 1, -1]])
    counts = np.array([60.0, 30.0, 10.0])
    uniform = np.log(np.array([1 / 125, 1 / 25, 1 / 25]))
    expected = expected_counts(codes, counts, uniform, 5.0)
    assert expected.tolist() == pytest.approx([60 * 5 / 125, 40 * 20 / 25, 40 * 5 / 25])


def test_a_misfit_is_measured_against_chance_and_by_size():
    codes = np.array([[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2], [1, 2, 3]])
    counts = np.array([700.0, 100.0, 80.0, 70.0, 50.0])
    assert misfit(codes, counts, counts, 3).share == 0.0
    assert misfit(codes, counts, counts, 3).fits
    off = misfit(codes, counts, np.array([700.0, 60.0, 90.0, 80.0, 70.0]), 3)
    statistic_ = 2 * sum(o * np.log(o / e) for o, e in zip(counts, [700, 60, 90, 80, 70], strict=True))
    assert off.z == pytest.approx((statistic_ - 1) / np.sqrt(2))
    assert off.share == pytest.approx((statistic_ - 1) / 2000)
    assert not off.fits
    # A thousand times the cells with a thousandth of the difference: sure, and too small to matter.
    small = misfit(codes, 1e6 * counts, 1e6 * (counts + np.array([2.0, -1.0, -1.0, 0.0, 0.0])), 3)
    assert small.z > 100
    assert small.fits


@pytest.mark.parametrize(("members", "values"), [(3, 3), (3, 50), (4, 10), (5, 3)])
def test_independent_members_are_trusted(members, values):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        codes, _ = independent(rng, 1000, rng.permutation(np.linspace(0.55, 0.95, members)), values)
        assert judged(codes, float(values)).doubt is None
        weights = learn_statistic(statistic(codes), value_counts={"colour": values})
        assert weights.method == "em"
        assert "doubt" not in weights.settings
        assert len(set(weights.default.weights)) == members


@pytest.mark.parametrize("values", [20, 50])
def test_independent_members_stay_trusted_as_votes_grow_though_values_are_not_counted(values):
    rng = np.random.default_rng(0)
    codes, _ = independent(rng, 20_000, np.array([0.5, 0.56, 0.62, 0.68, 0.74, 0.8]), values, 0.0)
    for cells in (1000, 5000, 20_000):
        assert judged(codes[:cells]).doubt is None


def mixed(seed, cells, members, values):
    """Independent members, one attribute for each number of values."""
    rng, accuracy = np.random.default_rng(seed), np.linspace(0.55, 0.9, members)
    codes = [independent(rng, cells, accuracy, number)[0] for number in values]
    return histogram(np.concatenate(codes), np.repeat(np.arange(len(values), dtype=np.int32), cells))


def test_attributes_with_other_numbers_of_values_are_tested_with_their_own():
    assert judge(mixed(0, 16_000, 6, [3, 10, 50]), np.full(3, 10.0)).doubt is None


def test_an_attribute_expects_no_more_candidates_than_it_has_values(monkeypatch):
    monkeypatch.setattr("quorum.learning.trust._other_labels_fit", lambda *_: False)
    hist = mixed(0, 16_000, 6, [3, 10, 50])
    assert judge(hist, np.array([3.0, 10.0, 50.0])).doubt is None


def test_a_difference_too_small_to_cost_accuracy_is_no_doubt_however_many_cells_there_are():
    accuracy = np.linspace(0.85, 0.65, 4)
    for share, doubt in ((0.05, None), (0.1, Doubt.UNEXPLAINED)):
        codes, _ = with_bloc(np.random.default_rng(2), 30_000, accuracy, 10, [2, 3], share)
        assert judge(histogram(codes), np.array([10.0]), blocs=False).doubt is doubt


def test_one_bloc_is_an_explanation_only_for_weights_that_count_it_as_little_more_than_one():
    codes, _ = with_bloc(np.random.default_rng(0), 3000, np.linspace(0.9, 0.75, 4), 10, [1, 2], 0.6)
    trust = judged(codes)
    assert trust.doubt is None
    assert trust.alike == (1, 2)
    assert judge(histogram(codes), np.array([10.0]), blocs=False).doubt is Doubt.UNEXPLAINED


def test_what_no_model_explains_stays_with_majority_and_says_who_is_alike():
    votes = statistic(two_pairs(0))
    weights = learn_statistic(votes)
    assert weights.method == "majority"
    assert weights.settings["alike"] in (["a", "b"], ["c", "d"])
    alike = " and ".join(weights.settings["alike"])
    assert weights.settings["doubt"] == (
        f"the agreement of {alike} is higher than independent members could have: {ADVICE}"
    )
    em, before = (learn_statistic(votes, "em", settings={"cautious": cautious}) for cautious in (True, False))
    assert em.default.weights == (1.0, 1.0, 1.0, 1.0)
    assert em.attributes == {}
    assert em.settings["doubt"] == weights.settings["doubt"]
    assert len(set(before.default.weights)) == 4
    assert "doubt" not in before.settings


def test_a_bloc_is_doubted_where_the_other_pair_explains_as_much():
    codes = two_pairs(1, share=0.98, weak=0.8)
    bloc = find_bloc(histogram(codes), 10.0)
    assert bloc is not None
    other = rival(histogram(codes), 10.0, bloc)
    assert other == pytest.approx(bloc.misfit.share, abs=0.01)
    assert judged(codes).doubt is Doubt.UNEXPLAINED
    single, _ = with_bloc(np.random.default_rng(0), 3000, np.linspace(0.9, 0.75, 4), 10, [1, 2], 0.6)
    found = find_bloc(histogram(single), 10.0)
    assert rival(histogram(single), 10.0, found) > 2 * found.misfit.share + 0.001


def test_of_three_members_those_that_repeat_each_other_are_named():
    rng = np.random.default_rng(3)
    codes, _ = independent(rng, 3000, np.array([0.85, 0.7, 0.7]), 10, 0.0)
    copied = rng.random(3000) < 0.7
    codes[copied, 2] = codes[copied, 1]
    trust = judged(codes)
    assert trust.doubt is Doubt.UNEXPLAINED
    assert trust.alike == (1, 2)
    assert trust.reason(["gpt", "llama", "qwen"]) == (
        "llama and qwen agree with each other more than with gpt, and not as independent members would"
    )


def test_few_cells_tell_nothing():
    codes, _ = independent(np.random.default_rng(0), 1000, np.array([0.9, 0.8, 0.7, 0.6]), 5, 0.0)
    assert judged(codes[:500], 5.0).doubt is None
    assert judged(codes[:499], 5.0).doubt is Doubt.FEW_CELLS
    three = judged(codes[:999, :3], 5.0)
    assert three.reason("abc") == "999 cells are too few to test the members' agreement, 1000 suffice"


def test_a_silent_member_is_no_member():
    codes, _ = independent(np.random.default_rng(1), 1000, np.array([0.9, 0.8, 0.6]), 5, 0.0)
    silent = np.concatenate([codes, np.full((1000, 1), -1, np.int16)], axis=1)
    assert judged(silent, 5.0).doubt is None
    assert judged(silent[:999], 5.0).needed == 1000
    assert learn_statistic(statistic(silent[:900]), "em").default.weights == (1.0, 1.0, 1.0, 0.0)


def half_n_a(count=1200):
    rng = np.random.default_rng(5)
    codes, truth = independent(rng, count, np.array([0.9, 0.8, 0.7]), 5, 0.0)
    rows = [
        Cell(f"p{i}", "", "", "a", tuple("n/a" if v == 1 else f"v{v}" for v in codes[i]), (f"v{truth[i]}",))
        for i in range(count)
    ]
    return build_table(["a", "b", "c"], rows)


def test_a_bias_for_n_a_is_in_mean_weights():
    table = half_n_a()
    blank = table.with_gold(np.zeros(len(table), np.bool_))
    majority = learn(blank, "majority", settings={"na_bias": -1.0})
    assert majority.default.na_bias == -1.0
    assert majority.settings["na_bias"] == -1.0
    plain, em = (learn(blank, "em", settings=own) for own in ({}, {"na_bias": -0.5}))
    assert em.default.na_bias == pytest.approx(-0.5 * np.mean(plain.default.weights), abs=1e-5)
    assert em.attributes["a"].na_bias == pytest.approx(
        -0.5 * np.mean(plain.attributes["a"].weights), abs=1e-5
    )
    assert plain.default.na_bias == 0.0
    assert "na_bias" not in plain.settings


def test_the_command_takes_a_bias_and_says_why_agreement_is_doubted(tmp_path):
    path = tmp_path / "votes.jsonl"
    lines = [
        {"product": f"p{i}", "attribute": "a", "votes": dict(zip("abc", votes, strict=True))}
        for i, votes in enumerate(itertools.islice(itertools.cycle([("x", "x", "y"), ("n/a", "y", "z")]), 60))
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    report = quorum.learn(path, options=quorum.LearnOptions(na_bias=-1.0))
    assert report.weights.method == "majority"
    assert report.weights.default.na_bias == -1.0
    assert report.remarks[-1].startswith("60 cells are too few")
    assert report.remarks[-1] == report.weights.settings["doubt"]
    with pytest.raises(LearnError, match="loglinear: a bias for n/a can be set for majority and em"):
        quorum.learn(path, options=quorum.LearnOptions(method="loglinear", na_bias=-1.0))


@pytest.mark.data
def test_no_subset_of_the_recorded_members_falls_below_majority(recorded_votes):
    table = read_votes(recorded_votes)
    blank = table.with_gold(np.zeros(len(table), np.bool_))
    differences = []
    for members in itertools.combinations(range(5), 4):
        names = [table.members[j] for j in members]
        rows = [
            Cell(c.product, c.category, c.title, c.attribute, tuple(c.values[j] for j in members), c.gold)
            for c in table.cells
        ]
        own = build_table(names, rows)
        votes = own.with_gold(np.zeros(len(own), np.bool_)).statistic()
        right = [
            is_right(own, apply(own, learn_statistic(votes, method)))[own.labelled].mean()
            for method in ("majority", "auto")
        ]
        differences.append(100.0 * (right[1] - right[0]))
    assert min(differences) >= -0.3
    assert learn(blank).method == "majority"


def test_evaluation_shows_the_bias_and_says_that_agreement_is_doubted():
    table = half_n_a(300)
    result = evaluate(table, ("majority", "em"), folds=3)
    names = ["majority", "majority_with_na_bias", "em", "em_with_na_bias"]
    assert list(result.methods) == names
    assert [result.label(name) for name in names[1::2]] == ["majority, n/a bias", "em, n/a bias"]
    assert result.notes[-1].startswith("em: 300 cells are too few")
    assert result.methods["majority_with_na_bias"].accuracy != result.methods["majority"].accuracy
    by_draws = evaluate(table, ("majority",), folds=3, gold_labels=20, draws=2)
    assert by_draws.spread == {}
