# SPDX-License-Identifier: Apache-2.0
"""BM25 against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quorum.retrieval.bm25 import Bm25

DOCUMENTS = ["red shoes red", "Blue shoes, size 42", "a red bag", ""]


def by_formula(query: str, row: int) -> float:
    texts = [["red", "shoes", "red"], ["blue", "shoes", "size", "42"], ["a", "red", "bag"], []]
    mean, total = sum(map(len, texts)) / 4, 0.0
    for word in query.split():
        count, has = texts[row].count(word), sum(word in text for text in texts)
        idf = math.log(1 + (4 - has + 0.5) / (has + 0.5))
        total += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(texts[row]) / mean))
    return total


@pytest.mark.parametrize("query", ["red", "red shoes", "shoes shoes", "42 bag", "nothing"])
def test_scores_are_those_of_the_formula(query: str) -> None:
    wanted = [by_formula(query, row) for row in range(4)]
    np.testing.assert_allclose(Bm25(DOCUMENTS).scores(query.upper() + "!"), wanted, rtol=1e-5)


def test_the_best_come_first_and_what_has_no_word_does_not_come() -> None:
    searched = Bm25(DOCUMENTS)
    assert searched.top("red shoes", 4).tolist() == [0, 2, 1, -1]
    assert searched.top("red", 1).tolist() == [0]
    assert searched.top("nothing", 2).tolist() == [-1, -1]
    assert Bm25(["red", "red"]).top("red", 2).tolist() == [0, 1]
    assert Bm25([]).top("red", 1).tolist() == [-1]
