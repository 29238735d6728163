# SPDX-License-Identifier: Apache-2.0
"""Cells chosen for labelling teach about as much as twice as many random ones; sheets come back whole."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, WeightsError, equal_weights
from quorum.evaluation import apply
from quorum.evaluation.heldout import assign_folds
from quorum.evaluation.score import is_right
from quorum.learning import learn
from quorum.learning.simulate import independent
from quorum.review.choose import LabelError, choose
from quorum.review.need import AttributeNeed, disagreement, label_needs, needed_of
from quorum.review.session import LabelSession, apply_sheet
from quorum.review.sheet import apply_gold, read_sheet, write_sheet
from quorum.votes import Cell, build_table, read_votes, write_votes


def simulated(seed, accuracy, cells=900, labelled=900):
    rng = np.random.default_rng(seed)
    codes, truth = independent(rng, cells, np.array(accuracy), 5)
    return build_table([f"m{j}" for j in range(len(accuracy))], [
        Cell(f"p{i // 3}", "c", "", f"a{i % 3}", tuple(None if v < 0 else f"v{v}" for v in codes[i]),
             (f"v{truth[i]}",) if i < labelled else ())
        for i in range(cells)
    ])  # fmt: skip


def test_disagreement_is_entropy_of_weighted_shares():
    rows = [("x", "x", "x", None), ("x", "y", None, None), ("x", "x", "y", "z"), (None,) * 4]
    table = build_table("abcd", [Cell("p", "", "", f"a{i}", row) for i, row in enumerate(rows)])
    assert disagreement(table).tolist() == pytest.approx([0.0, np.log(2), 1.5 * np.log(2), 0.0])
    heavy = Weights("em", tuple("abcd"), Parameters((3.0, 1.0, 0.0, 0.0)))
    expected = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert disagreement(table, heavy).tolist() == pytest.approx([0.0, expected, 0.0, 0.0])


def test_the_cells_are_new_half_disagree_and_many_products_take_part():
    table = simulated(9, [0.9, 0.8, 0.7, 0.6], labelled=300)
    choices = choose(table, 60, seed=1)
    rows = np.array([choice.index for choice in choices])
    assert len(set(rows.tolist())) == 60
    assert not table.labelled[rows].any()
    assert (disagreement(table)[rows] > 0).sum() == 30
    assert 13 <= (disagreement(table)[rows[:30]] > 0).sum() <= 17
    assert len(np.unique(table.products[rows])) >= 50
    assert choices == choose(table, 60, seed=1)
    assert choices != choose(table, 60, seed=2)
    for choice in choices:
        word = "disagree" if disagreement(table)[choice.index] > 0 else "agree;"
        assert word in choice.reason


def test_choosing_from_little():
    table = simulated(10, [0.9, 0.8, 0.7], cells=30, labelled=25)
    silent = int((table.codes[25:] < 0).all(axis=1).sum())
    assert len(choose(table, 50)) == 5 - silent
    assert len(choose(table, 1)) == 1
    alike = build_table("ab", [Cell(f"p{i}", "", "", "a", ("x", "x")) for i in range(9)])
    assert len(choose(alike, 6)) == 6
    apart = build_table("ab", [Cell(f"p{i}", "", "", "a", ("x", "y")) for i in range(9)])
    assert len(choose(apart, 6)) == 6
    assert choose(table.take(range(25)), 5) == []
    with pytest.raises(LabelError, match="count is 0"):
        choose(table, 0)
    with pytest.raises(WeightsError, match="weights for"):
        choose(table, 1, weights=equal_weights(["x"]))


def test_an_attribute_without_labels_comes_first():
    table = simulated(11, [0.9, 0.7, 0.6], labelled=600)
    rows = [replace(cell, gold=() if cell.attribute == "a0" else cell.gold) for cell in table.cells]
    bare = build_table(table.members, rows)
    names = [bare.cells[choice.index].attribute for choice in choose(bare, 100)]
    assert names.count("a0") > 70


def mixed_attributes(labelled: int = 0):
    """Brand is disputed in 200 of 800 cells, size in 20 of 100; else all say a value, or "n/a"."""
    sizes = [("brand", 200, 100, 500), ("size", 20, 40, 40)]
    votes = [("x", "x", "y"), ("x", "x", "x"), ("n/a", None, "n/a")]
    cells = [
        Cell(f"p{name}{kind}{i}", "", "", name, votes[kind], ("x",) if i < labelled and kind == 0 else ())
        for name, *numbers in sizes
        for kind, number in enumerate(numbers)
        for i in range(number)
    ]
    return build_table("abc", cells)


def test_every_attribute_gets_disputed_cells_and_few_are_all_not_given():
    table = mixed_attributes()
    cells = [table.cells[choice.index] for choice in choose(table, 80, seed=3)]
    kinds = [cell.values for cell in cells]
    assert kinds.count(("x", "x", "y")) == 40
    assert kinds.count(("x", "x", "x")) == 32
    # Not none: how often members are right where all say "n/a" is learned from these.
    assert kinds.count(("n/a", None, "n/a")) == 8
    # By the root of 200 and 20 cells, size gets 24 % of the disputed ones; in proportion it would get 9 %.
    of_size = sum(
        table.cells[choice.index].attribute == "size" and "disagree" in choice.reason
        for seed in range(20)
        for choice in choose(table, 20, seed=seed)
    )
    assert 0.16 < of_size / 200 < 0.32


def test_attributes_with_equal_disputes_get_equally_many_disputed_cells():
    table = simulated(5, [0.7, 0.7, 0.7], labelled=0)
    counts = [need.disputed for need in label_needs(table)]
    assert max(counts) < 1.2 * min(counts)
    for seed in range(20):
        names = [table.cells[choice.index].attribute for choice in choose(table, 24, seed=seed)
                 if "disagree" in choice.reason]  # fmt: skip
        assert sorted(names.count(f"a{i}") for i in range(3)) in ([4, 4, 4], [3, 4, 5])
        # Labelling may stop anywhere.
        assert len(set(names[:6])) == 3


def test_attributes_that_have_their_labels_make_room():
    table = mixed_attributes(labelled=16)
    cells = [table.cells[choice.index] for choice in choose(table, 40, seed=3)]
    assert {need.attribute: need.more for need in label_needs(table)} == {"brand": 0, "size": 0}
    bare = build_table("abc", [replace(c, gold=() if c.attribute == "size" else c.gold) for c in table.cells])
    again = [bare.cells[choice.index] for choice in choose(bare, 40, seed=3)]
    before, after = (
        sum(c.attribute == "size" and "y" in c.values for c in found) for found in (cells, again)
    )
    assert after > before + 5


def test_needed_labels_make_the_interval_of_the_difference_half_of_what_is_possible():
    # Any difference of right votes is in -1, 0, 1: with n labels 1.96 / sqrt(n) is at most half of it.
    assert needed_of(10**9) == math.ceil((1.959964 / 0.5) ** 2) == 16
    assert needed_of(0) == 0
    assert needed_of(1) == 1
    assert [needed_of(size) for size in (5, 20, 100)] == [4, 9, 14]
    # The worst case, on half of the cells one is right, on half the other: the interval is as stated.
    worst = np.repeat([1.0, -1.0], 8)
    assert 1.959964 * worst.std() / np.sqrt(16) <= 0.5


def test_needs_count_disputed_labels_by_attribute():
    needs = label_needs(mixed_attributes(labelled=4))
    assert needs == [
        AttributeNeed("brand", 800, 200, 4, 4, 15, 11),
        AttributeNeed("size", 100, 20, 4, 4, 9, 5),
    ]
    # A member without weight cannot disagree.
    silent = Weights("em", tuple("abc"), Parameters((1.0, 1.0, 0.0)))
    assert [need.disputed for need in label_needs(mixed_attributes(), silent)] == [0, 0]


@pytest.mark.slow
def test_50_chosen_labels_cannot_be_told_from_100_random_ones(recorded_votes):
    table = read_votes(recorded_votes)
    blank = table.with_gold(np.zeros(len(table), np.bool_))
    right = {"chosen": 0, "random": 0, "cells": 0}
    confidence = 0.0
    for seed in range(10):
        fold = assign_folds(table.products, 2, seed)
        pool, test = np.flatnonzero(fold == 0), fold == 1
        seen = table.take(pool)
        picks = {
            "chosen": [choice.index for choice in choose(blank.take(pool), 50, seed=seed)],
            "random": np.random.default_rng(seed).choice(len(pool), 100, replace=False),
        }
        for name, rows in picks.items():
            weights = learn(seen.with_gold(np.isin(np.arange(len(pool)), rows)), "loglinear")
            decision = apply(table, weights)
            right[name] += is_right(table, decision)[test].sum()
            confidence += decision.confidence[test].sum() if name == "chosen" else 0.0
        right["cells"] += test.sum()
    # 0.2 points is twice the standard error of the difference over ten seeds.
    assert right["chosen"] >= right["random"] - 0.002 * right["cells"]
    assert abs(confidence - right["chosen"]) < 0.03 * right["cells"]


TABLE = build_table(["a", "b", "c"], [
    Cell("p1", "Shoes", 'a "red", or\nblue shoe', "colour", ("red", "red", "n/a")),
    Cell("p1", "Shoes", "x", "size", (None, "41", None), ("41", "EU 41")),
    Cell("p2", "", "größer; =1+1", "colour", ("n/a", None, "blau"), ("n/a",)),
    Cell("p3", "", "", "colour", ("red", "blue", "green")),
])  # fmt: skip


def fill(path, answers, delimiter=","):
    """Write answers into the gold column, as a person with a spreadsheet would."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"gold": answers.get((row["product"], row["attribute"]), "")})
    return rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_sheet_goes_out_and_comes_back(tmp_path, delimiter):
    path = tmp_path / "label.csv"
    write_sheet(TABLE, choose(TABLE, 10), path)
    answers = {("p1", "colour"): " Red | dark red ", ("p3", "colour"): "N/A"}
    rows = {(row["product"], row["attribute"]): row for row in fill(path, answers, delimiter)}
    assert set(rows) == set(answers)
    assert rows["p1", "colour"]["answers"] == "red (a, b); n/a (c)"
    assert rows["p1", "colour"]["title"] == TABLE.cells[0].title
    assert all(row["gold"] == "" for row in rows.values())
    gold = read_sheet(path)
    assert {(row.product, row.attribute): row.gold for row in gold} == {
        ("p1", "colour"): ("Red", "dark red"), ("p3", "colour"): ("n/a",),
    }  # fmt: skip
    result = apply_gold(TABLE, gold)
    assert (result.added, result.same, result.outside) == (2, 0, 2)
    assert [cell.gold for cell in result.table.cells] == [
        ("Red", "dark red"),
        ("41", "EU 41"),
        ("n/a",),
        ("n/a",),
    ]
    assert result.table.labelled.all()


