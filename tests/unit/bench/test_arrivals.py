# SPDX-License-Identifier: Apache-2.0
"""Arrival times: Poisson has the right counts and gaps, files are read or refused with their line."""

from __future__ import annotations

import numpy as np
import pytest

from quorum_bench.arrivals import poisson, replayed


def test_poisson_counts_and_gaps():
    counts = [len(poisson(50, 10, seed)) for seed in range(300)]
    assert np.mean(counts) == pytest.approx(500, abs=5)
    assert np.var(counts) == pytest.approx(500, rel=0.25)
    gaps = np.diff(poisson(1000, 100, seed=1)) / 1e6
    assert np.mean(gaps) == pytest.approx(1, rel=0.02)
    assert np.std(gaps) == pytest.approx(1, rel=0.03)


def test_poisson_is_the_same_for_a_seed_and_ascends():
    one, two = poisson(100, 5, 4), poisson(100, 5, 4)
    assert np.array_equal(one, two)
    assert np.all(np.diff(one) >= 0)
    assert one.min() >= 0
    assert one.max() < 5e9


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1, 0)])
def test_poisson_of_nothing(rate, seconds):
    with pytest.raises(ValueError, match="above 0"):
        poisson(rate, seconds, 0)


def test_a_file_is_shifted_cut_and_sped_up(tmp_path):
    path = tmp_path / "arrivals.txt"
    path.write_text("# recorded\n100.0\n100.5\n\n102.0\n", encoding="utf-8")
    assert replayed(path).tolist() == [0, 500_000_000, 2_000_000_000]
    assert replayed(path, seconds=1.0).tolist() == [0, 500_000_000]
    assert replayed(path, speed=2.0).tolist() == [0, 250_000_000, 1_000_000_000]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1\ntwo\n", ":2: 'two' is no time"),
        ("2\n1\n", ":2: 1 comes before 2"),
        ("", "no arrival times"),
        ("nan\n", ":1:"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "arrivals.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        replayed(path)
