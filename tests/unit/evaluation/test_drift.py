# SPDX-License-Identifier: Apache-2.0
"""A member that changed is named within 500 cells; on quiet days hardly ever anybody is."""

import json
import os
from datetime import UTC, datetime

import numpy as np
import pytest

from quorum.decision.histogram import histogram
from quorum.decision.weights import WeightsError, equal_weights
from quorum.evaluation.drift import DriftError, drift
from quorum.evaluation.evidence import BLOCK, evidence
from quorum.learning import learn, learn_statistic
from quorum.learning.online import begin
from quorum.learning.simulate import independent
from quorum.votes import Cell, VotesTable, read_votes
from quorum.votes.statistic import Statistic

MEMBERS = ("a", "b", "c", "d", "e")
GROUPS = tuple(("shoes", f"x{i}") for i in range(6))
ACCURACY = np.array([0.9, 0.85, 0.8, 0.9, 0.75])
SWAPPED = np.array([0.75, 0.85, 0.8, 0.9, 0.75])


def votes(rng, cells, accuracy, missing=0.1, groups=None):
    groups = rng.integers(0, len(GROUPS), cells).astype(np.int32) if groups is None else groups
    codes, _ = independent(rng, cells, accuracy[groups] if accuracy.ndim == 2 else accuracy, 10, missing)
    return codes.astype(np.int8), groups


def reference(codes, groups):
    return Statistic(MEMBERS[: codes.shape[1]], GROUPS, histogram(codes, groups), len(codes))


def day(codes, groups, texts=False):
    """A table of votes; only some tests look at the texts of its cells, which take longest to make."""
    n, m = codes.shape
    names = [*(f"v{v}" for v in range(codes.max() + 1)), None]  # the last is -1's
    cells = (Cell("p", "shoes", "", "x0", (None,) * m),) * n
    if texts:
        cells = tuple(
            Cell(f"p{i}", "shoes", "", GROUPS[g][1], tuple(names[v] for v in row))
            for i, (g, row) in enumerate(zip(groups.tolist(), codes.tolist(), strict=True))
        )
    blank, nothing = np.full(n, -1, np.int64), np.full((n, m), np.nan, np.float32)
    return VotesTable(
        MEMBERS[:m],
        cells,
        codes,
        blank,
        groups,
        GROUPS,
        np.arange(n, dtype=np.int32),
        blank.astype(np.int8),
        nothing,
    )


def own_accuracies(rng):
    """Accuracies that differ by attribute, around the usual ones."""
    return np.clip(ACCURACY + rng.normal(0, 0.06, (len(GROUPS), 5)), 0.3, 0.98)


@pytest.mark.slow
def test_quiet_days_of_2000_cells_raise_an_alarm_less_than_once_in_a_hundred():
    alarms, days = 0, 300 if os.environ.get("QUORUM_LONG") else 100
    for seed in range(days):
        rng = np.random.default_rng([1, seed])
        accuracy = own_accuracies(rng)
        alarms += bool(
            drift(reference(*votes(rng, 4000, accuracy)), day(*votes(rng, 2000, accuracy))).findings
        )
    assert alarms <= days / 150


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 1000])
def test_a_member_exchanged_for_a_worse_one_is_named_within_500_cells(before):
    delays, others = [], 0
    for seed in range(60):
        rng = np.random.default_rng([2, seed])
        quiet, swapped = votes(rng, before, ACCURACY), votes(rng, 500, SWAPPED)
        today = day(*(np.concatenate(parts) for parts in zip(quiet, swapped, strict=True)))
        findings = drift(reference(*votes(rng, 8000, ACCURACY)), today).findings
        delays += [f.cell - before for f in findings if f.member == "a" and f.kind == "disagrees more"]
        others += any(f.member != "a" for f in findings)
    assert len(delays) >= 57
    assert 50 < np.median(delays) < 350
    assert min(delays) > 0
    assert others <= 1


def test_with_the_learned_weights_and_a_state():
    rng = np.random.default_rng(3)
    past = day(*votes(rng, 5000, ACCURACY), texts=True)
    weights = learn(past, "em", created=datetime(2024, 5, 1, tzinfo=UTC))
    report = drift(begin(past), day(*votes(rng, 600, SWAPPED)), weights=weights)
    assert [finding.member for finding in report.findings] == ["a"]
    assert report.verdict.startswith("a disagrees more than before (alarm at cell ")
    member = report.members[0]
    assert member.disagreement > member.high > member.expected > member.low
    assert all(m.low <= m.expected <= m.high for m in report.members)
    quiet = drift(begin(past), day(*votes(rng, 600, ACCURACY)), weights=weights)
    assert quiet.findings == []
    assert quiet.verdict.startswith(
        "No member changed, as far as 600 cells tell. A change shows on about half"
    )
    assert json.loads(json.dumps(report.to_json()))["findings"][0]["member"] == "a"


@pytest.mark.slow
@pytest.mark.parametrize(("members", "cells"), [(3, 500), (5, 200)])
def test_about_half_of_the_days_show_what_is_called_noticeable(members, cells):
    rng = np.random.default_rng(members)
    usual = ACCURACY[:members]
    quiet = drift(reference(*votes(rng, 1000, usual)), day(*votes(rng, cells, usual)))
    wanted = quiet.members[0].noticeable
    assert wanted > quiet.members[0].high
    swapped = usual.copy()
    for swapped[0] in np.arange(0.9, 0.0, -0.02):
        many = drift(reference(*votes(rng, 1000, usual)), day(*votes(rng, 4000, swapped)))
        if many.members[0].disagreement >= wanted:
            break
    named = 0
    for _ in range(30):
        found = drift(reference(*votes(rng, 1000, usual)), day(*votes(rng, cells, swapped)))
        named += "a" in {finding.member for finding in found.findings}
    assert 6 <= named <= 27


