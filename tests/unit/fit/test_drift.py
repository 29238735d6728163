# SPDX-License-Identifier: Apache-2.0
"""A day's votes add up, old ones fade, a member that changed is named and nobody else."""

import json

import numpy as np
import pytest

from quorum.fit.drift import drift, update
from quorum.fit.simulate import independent
from quorum.fit.statistic import Statistic, StatisticError
from quorum.voting.histogram import histogram

MEMBERS = ("a", "b", "c", "d", "e")
GROUPS = tuple(("shoes", f"x{i}") for i in range(6))
ACCURACY = np.array([0.92, 0.88, 0.85, 0.8, 0.75])


def day(rng, cells, accuracy, missing=0.05):
    groups = rng.integers(0, len(GROUPS), cells).astype(np.int32)
    codes, _ = independent(rng, cells, accuracy[groups] if accuracy.ndim == 2 else accuracy, 8, missing)
    return Statistic(MEMBERS, GROUPS, histogram(codes, groups), cells)


def test_forgetting_halves_after_the_half_life():
    rng = np.random.default_rng(0)
    past, quiet = day(rng, 100, ACCURACY), day(rng, 100, ACCURACY)
    assert update(past, quiet).hist.total == 200
    assert update(past, quiet, half_life_days=1).hist.total == 150
    assert update(past, quiet, half_life_days=2).hist.total == pytest.approx(100 + 100 * 0.5**0.5)
    with pytest.raises(ValueError, match="half_life_days is 0"):
        update(past, quiet, half_life_days=0)


@pytest.mark.parametrize("member", range(5))
def test_a_member_exchanged_for_a_worse_one_is_named_within_500_cells(member):
    named = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        changed = ACCURACY.copy()
        changed[member] = 0.5
        report = drift(day(rng, 5000, ACCURACY), day(rng, 500, changed))
        named.append(report.suspects == (MEMBERS[member],))
    assert sum(named) >= 9


def test_quiet_days_raise_an_alarm_less_than_once_in_a_hundred():
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        own = np.clip(ACCURACY + rng.normal(0, 0.08, (len(GROUPS), 5)), 0.3, 0.99)
        alarms += bool(drift(day(rng, 4000, own), day(rng, 500, own)).suspects)
    assert alarms <= 3


def test_another_mix_of_attributes_is_not_drift():
    rng = np.random.default_rng(1)
    own = np.repeat(np.array([[0.95], [0.95], [0.95], [0.5], [0.5], [0.5]]), 5, axis=1)
    groups = rng.integers(3, 6, 600).astype(np.int32)
    codes, _ = independent(rng, 600, own[groups], 8, 0.05)
    today = Statistic(MEMBERS, GROUPS[3:], histogram(codes, groups - 3), 600)
    report = drift(day(rng, 6000, own), today)
    assert report.suspects == ()
    assert abs(report.members["a"].agreement - report.members["a"].expected) < 0.05


def test_a_member_that_falls_silent_is_named():
    rng = np.random.default_rng(2)
    past = day(rng, 3000, ACCURACY)
    codes, _ = independent(rng, 300, ACCURACY, 8, 0.05)
    codes[rng.random(300) < 0.4, 1] = -1
    report = drift(past, Statistic(MEMBERS, GROUPS[:1], histogram(codes), 300))
    assert report.suspects[0] == "b"
    assert report.members["b"].abstained > 0.3
    assert json.loads(json.dumps(report.to_json()))["suspects"][0] == "b"


def test_other_members_cannot_be_compared():
    rng = np.random.default_rng(3)
    past = day(rng, 100, ACCURACY)
    with pytest.raises(StatisticError):
        drift(past, Statistic(tuple("vwxyz"), GROUPS, past.hist, 1))
