# SPDX-License-Identifier: Apache-2.0
"""The search for blocs is done once for the same votes, whatever their gold, and anew for others."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from quorum.decision.histogram import Histogram, compress
from quorum.learning.blocs import find_bloc


def copying(seed: int, cells: int = 1200) -> np.ndarray:
    """Answers of five members of which the first two mostly say the same."""
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((cells, 5)) < 0.75, 1, rng.integers(2, 9, (cells, 5))).astype(np.int8)
    codes[:, 1] = np.where(rng.random(cells) < 0.85, codes[:, 0], codes[:, 1])
    return codes


def histogram_of(codes: np.ndarray, seed: int) -> Histogram:
    right = np.where(np.random.default_rng(seed).random(len(codes)) < 0.3, np.int64(1), np.int64(-1))
    return compress(codes, np.zeros(len(codes), np.int32), right)[0]


def test_gold_starts_no_new_search_and_other_votes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["quorum.learning.blocs"]
    searches: list[int] = []
    search = module._search  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "_search", lambda *rest: searches.append(1) or search(*rest))
    codes = copying(0)
    first, again = (find_bloc(histogram_of(codes, seed), 10.0) for seed in (1, 2))
    assert first is not None
    assert first is again
    assert first.members == (0, 1)
    assert len(searches) == 1
    with pytest.raises(ValueError, match="read-only"):
        first.weights[0] = 1.0
    find_bloc(histogram_of(codes, 1), 8.0)
    find_bloc(histogram_of(np.vstack([codes, codes[:1]]), 1), 10.0)
    assert len(searches) == 3
