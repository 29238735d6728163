# SPDX-License-Identifier: Apache-2.0
"""Members that answer some attributes alone, and votes of spans that cannot be read, do not end a run."""

from __future__ import annotations

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
    with pytest.raises(NothingToScoreError, match="entities: .* cannot be read .*`title`"):
        evaluate(spans_without_text(gold), kinds=KINDS)


def test_iwmv_needs_an_answer() -> None:
    with pytest.raises(LearnError, match="iwmv: no vote to learn from"):
        learn(spans_without_text("[]"), "iwmv", kinds=KINDS)
