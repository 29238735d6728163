# SPDX-License-Identifier: Apache-2.0
"""Weights are never written over what they are learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import quorum
from quorum.files import locked
from quorum.learning import LearnError

ROW = '{"product": "p%d", "attribute": "color", "votes": {"a": "red", "b": "red", "c": "blue"}}\n'


@pytest.mark.parametrize("name", ["votes.jsonl", "weights.state.json"])
def test_the_votes_stay(tmp_path: Path, name: str) -> None:
    votes = tmp_path / name
    votes.write_text("".join(ROW % number for number in range(9)), encoding="utf-8")
    before = votes.read_bytes()
    out = votes if name == "votes.jsonl" else tmp_path / "weights.json"
    with pytest.raises(LearnError, match="is an input of this command"):
        quorum.learn(votes, out=out)
    assert votes.read_bytes() == before


def test_updated_weights_replace_those_before(run: Any, folder: Path) -> None:
    for day in range(3):
        rows = "".join(ROW % (100 * day + number) for number in range(9))
        for short, name in (("a", "alpha"), ("b", "beta"), ("c", "gamma")):
            rows = rows.replace(f'"{short}":', f'"{name}":')
        (folder / f"day{day}.jsonl").write_text(rows, encoding="utf-8")
    assert run("learn", "day0.jsonl", "--out", "wt.json")[0] == 0
    first = (folder / "wt.json").read_bytes()
    code, _, error = run("learn", "day1.jsonl", "--update", "wt.json")
    assert code == 0
    assert "wrote wt.json" in error
    assert not (folder / "weights.json").exists()
    with locked(folder / "wt.json"):
        code, _, error = run("learn", "day2.jsonl", "--update", "wt.json")
    assert code == 1
    assert "wt.json: is being changed by another process; run this again when that is done" in error
    second = (folder / "wt.json").read_bytes()
    assert second != first
    assert run("learn", "day2.jsonl", "--update", "wt.json", "--out", "other.json")[0] == 0
    assert (folder / "wt.json").read_bytes() == second
    help_text = " ".join(run("learn", "--help")[1].replace("│", " ").split())
    assert "default: the file of --update, else weights.json" in help_text
