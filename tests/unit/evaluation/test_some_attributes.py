# SPDX-License-Identifier: Apache-2.0
"""Members that answer some attributes alone, and votes of spans that cannot be read, do not end a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.score import NothingToScoreError
from quorum.learning.by_kind import learn
from quorum.learning.learn import LearnError
from quorum.votes import Cell, VotesTable, build_table

TEXT = "red cotton shoe"
SPANS = '[["red","color"]]'
KINDS = {"entities": "spans"}
ENCODERS = ("enc-color", "enc-entities")


def encoders_and_replay(products: int = 40) -> VotesTable:
    """Two encoders, each of which answers one attribute, and a member that answers both."""
    rows = []
    for number in range(products):
        one, other = f"p{number}", "red" if number % 3 else "blue"
        third = '[["cotton shoe","product"]]'
        rows.append(Cell(one, "", TEXT, "color", ("red", None, other), ("red",)))
        rows.append(Cell(one, "", TEXT, "entities", (None, SPANS, third), (SPANS,)))
    return build_table((*ENCODERS, "replay"), rows)


def spans_without_text(gold: str) -> VotesTable:
    return build_table(
        ("a", "b", "c"), [Cell(f"p{n}", "", "", "entities", (SPANS,) * 3, (gold,)) for n in range(9)]
    )


def test_methods_without_gold_are_left_out_where_two_members_answer_single_values() -> None:
    found = evaluate(encoders_and_replay(), kinds=KINDS, encoders=ENCODERS)
    assert "em" not in found.methods
    assert "loglinear" in found.methods
    (note,) = [line for line in found.notes if " left out" in line and "em" in line]
    assert note.startswith("em and dawid_skene left out: learning without gold needs 3 members that answer")
    assert note.endswith("answer single values, here 2 did (enc-color, replay)")


@pytest.mark.parametrize("gold", [SPANS, "[]"])
def test_spans_without_a_text_are_refused_with_a_reason(gold: str) -> None:
    with pytest.raises(NothingToScoreError, match=r"entities: .* cannot be read .*`title`"):
        evaluate(spans_without_text(gold), kinds=KINDS)


def test_iwmv_needs_an_answer() -> None:
    with pytest.raises(LearnError, match="iwmv: no vote to learn from"):
        learn(spans_without_text("[]"), "iwmv", kinds=KINDS)


def test_members_that_answer_nothing_of_an_attribute_have_no_row() -> None:
    found = evaluate(encoders_and_replay(), ("majority",), kinds=KINDS, encoders=ENCODERS)
    rows = {name: [row.title for row in task.rows] for name, task in found.tasks.items()}
    assert rows == {
        "single values": ["best member: enc-color", "majority", "replay"],
        "entities": ["best member: enc-entities", "majority", "replay"],
    }
    (note,) = [line for line in found.notes if line.startswith("members that answer some")]
    assert "enc-color (color), enc-entities (entities); over all cells" in note
    assert note.endswith("they count as wrong on the others")


def test_members_that_answer_a_part_of_the_cells_are_named() -> None:
    cells = encoders_and_replay().cells
    rows = [replace(c, values=(None, *c.values[1:])) if n % 4 == 0 else c for n, c in enumerate(cells)]
    found = evaluate(build_table((*ENCODERS, "replay"), rows), ("majority",), kinds=KINDS)
    assert found.tasks["entities"].answered_in_words("entities") == ""
    assert found.tasks["single values"].answered_in_words("single values") == (
        "enc-color answered 50.0 % of the 40 cells of single values; why it abstained on the others is not "
        "in a votes table, and these count as wrong"
    )
