# SPDX-License-Identifier: Apache-2.0
"""Attributes are named where they are surely worse, and seldom by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quorum.evaluation import by_attribute
from quorum.evaluation.by_attribute import LEAST_CELLS, difference, headline, judge
from quorum.evaluation.stats import binomial_tail


def kinds_of(**cells: int) -> tuple[list[tuple[str, str]], np.ndarray]:
    kinds = [("c", name) for name, count in cells.items() for _ in range(count)]
    return kinds, np.concatenate([np.arange(count, dtype=np.int32) for count in cells.values()])


def test_figures_by_hand() -> None:
    kinds, products = kinds_of(brand=40, size=40, rare=LEAST_CELLS - 1)
    own, other = np.ones(len(kinds)), np.ones(len(kinds))
    own[:10] = 0  # brand
    other[40:42] = 0  # size
    own[80:] = 0  # rare
    found = judge(kinds, products, own, other, "majority")
    brand = found.by_attribute["brand"]
    assert (brand.accuracy, brand.other, brand.cells, brand.products) == (0.75, 1.0, 40, 40)
    assert brand.difference.value == -0.25
    assert -0.42 < brand.difference.low < brand.difference.high < -0.1
    verdicts = {name: c.verdict for name, c in found.by_attribute.items()}
    assert verdicts == {"brand": "worse", "size": "unclear", "rare": "too few cells"}
    assert (found.worse, found.too_few, found.by_category) == (["brand"], ["rare"], {})
    assert headline({"majority": found}).startswith("worse than majority on brand (-25.0 points [-4")
    assert judge(kinds, products, other, own, "").by_attribute["brand"].verdict == "better"
    assert judge(kinds, products, own, other, "", margin=0.3).worse == []
    assert headline({"majority": judge(kinds, products, own, own, "majority")}) == ""


def test_many_attributes_need_more_evidence_than_one() -> None:
    kinds, products = kinds_of(**{f"a{i}": 30 for i in range(40)})
    own, other = np.ones(len(kinds)), np.ones(len(kinds))
    own[:7] = 0
    assert judge(kinds[:30], products[:30], own[:30], other[:30], "").worse == ["a0"]
    found = judge(kinds, products, own, other, "")
    assert found.worse == []
    assert found.by_attribute["a0"].difference.high < 0.0
    (line,) = found.legend
    assert line.startswith("a0: neither better nor worse, though 0 is outside the interval")
    assert judge(kinds, products, own, other, "", margin=0.3).legend == []


def test_categories_count_with_all_cells_of_their_products() -> None:
    kinds = [(c, f"a{i % 4}") for c in ("shoes", "shirts", "few") for i in range(80 if c != "few" else 8)]
    products = (np.arange(len(kinds)) // 4).astype(np.int32)
    own, other = np.zeros(len(kinds)), np.zeros(len(kinds))
    own[80:160] = 1
    other[[0, 5]] = own[[1, 4]] = 1  # within a product of shoes each
    found = judge(kinds, products, own, other, "majority")
    assert found.by_category["shoes"].difference.high == pytest.approx(1 - 0.025**0.05)
    assert {name: (c.cells, c.products, c.verdict) for name, c in found.by_category.items()} == {
        "shirts": (80, 20, "better"), "shoes": (80, 20, "unclear"),
    }  # fmt: skip


def test_draws_of_labels_widen_the_interval_and_falls_are_counted() -> None:
    kinds, products = kinds_of(brand=100)
    other, own = np.ones(100), np.ones((100, 4))
    own[:30, :2] = 0
    found = judge(kinds, products, own, other, "majority")
    brand = found.by_attribute["brand"]
    assert (brand.difference.value, brand.falls, brand.verdict) == (-0.15, 2, "worse")
    assert found.legend == ["Falls: in how many of the 4 draws of labels it is lower by more than 3 points."]
    assert brand.difference.low < -0.3
    assert brand.difference.high == 0.0
    assert found.worse_in_words().endswith(", more than 3 points in 2 of 4 draws)")


def test_two_that_are_equally_good_are_seldom_called_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one comparison of 40 at most; tested one by one, an attribute is named in 11 of these 100."""
    monkeypatch.setattr(by_attribute, "RESAMPLES", 2)
    rng = np.random.default_rng(0)
    kinds, products = kinds_of(**{f"a{i}": 60 for i in range(10)})
    named = [
        bool(judge(kinds, products, *(rng.random((2, 600)) < 0.8).astype(float), "").worse)
        for _ in range(100)
    ]
    assert sum(named) <= 6


def test_the_interval_of_a_difference_is_that_of_a_bootstrap_over_products() -> None:
    rng = np.random.default_rng(1)
    products = np.repeat(np.arange(200), 3).astype(np.int32)
    gains = (rng.integers(-1, 2, 200)[products] * (rng.random(600) < 0.8)).astype(np.float64)
    found = difference(gains, products)
    sums = np.bincount(products, gains)
    half = 1.96 * sums.std() / 3 / math.sqrt(200)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    alike = difference(np.zeros(30), np.arange(30, dtype=np.int32))
    assert (alike.low, alike.high) == (pytest.approx(-0.1157, abs=1e-3), pytest.approx(0.1157, abs=1e-3))


def test_the_sign_test_is_exact() -> None:
    for n in (1, 7, 20):
        for k in range(n + 1):
            exact = sum(math.comb(n, i) for i in range(k, n + 1)) / 2**n
            assert binomial_tail(k, n, 0.5) == pytest.approx(exact, abs=1e-12)
