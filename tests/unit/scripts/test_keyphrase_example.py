# SPDX-License-Identifier: Apache-2.0
"""The example of judging: the raters' votes as its deployment replays them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import quorum
from quorum.bulk.judging.pairs import read_pairs
from quorum.votes import read_votes

FOLDER = Path(__file__).parents[3] / "examples" / "keyphrases"


@pytest.fixture
def raters(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from module("raters", monkeypatch)


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield import_module(name)
    sys.modules.pop(name)


def pack(path: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def judgement(item: str, fold: int, votes: list[int]) -> dict[str, Any]:
    signals = {"search_score": 0.5, "search_rank": 1, "sim_impressions": 3, "sim_clicks": 1}
    return {
        "keyphrase": "pan",
        "item": item,
        "votes": votes,
        "final": votes[0],
        "mean": 0.5,
        "fold": fold,
        **signals,
    }


def test_raters_become_pairs_votes_and_gold_of_one_fold(tmp_path: Path, raters: ModuleType) -> None:
    items = [{"id": str(n), "title": title} for n, title in enumerate(["a pan", "a pot", "a pan"])]
    pack(tmp_path / "items.jsonl.gz", items)
    pack(tmp_path / "keyphrases.jsonl.gz", [{"keyphrase": "lid", "titles": 6}])
    judged = [judgement("0", 0, [3, 2, 3]), judgement("1", 1, [0, 0, 1]), judgement("2", 0, [0, 0, 0])]
    pack(tmp_path / "judgements.jsonl.gz", judged)
    counts = raters.write_all(tmp_path, tmp_path / "data")
    # Items with one title are one to the members.
    assert counts == {
        "pairs.jsonl": 2,
        "votes.jsonl": 2,
        "learn.jsonl": 1,
        "items.jsonl": 3,
        "keyphrases.jsonl": 1,
    }
    (tmp_path / "deploy.yaml").write_text((FOLDER / "deploy.yaml").read_text("utf-8"))
    deployment = quorum.load_deployment(tmp_path / "deploy.yaml")
    votes = read_votes(tmp_path / "data" / "votes.jsonl")
    assert votes.members == tuple(deployment.member_names)
    assert [cell.values for cell in votes.cells] == [("3", "2", "3"), ("0", "0", "1")]
    assert read_votes(tmp_path / "data" / "learn.jsonl").cells[0].gold == ("3",)
    pairs = read_pairs(tmp_path / "data" / "pairs.jsonl", deployment.catalogue()).good
    assert [(pair.item, pair.gold, pair.signals) for pair in pairs] == [
        ("0", "3", (1.0, 3.0, None, 0.5)),
        ("1", "0", (1.0, 3.0, None, 0.5)),
    ]


def test_the_demo_says_which_data_it_needs(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "--data", str(tmp_path), "--report", "report.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = " ".join(done.stderr.split())
    assert (done.returncode, "name its folder with --data" in said) == (1, True), done.stderr
    assert list(tmp_path.iterdir()) == []
