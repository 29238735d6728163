# SPDX-License-Identifier: Apache-2.0
"""MSER-5 on series whose warm-up is known."""

from __future__ import annotations

import numpy as np
import pytest

from quorum_bench.steady import truncation


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_a_warm_up_that_decays_is_left_out(rng):
    series = 2.0 + 20.0 * np.exp(-np.arange(1000) / 40.0) + rng.normal(0, 0.3, 1000)
    skip, steady = truncation(series)
    assert steady
    assert 100 <= skip <= 320
    assert skip % 5 == 0


def test_a_steady_series_keeps_nearly_all(rng):
    skips = [truncation(rng.exponential(1.0, 2000)) for _ in range(20)]
    assert all(steady for _, steady in skips)
    assert np.median([skip for skip, _ in skips]) <= 200


def test_a_queue_that_grows_is_never_steady(rng):
    assert not truncation(np.linspace(1, 500, 1000) + rng.normal(0, 0.3, 1000))[1]


def test_too_little_is_left_alone():
    assert truncation(np.arange(40.0)) == (0, True)


def test_a_constant_series_has_no_warm_up():
    assert truncation(np.full(500, 3.0)) == (0, True)