@pytest.mark.parametrize(
    "text", ["=1+1", "+3", "-5 °C", "@home", "\t=1", "\r=1", "'quoted", "''", "'=1", "it's"]
)
def test_a_spreadsheet_takes_no_text_for_a_formula(tmp_path, text):
    path = tmp_path / "label.csv"
    table = build_table(["a", "b"], [Cell(text, text, text, text, (text, "x"))])
    write_sheet(table, choose(table, 1), path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert not any(field.startswith(("=", "+", "-", "@", "\t", "\r")) for field in rows[1])
    rows[1][rows[0].index("gold")] = "'-5" if text == "-5 °C" else "x"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    gold = read_sheet(path)
    assert (gold[0].product, gold[0].attribute) == (text, text)
    assert gold[0].gold == (("-5",) if text == "-5 °C" else ("x",))
    assert apply_gold(table, gold).added == 1


def test_gold_that_is_there_stays(tmp_path):
    path = tmp_path / "label.csv"
    path.write_text(
        "product,attribute,gold\np1,size,EU 41 | 41\np2,colour,n/a\np1,colour,red\n"
        "absent,colour,red\np3,colour,\n"
    )
    result = apply_gold(TABLE, read_sheet(path))
    assert (result.added, result.same, result.outside) == (1, 1, 0)
    assert [(c.row, c.product, c.kept, c.given) for c in result.conflicts] == [
        (2, "p1", ("41", "EU 41"), ("EU 41", "41"))
    ]
    assert [(row.product, row.row) for row in result.unknown] == [("absent", 5)]
    assert [cell.gold for cell in result.table.cells] == [("red",), ("41", "EU 41"), ("n/a",), ()]


def test_a_sheet_says_how_sure_members_are_and_comes_back(tmp_path):
    sure = (math.log(0.93), None, math.log(0.4))
    table = build_table("abc", [Cell("p1", "", "", "colour", ("red", "red", "=x"), (), None, sure)])
    path = tmp_path / "label.csv"
    write_sheet(table, choose(table, 1), path)
    (row,) = fill(path, {("p1", "colour"): "red"})
    assert row["answers"] == "red (a p=.93, b); =x (c p=.40)"
    result = apply_gold(table, read_sheet(path))
    assert [(cell.gold, cell.scores) for cell in result.table.cells] == [(("red",), table.cells[0].scores)]


def test_gold_leaves_scores_as_they_are(tmp_path):
    votes, out = tmp_path / "votes.jsonl", tmp_path / "gold.jsonl"
    cells = [Cell(f"p{i}", "", "", "a", ("x", "y"), (), None, (-0.5, -1.0 - i)) for i in range(3)]
    write_votes(build_table(["m", "n"], cells), votes)
    (tmp_path / "label.csv").write_text("product,attribute,gold\np1,a,x\n")
    apply_sheet(votes, tmp_path / "label.csv", out)
    assert read_votes(out).cells == (cells[0], replace(cells[1], gold=("x",)), cells[2])
    session = LabelSession(out, out)
    session.answer(session.choices[0], ["y"])
    assert [cell.scores for cell in read_votes(out).cells] == [cell.scores for cell in cells]


def test_typed_bytes_that_are_no_text_are_refused(tmp_path):
    votes, out = tmp_path / "votes.jsonl", tmp_path / "gold.jsonl"
    write_votes(build_table(["m"], [Cell("p", "", "", "a", ("x",))]), votes)
    session = LabelSession(votes, out)
    # As Python reads a byte of another encoding from the terminal.
    with pytest.raises(LabelError, match=r"'caf\\udce9' is no text in UTF-8"):
        session.answer(session.choices[0], ["caf\udce9"])
    session.answer(session.choices[0], ["x"])
    assert read_votes(out).cells[0].gold == ("x",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row 1: the columns are"),
        ("product,gold\np,x\n", "row 1: the columns are"),
        ("product,attribute,gold,gold\np,a,x,y\n", "each name once"),
        ("product,attribute,gold\np,a,x\np,a\n", "row 3: 2 fields for 3 columns"),
        ("product,attribute,gold\np,a,x,y\n", "row 2: 4 fields for 3 columns"),
        ("product,attribute,gold\n\n,a,x\n", "row 3: no product"),
        ("product,attribute,gold\np,a,x\np,b,\np,a,x\n", "row 4: product 'p', attribute 'a' stood in row 2"),
        ('product,attribute,gold\np,a,"x\n', "line 2: .*quote"),
    ],
)
def test_a_bad_sheet_is_named_by_row(tmp_path, text, message):
    path = tmp_path / "label.csv"
    path.write_text(text)
    with pytest.raises(match=message) as caught:
        read_sheet(path)
    assert str(path) in str(caught.value)


def test_a_sheet_that_cannot_be_read(tmp_path):
    with pytest.raises(match="cannot be read"):
        read_sheet(tmp_path / "absent.csv")
    (tmp_path / "latin.csv").write_bytes("product,attribute,gold\np,größe,x".encode("latin-1"))
    with pytest.raises(match="UTF-8"):
        read_sheet(tmp_path / "latin.csv")
