# SPDX-License-Identifier: Apache-2.0
"""Answers that cannot be read are counted and named; none is lost without a word."""

from __future__ import annotations

from quorum.decision.answer_kinds import AnswerKinds
from quorum.votes import Cell, VotesTable, build_table
from quorum.votes.readable import readable

KINDS: AnswerKinds = {"entities": "spans", "materials": "values", "summary": "text"}
TEXT = "red shoe"
RED = '[["red","color"]]'


def table_of(*cells: Cell) -> VotesTable:
    return build_table(("a", "b"), list(cells))


def test_what_can_be_read_stays_the_same_table() -> None:
    table = table_of(
        Cell("p", "", TEXT, "entities", (RED, "[]"), (RED, "[]")),
        Cell("p", "", TEXT, "materials", ('["wool"]', None), ('["wool"]', "n/a")),
        Cell("p", "", TEXT, "summary", ("[", "x"), ("[",)),
    )
    assert readable(table, KINDS) == (table, ())


def test_unreadable_votes_and_gold_are_counted_and_named() -> None:
    blue = '[["blue","color"]]'
    rows = (
        Cell("p1", "", TEXT, "entities", (RED, "red"), (RED,)),
        Cell("p2", "", TEXT, "entities", (blue, RED), (blue,)),
        Cell("p3", "", TEXT, "entities", ('["red"]', RED), (blue, RED)),
    )
    table, remarks = readable(table_of(*rows), KINDS)
    assert [cell.values for cell in table.cells] == [(RED, None), (None, RED), (None, RED)]
    assert [cell.gold for cell in table.cells] == [(RED,), (), (RED,)]
    (remark,) = remarks
    assert remark.startswith("entities: 3 votes and 2 gold answers cannot be read and do not count, first of")
    assert "product p1: 'red' is no JSON" in remark
    assert remark.endswith("with words as in the title, [] for none")


def test_a_table_without_texts_is_named() -> None:
    table, (remark,) = readable(table_of(Cell("p", "", "", "entities", (RED, RED), (RED,))), KINDS)
    assert table.cells[0].values == (None, None)
    assert "2 votes and 1 gold answer cannot" in remark
    assert remark.endswith("give the product's text as `title`, which spans are parts of")


def test_plain_values_are_one_value_and_plain_gold_is_all_of_them() -> None:
    rows = (
        Cell("p1", "", "", "materials", ("wool", "[wool"), ("wool", "silk")),
        Cell("p2", "", "", "materials", ("n/a", None), ('["wool"]', "silk")),
        Cell("p3", "", "red", "materials", ("n/a", '[["red","color"]]'), ("wool",)),
    )
    table, (remark,) = readable(table_of(*rows), KINDS)
    assert table.cells[0].values == ('["wool"]', None)
    gold = [cell.gold for cell in table.cells]
    assert gold == [('["silk","wool"]',), ('["wool"]', '["silk"]'), ('["wool"]',)]
    assert remark.startswith("materials: 2 votes cannot be read")
