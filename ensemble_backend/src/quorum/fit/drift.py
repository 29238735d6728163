# SPDX-License-Identifier: Apache-2.0
"""Learning from a stream: add a day's votes, forget old ones, and notice a member that changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from quorum.fit.statistic import Statistic
from quorum.voting.decide import Floats
from quorum.voting.histogram import Histogram
from quorum.voting.newton import Flags
from quorum.voting.patterns import ABSTAIN

FALSE_ALARMS_PER_DAY = 0.005
"""Chance of naming any member on a day on which nothing changed."""


@dataclass(frozen=True, slots=True)
class MemberDrift:
    """One member's figures today against the days before.

    Attributes:
        agreement: Mean share of the other members that gave the same answer.
        expected: The same on the days before, for today's mix of groups.
        z: Difference in standard errors.
        abstained: Share of cells without an answer today.
        expected_abstained: The same before.
        z_abstained: Difference in standard errors.
        alarm: The member left its interval.
    """

    agreement: float
    expected: float
    z: float
    abstained: float
    expected_abstained: float
    z_abstained: float
    alarm: bool


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What changed today.

    Attributes:
        members: Figures per member.
        cells: Cells seen today.
        bound: Standard errors beyond which a member is named.
        suspects: Members named, the one furthest off first. A member that changes also drags the agreement of
            the others; of several alarms of the same kind only those are named that stand out without the
            first.
    """

    members: Mapping[str, MemberDrift]
    cells: int
    bound: float
    suspects: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return {
            "cells": self.cells,
            "bound": self.bound,
            "suspects": list(self.suspects),
            "members": {
                name: {
                    "agreement": member.agreement,
                    "expected": member.expected,
                    "z": member.z,
                    "abstained": member.abstained,
                    "expected_abstained": member.expected_abstained,
                    "z_abstained": member.z_abstained,
                    "alarm": member.alarm,
                }
                for name, member in self.members.items()
            },
        }


def update(past: Statistic, today: Statistic, half_life_days: float | None = None) -> Statistic:
    """Add a day's votes to those of the days before.

    Args:
        past: The days before.
        today: Today's votes.
        half_life_days: After so many days a vote counts half; None: nothing is forgotten.

    Returns:
        The statistic to learn from and to hand in tomorrow.

    Raises:
        ValueError: A half-life that is not above 0.
        StatisticError: Other members.
    """
    if half_life_days is None:
        return past + today
    if not half_life_days > 0.0:
        raise ValueError(f"half_life_days is {half_life_days}; it must be above 0")
    return past.scaled(0.5 ** (1.0 / half_life_days)) + today


def drift(past: Statistic, today: Statistic, false_alarms: float = FALSE_ALARMS_PER_DAY) -> DriftReport:
    """Name the members whose agreement with the others, or whose abstentions, left their interval today.

    Per member and group the mean agreement of the days before is what is expected today; the interval allows
    for the sampling of today and of the past, and for testing two figures of every member (Bonferroni).

    Args:
        past: The days before, without today.
        today: Today's votes.
        false_alarms: Chance of naming any member on a quiet day.

    Returns:
        The report.

    Raises:
        StatisticError: Other members.
    """
    joined = past + today
    index = {name: i for i, name in enumerate(joined.groups)}
    before, now = (_aligned(part, index) for part in (past, today))
    m = len(past.members)
    bound = _normal_quantile(1.0 - false_alarms / (4.0 * m))
    everyone = np.ones(m, np.bool_)
    agree = _compare(*(_agreement(h, everyone) for h in (before, now)))
    silent = _compare(*(_abstention(h) for h in (before, now)))
    alarm = (np.abs(agree[2]) > bound) | (np.abs(silent[2]) > bound)
    members = {
        name: MemberDrift(
            agreement=float(agree[0][j]),
            expected=float(agree[1][j]),
            z=float(agree[2][j]),
            abstained=float(silent[0][j]),
            expected_abstained=float(silent[1][j]),
            z_abstained=float(silent[2][j]),
            alarm=bool(alarm[j]),
        )
        for j, name in enumerate(past.members)
    }
    suspects = _suspects(before, now, silent[2], bound)
    return DriftReport(members, round(today.hist.total), bound, tuple(past.members[j] for j in suspects))


