# SPDX-License-Identifier: Apache-2.0
"""Two spellings of one answer are counted by cell, as the catalogue, or else plain normalising, has it."""

from __future__ import annotations

import pytest

from quorum.review.spellings import Spellings, find_spellings, spelling_remarks
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.votes import Cell


def cell(*values: str | None, gold: tuple[str, ...] = (), attribute: str = "colour") -> Cell:
    return Cell("p", "", "", attribute, values, gold)


@pytest.mark.parametrize(
    ("one", "pair"),
    [
        (cell("Red", "red", None), ("Red", "red")),
        (cell("n/a", "N/A", "red"), ("N/A", "n/a")),
        (cell("not specified", "n/a"), ("n/a", "not specified")),
        (cell("cafe\u0301", "caf\u00e9"), ("cafe\u0301", "caf\u00e9")),
        (cell("Red", "Red", gold=("red",)), ("Red", "red")),
        (cell("N/A", gold=("n/a",)), ("N/A", "n/a")),
        (cell("red", "blue", "red"), None),
        (cell("red", None, gold=("Red", "red")), None),
        (cell("red", gold=("blue",)), None),
        (cell(None, None), None),
    ],
)
def test_spellings_of_one_answer(one: Cell, pair: tuple[str, str] | None) -> None:
    assert find_spellings([one]) == (None if pair is None else Spellings(1, pair))


def test_the_catalogue_says_which_answers_are_one() -> None:
    catalogue = Catalogue.of(
        [
            Attribute("colour", values=("red", "grey"), synonyms={"crimson": "red"}),
            Attribute("code", normaliser="exact"),
        ]
    )
    assert find_spellings([cell("crimson", "red")]) is None
    assert find_spellings([cell("crimson", "red")], catalogue) == Spellings(1, ("crimson", "red"))
    # Both outside the value set: neither is an answer.
    assert find_spellings([cell("Mauve", "mauve")], catalogue) is None
    assert find_spellings([cell("A1", "a1", attribute="code")], catalogue) is None
    assert find_spellings([cell("N/A", "n/a", attribute="code")], catalogue) == Spellings(1, ("N/A", "n/a"))


def test_one_remark_counts_cells_and_names_the_most_frequent_pair() -> None:
    cells = [cell("Red", "red"), cell("Blue", "blue"), cell("blue", "Blue", "BLUE"), cell("x", "y")]
    (remark,) = spelling_remarks(cells, "votes.jsonl")
    assert remark == (
        "votes.jsonl: spellings of one answer, such as 'Blue' and 'blue', count as different answers in 3 "
        "cells: `quorum votes normalise` makes them one"
    )
    assert spelling_remarks(cells[3:], "votes.jsonl") == ()