def test_a_day_of_few_cells_says_that_it_is_blind():
    rng = np.random.default_rng(0)
    report = drift(reference(*votes(rng, 100, ACCURACY[:3])), day(*votes(rng, 5, ACCURACY[:3])))
    assert [member.noticeable for member in report.members] == [None] * 3
    assert "too few to notice any change of a, b, c" in report.verdict


def test_two_members_that_change_are_both_named():
    rng = np.random.default_rng(4)
    worse = np.array([0.6, 0.85, 0.8, 0.6, 0.75])
    report = drift(reference(*votes(rng, 8000, ACCURACY)), day(*votes(rng, 2000, worse)))
    assert {finding.member for finding in report.findings} == {"a", "d"}


def test_other_kinds_of_change():
    rng = np.random.default_rng(5)
    past = reference(*votes(rng, 8000, ACCURACY))
    codes, groups = votes(rng, 2000, ACCURACY)
    silent = codes.copy()
    silent[rng.random(2000) < 0.2, 1] = -1
    assert [(f.member, f.kind) for f in drift(past, day(silent, groups)).findings] == [("b", "abstains more")]
    better, _ = votes(rng, 2000, np.array([0.9, 0.85, 0.8, 0.9, 0.97]), groups=groups)
    assert [(f.member, f.kind) for f in drift(past, day(better, groups)).findings] == [
        ("e", "disagrees less")
    ]


def test_another_mix_of_attributes_is_no_change():
    rng = np.random.default_rng(6)
    own = np.repeat(np.array([[0.95], [0.95], [0.95], [0.5], [0.5], [0.5]]), 5, axis=1)
    hard = rng.integers(3, 6, 2000).astype(np.int32)
    today = day(*votes(rng, 2000, own, groups=hard))
    report = drift(reference(*votes(rng, 8000, own)), today)
    assert report.findings == []
    assert abs(report.members[0].disagreement - report.members[0].expected) < 0.05


def test_of_two_members_neither_is_singled_out():
    rng = np.random.default_rng(7)
    past = reference(*votes(rng, 5000, ACCURACY[:2]))
    findings = drift(past, day(*votes(rng, 1000, np.array([0.6, 0.85])))).findings
    assert {finding.member for finding in findings} == {"a", "b"}


def test_evidence_is_the_mean_over_starts_and_rates():
    rng = np.random.default_rng(8)
    outcome = rng.integers(-1, 2, 3 * BLOCK + 7).astype(np.int8)
    bound = rng.uniform(0.1, 0.3, len(outcome))
    starts = range(0, len(outcome), BLOCK)
    mass = [0.5] + [0.5 / (len(starts) - 1)] * (len(starts) - 1)
    expected = []
    for t in range(len(outcome)):
        total = 0.0
        for shift in (0.5, 1.0, 1.5):
            for start, share in zip(starts, mass, strict=True):
                value = share / 3
                for i in range(start, t + 1):
                    odds = bound[i] / (1 - bound[i]) * np.exp(shift)
                    other = odds / (1 + odds)
                    if outcome[i] >= 0:
                        value *= other / bound[i] if outcome[i] else (1 - other) / (1 - bound[i])
                total += value
        expected.append(np.log(total))
    assert np.allclose(evidence(outcome, bound, up=True), expected)


def test_the_evidence_seldom_grows_at_the_bound():
    rng = np.random.default_rng(9)
    bound = np.full(2000, 0.12)
    highest = [evidence((rng.random(2000) < 0.12).astype(np.int8), bound, up=True).max() for _ in range(1000)]
    # Ville: at most 100 of 1000 beyond log 10, less three standard errors.
    assert 5 <= np.sum(np.array(highest) > np.log(10)) <= 100


def test_real_days_of_other_products_are_quiet(recorded_votes):
    table = read_votes(recorded_votes)
    alarms = 0
    for seed in range(20):
        past = np.random.default_rng(seed).permutation(table.n_products)[table.products] % 3 > 0
        today = table.take(np.flatnonzero(~past))
        alarms += bool(drift(table.take(np.flatnonzero(past)).statistic(), today).findings)
    assert alarms <= 1


def test_what_cannot_be_compared():
    rng = np.random.default_rng(10)
    past, today = reference(*votes(rng, 50, ACCURACY)), day(*votes(rng, 50, ACCURACY))
    with pytest.raises(DriftError, match="same members"):
        drift(reference(*votes(rng, 50, ACCURACY[:3])), today)
    with pytest.raises(WeightsError, match="weights for"):
        drift(past, today, weights=equal_weights(["x"]))
    with pytest.raises(DriftError, match="no votes"):
        drift(past, today.take([]))
    with pytest.raises(DriftError, match="alarm is 0"):
        drift(past, today, alarm=0)
    with pytest.raises(DriftError, match="at least 2"):
        drift(reference(*votes(rng, 50, ACCURACY[:1])), day(*votes(rng, 50, ACCURACY[:1])))
    assert learn_statistic(past, "em").method == "em"
