# SPDX-License-Identifier: Apache-2.0
"""Weights are never written over what they are learned from."""

from __future__ import annotations

from pathlib import Path

import pytest

import quorum
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
