# SPDX-License-Identifier: Apache-2.0
"""Votes of a lazy channel: who was not asked did not abstain, so that members are not compared by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.command import quorum as command
from support.scored import scored_table

import quorum
from quorum.decision import weights as weights_file
from quorum.decision.stopping import recorded_stopping
from quorum.votes import Origin, VotesTable, build_table, write_votes

WARNING = "learn weights from votes without --lazy"


def votes(folder: Path, channel: str) -> Path:
    table: VotesTable = scored_table(np.random.default_rng(0), 120, labelled=120)
    rows = [replace(cell, origin=Origin(channel)) for cell in table.cells]
    write_votes(build_table(table.members, rows), folder / "votes.jsonl")
    return folder / "votes.jsonl"


@pytest.mark.parametrize(("channel", "is_lazy"), [("quorum", False), ("quorum_lazy_canary", True)])
def test_members_are_not_compared_by_votes_of_a_lazy_channel(
    tmp_path: Path, channel: str, is_lazy: bool
) -> None:
    path = votes(tmp_path, channel)
    report = tmp_path / "report.html"
    found = quorum.evaluate(path, None, quorum.EvaluateOptions(methods=("majority",)), report=report)
    assert any(WARNING in line for line in found.notes) == is_lazy
    assert (found.members == {}) == is_lazy
    assert (found.verdict == "") == is_lazy
    assert "nan" not in report.read_text(encoding="utf-8").lower().split("<svg")[0]
    learned = quorum.learn(path, None, quorum.LearnOptions(method="majority", judge=False))
    assert any(WARNING in line for line in learned.remarks) == is_lazy


def test_the_command_shows_no_single_member(tmp_path: Path) -> None:
    out, err = command(tmp_path, "evaluate", votes(tmp_path, "quorum_lazy"), "--methods", "majority")
    assert WARNING in " ".join(err.split())
    assert "m0" not in out
    assert "nan" not in out


def test_nothing_is_said_of_stopping_early_by_votes_of_some_members(tmp_path: Path) -> None:
    """Members that were not asked look as if they had abstained, so that no answer seems to change."""
    table = scored_table(np.random.default_rng(0), 240, labelled=240)
    mixed = [
        replace(cell, origin=Origin("quorum_lazy" if int(cell.product[1:]) % 2 else "quorum"))
        for cell in table.cells
    ]
    path = tmp_path / "votes.jsonl"
    write_votes(build_table(table.members, mixed), path)
    options = quorum.EvaluateOptions(methods=("majority",), lazy=True)
    early = quorum.evaluate(path, None, options).early
    assert early is not None
    kept = sum(int(cell.product[1:]) % 2 == 0 for cell in mixed)
    assert (early.cells, kept) == (kept, 120)
    learning = quorum.LearnOptions(judge=False, lazy=True)
    quorum.learn(path, None, learning, out=tmp_path / "weights.json")
    found = recorded_stopping(weights_file.load(tmp_path / "weights.json").settings)
    assert found is not None
    assert found.cells == kept
    all_lazy = votes(tmp_path, "quorum_lazy")
    assert quorum.evaluate(all_lazy, None, options).early is None
    report = quorum.learn(all_lazy, None, learning)
    assert any("nothing learned" in line for line in report.remarks)
