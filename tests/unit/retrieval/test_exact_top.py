# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from quorum.retrieval.vectors import exact_top


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000, 5003])
@pytest.mark.parametrize("k", [1, 2, 19, 20, 64, 5003, 9999])
@pytest.mark.parametrize("kinds", [2, 10**6])
def test_the_nearest_are_those_of_a_full_sort(count: int, k: int, kinds: int) -> None:
    """With few kinds of numbers most products are equal, and only they are compared."""
    draw = np.random.default_rng(count * k)
    vectors = draw.integers(-kinds, kinds, (count, 3)).astype(np.float32)
    queries = draw.integers(-3, 3, (7, 3)).astype(np.float32)
    rows, scores = exact_top(queries, vectors, k)
    products = queries @ vectors.T
    wanted = -np.sort(-products, axis=1)[:, :k]
    np.testing.assert_array_equal(scores, wanted)
    np.testing.assert_array_equal(np.take_along_axis(products, rows, 1), wanted)
    assert all(len({*row}) == min(k, count) for row in rows.tolist())
    # Equal ones are in the order of the rows.
    equal = np.diff(scores, axis=1) == 0
    assert (np.diff(rows, axis=1)[equal] > 0).all()