def _suspects(before: Histogram, now: Histogram, silent: Floats, bound: float) -> list[int]:
    found = [int(j) for j in np.argsort(-np.abs(silent)) if abs(silent[j]) > bound]
    trusted = np.ones(before.members, np.bool_)
    while trusted.sum() > 2:
        z = _compare(*(_agreement(h, trusted) for h in (before, now)))[2]
        z = np.where(trusted, np.abs(z), 0.0)
        worst = int(z.argmax())
        if z[worst] <= bound:
            break
        trusted[worst] = False
        found.append(worst)
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Sums:
    """(g, m) number, sum and sum of squares of a figure per cell."""

    count: Floats
    total: Floats
    square: Floats


def _aligned(part: Statistic, index: Mapping[tuple[str, str], int]) -> Histogram:
    hist = part.hist.regrouped(np.array([index[name] for name in part.groups], np.int32)).unlabelled()
    # One empty cell in the last group gives both histograms the same number of groups.
    if hist.n_groups < len(index):
        blank = np.full((1, hist.members), ABSTAIN, np.int8)
        last = np.array([len(index) - 1], np.int32)
        empty = Histogram(blank, last, np.array([-1], np.int64), np.zeros(1))
        hist = hist + empty
    return hist


def _agreement(hist: Histogram, trusted: Flags) -> _Sums:
    answered = hist.codes != ABSTAIN
    seen = answered & trusted
    sums = []
    for j in range(hist.members):
        others = seen.copy()
        others[:, j] = False
        peers = others.sum(axis=1)
        usable = (peers > 0) & answered[:, j]
        same = ((hist.codes == hist.codes[:, j : j + 1]) & others).sum(axis=1)
        value = np.divide(same, peers, out=np.zeros(len(same)), where=peers > 0)
        sums.append(_per_group(hist, value, usable))
    return _stack(sums)


def _abstention(hist: Histogram) -> _Sums:
    everything = np.ones(len(hist.counts), np.bool_)
    silent = (hist.codes == ABSTAIN).astype(np.float64)
    return _stack([_per_group(hist, silent[:, j], everything) for j in range(hist.members)])


def _per_group(hist: Histogram, value: Floats, usable: Flags) -> tuple[Floats, Floats, Floats]:
    weight = hist.counts * usable
    size = hist.n_groups
    count, total, square = (
        np.bincount(hist.groups, weight * value**power, size).astype(np.float64) for power in range(3)
    )
    return count, total, square


def _stack(columns: list[tuple[Floats, Floats, Floats]]) -> _Sums:
    count, total, square = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))
    return _Sums(count, total, square)


def _compare(before: _Sums, now: _Sums) -> tuple[Floats, Floats, Floats]:
    """(m,) mean now, mean expected for today's groups, difference in standard errors; new groups left out."""
    known = (before.count >= 2.0) & (now.count > 0.0)
    weight = np.where(known, now.count, 0.0)
    cells = np.maximum(weight.sum(axis=0), 1e-9)
    past_count = np.maximum(before.count, 1.0)
    rate = before.total / past_count
    # Half a cell each way keeps the spread of a group that never varied above zero.
    variance = np.maximum(before.square / past_count - rate**2, 0.0) + 0.25 / (past_count + 1.0)
    mean = (np.where(known, now.total, 0.0)).sum(axis=0) / cells
    expected = (weight * rate).sum(axis=0) / cells
    error = np.sqrt((weight * variance + weight**2 * variance / past_count).sum(axis=0)) / cells
    z = np.divide(mean - expected, error, out=np.zeros_like(mean), where=error > 0.0)
    return mean, expected, z


def _normal_quantile(p: float) -> float:
    return NormalDist().inv_cdf(p) if p < 1.0 else math.inf
