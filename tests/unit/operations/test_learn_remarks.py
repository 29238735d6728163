# SPDX-License-Identifier: Apache-2.0
"""What `learn` says of members and attributes holds where members answer some attributes alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.scored import scored_table

from quorum.learning.by_kind import present_kinds
from quorum.operations.learn import LearnOptions, learn
from quorum.operations.learn_remarks import votes_remarks
from quorum.votes import Cell, VotesTable, build_table, write_votes
from quorum.votes.exploded import exploded

SPANS = '[["red","color"]]'
KINDS = {"entities": "spans"}


def remarks_on(table: VotesTable) -> tuple[str, ...]:
    kinds = present_kinds(table, KINDS)
    return votes_remarks(table, exploded(table, kinds).statistic(), kinds)


def test_a_member_that_answered_spans_alone_is_not_called_silent() -> None:
    rows = []
    for number in range(4):
        rows.append(Cell(f"p{number}", "", "red shoe", "color", ("red", None, None), ()))
        rows.append(Cell(f"p{number}", "", "red shoe", "entities", (None, SPANS, None), ()))
    assert remarks_on(build_table(("enc-color", "enc-entities", "silent"), rows)) == (
        "never answered: silent; nothing was learned about them",
        "no votes on single values: enc-entities; what was learned there is not about them",
    )


def test_abstaining_is_not_saying_that_there_is_no_value() -> None:
    rows = [
        Cell("p", "", "", name, (vote, vote), ()) for name, vote in (("wheel_size", None), ("size", "n/a"))
    ]
    rows.append(Cell("p", "", "", "color", ("red", "red"), ()))
    assert remarks_on(build_table(("a", "b"), rows)) == (
        "no member ever named a value, only n/a: size", "all members abstained: wheel_size",
    )  # fmt: skip


@pytest.mark.parametrize("method", ["em", "loglinear"])
def test_members_without_scores_are_not_said_to_be_sure(tmp_path: Path, method: str) -> None:
    # From few labels all members' scores are taken to be worth the same.
    table = scored_table(np.random.default_rng(0), 900, labelled=100)
    rows = [replace(cell, scores=(*cell.scores[:2], None)) for cell in table.cells]
    write_votes(build_table(table.members, rows), tmp_path / "votes.jsonl")
    report = learn(tmp_path / "votes.jsonl", None, LearnOptions(method=method, judge=False))
    (line,) = [remark for remark in report.remarks if "surer" in remark]
    assert line.startswith("a vote weighs more the surer its member is of it: m0, m1; without")
