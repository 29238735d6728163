# SPDX-License-Identifier: Apache-2.0
"""`quorum votes`: what its commands print, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_a_table_is_described_taken_apart_and_merged_again(folder: Path, run: Any) -> None:
    code, out, err = run("votes", "info", "votes.jsonl")
    assert (code, "72 cells of 24 products, 48 with gold" in err) == (0, True)
    assert "alpha" in out
    assert max(map(len, out.splitlines())) <= 80
    assert json.loads(run("votes", "info", "votes.jsonl", "--json")[1])["attributes"]["size"] == 24
    assert run("votes", "drop", "votes.jsonl", "alpha", "--out", "rest.parquet")[0] == 0
    assert run("votes", "drop", "votes.jsonl", "beta", "gamma", "-o", "one.parquet")[0] == 0
    assert run("votes", "rename", "one.parquet", "alpha=first", "-o", "first.parquet")[0] == 0
    code, _, err = run("votes", "merge", "first.parquet", "rest.parquet", "--out", "all.jsonl")
    assert (code, "wrote 72 cells of first, beta, gamma to all.jsonl" in err) == (0, True)
    code, _, err = run("votes", "normalise", "all.jsonl", "--out", "normal.jsonl")
    assert code == 0, err
    assert "0 votes changed" in err
    report = json.loads(run("votes", "normalise", "all.jsonl", "--out", "normal.jsonl", "--json")[1])
    assert (report["respelled"], report["examples"], report["out"]) == (0, [], "normal.jsonl")


def test_what_is_refused(folder: Path, run: Any) -> None:
    for arguments, words in (
        (["drop", "votes.jsonl", "alpha", "-o", "votes.jsonl"], "is an input of this command"),
        (["rename", "votes.jsonl", "alpha", "-o", "o.jsonl"], "write OLD=NEW"),
        (["merge", "votes.jsonl", "votes.jsonl", "-o", "o.jsonl", "--prefer", "x"], "write first or last"),
        (["info", "nowhere.parquet"], "nowhere.parquet"),
    ):
        code, _, err = run("votes", *arguments)
        assert (code, words in err) == (1, True), (arguments, err)
