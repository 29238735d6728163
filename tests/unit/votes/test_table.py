# SPDX-License-Identifier: Apache-2.0
"""Votes tables: read as written, encoded right, refused with the line that is wrong."""

import json

import numpy as np
import pytest

from quorum.votes import (
    StatisticError,
    VotesError,
    VotesTable,
    build_table,
    parse_votes,
    read_votes,
    write_votes,
)

ROW = {
    "product": "p1",
    "category": "shoes",
    "title": "red shoe",
    "attribute": "colour",
    "gold": ["red", "crimson"],
    "votes": {"a": "red", "b": "n/a", "c": None},
}


def lines(*changes):
    return [json.dumps(ROW | {"attribute": f"x{i}"} | change) for i, change in enumerate(changes)]


def test_encoding():
    table = parse_votes(
        lines(
            {},
            {"gold": ["n/a", "red"]},
            {"gold": ["red", "n/a"], "votes": {"a": "n/a", "b": "blue", "c": "red"}},
            {"gold": None, "votes": {"c": "x", "b": "y", "a": "x"}},
            {"gold": ["green"], "product": "p2"},
            {"gold": [], "votes": {"a": None, "b": None, "c": None}},
        )
    )
    assert isinstance(table, VotesTable)
    assert table.members == ("a", "b", "c")
    assert table.codes.tolist() == [[1, 0, -1], [1, 0, -1], [0, 1, 2], [1, 2, 1], [1, 0, -1], [-1, -1, -1]]
    assert table.right.tolist() == [0b001, 0b011, 0b100, -1, 0, -1]
    assert table.gold_outside == 1
    assert table.n_products == 2
    assert table.correct()[1].tolist() == [True, True, False]


def test_round_trip(tmp_path):
    path = tmp_path / "votes.jsonl"
    table = parse_votes(lines({}, {"gold": None}, {"title": "größe | \u2028", "category": ""}))
    write_votes(table, path)
    again = read_votes(path)
    assert again.cells == table.cells
    assert again.data_hash() == table.data_hash()
    assert parse_votes(lines({}, {"gold": ["blue"]})).data_hash() != parse_votes(lines({}, {})).data_hash()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (json.dumps(ROW)[:-9], "line 2: not JSON"),
        ("[1]", "line 2: a JSON object is needed, not list"),
        (
            json.dumps(ROW | {"votes": {"a": float("nan")}}),
            "line 2: NaN is not a JSON value; write null",
        ),
        (json.dumps(ROW | {"votes": {}}), "line 2: `votes` must be"),
        (
            json.dumps(ROW | {"votes": {"a": "x", "b": "x", "d": "x"}}),
            r"line 2: .*unknown \['d'\], missing \['c'\]",
        ),
        (json.dumps(ROW | {"votes": {"a": "x", "b": "x"}}), r"missing \['c'\]"),
        (json.dumps(ROW | {"votes": {"a": 3, "b": "x", "c": "x"}}), r"line 2: votes\['a'\] is 3"),
        (json.dumps(ROW | {"votes": {"a": "", "b": "x", "c": "x"}}), "null for an abstention"),
        (json.dumps(ROW | {"votes": {"a": ["x"], "b": "x", "c": "x"}}), r"votes\['a'\] is \['x'\]"),
        (json.dumps(ROW | {"gold": "red"}), "line 2: `gold` must be a list"),
        (json.dumps(ROW | {"gold": [None]}), "line 2: `gold` holds null"),
        (json.dumps(ROW | {"gold": [1.5]}), "line 2: gold is 1.5"),
        (json.dumps(ROW | {"product": 7}), "line 2: `product` is 7"),
        (json.dumps(ROW | {"attribute": ""}), "line 2: `attribute` is ''"),
        (json.dumps(ROW | {"category": 3}), "line 2: `category` is 3"),
        (json.dumps(ROW | {"attribute": "x0"}), "line 2: product 'p1', attribute 'x0' stood on line 1"),
    ],
)
def test_a_bad_line_is_named(bad, words):
    with pytest.raises(VotesError, match=words):
        parse_votes([*lines({}), bad], "votes.jsonl")


def test_unreadable_or_empty(tmp_path):
    with pytest.raises(VotesError, match=r"nothing\.jsonl: cannot be read"):
        read_votes(tmp_path / "nothing.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(
        VotesError, match=r"bytes\.jsonl: is no text in UTF-8 .* unless its name ends in \.parquet"
    ):
        read_votes(tmp_path / "bytes.jsonl")
    with pytest.raises(VotesError, match="no votes"):
        parse_votes(["", "  "])


def test_members_must_be_distinct_and_not_too_many():
    with pytest.raises(VotesError, match="distinct"):
        build_table(["a", "a"], [])
    with pytest.raises(VotesError, match="1 to 18"):
        build_table([f"m{i}" for i in range(19)], [])


def test_gold_can_be_sampled_forgotten_and_rows_taken():
    table = parse_votes(lines(*[{}] * 10))
    sampled = table.sample_gold(4, seed=1)
    assert sampled.labelled.sum() == 4
    assert np.array_equal(sampled.labelled, table.sample_gold(4, seed=1).labelled)
    assert not np.array_equal(sampled.labelled, table.sample_gold(4, seed=2).labelled)
    assert sum(bool(cell.gold) for cell in sampled.cells) == 4
    assert table.take([3, 5]).cells == (table.cells[3], table.cells[5])
    with pytest.raises(VotesError, match="11 gold labels wanted, the table has 10"):
        table.sample_gold(11, seed=0)


def test_statistics_of_parts_add_to_the_whole_even_with_other_groups():
    table = parse_votes(
        lines({}, {"category": "hats"}, {"gold": None}, {"category": "bags", "gold": ["n/a"]})
    )
    parts = table.take([0, 1]).statistic() + table.take([2, 3]).statistic()
    whole = table.statistic()
    assert parts.groups == whole.groups
    assert np.array_equal(parts.hist.codes, whole.hist.codes)
    assert np.array_equal(parts.hist.right, whole.hist.right)
    assert np.array_equal(parts.hist.groups, whole.hist.groups)
    with pytest.raises(StatisticError, match="differ"):
        whole + parse_votes([json.dumps(ROW | {"votes": {"a": "x"}})]).statistic()
