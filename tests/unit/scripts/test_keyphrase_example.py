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

import numpy as np
import pyarrow.parquet as pq
import pytest

import quorum
from quorum.bulk.judging.pairs import read_pairs
from quorum.retrieval.judged import JudgedPair, gather, write_judged
from quorum.votes import read_votes

FOLDER = Path(__file__).parents[3] / "examples" / "keyphrases"


@pytest.fixture
def raters(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from module("raters", monkeypatch)


@pytest.fixture
def savings(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from module("savings", monkeypatch)


@pytest.fixture
def flywheel(savings: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from module("flywheel", monkeypatch)


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


def test_thresholds_leave_least_to_the_ensemble(savings: ModuleType) -> None:
    """Against all pairs of cuts, with equal scores among them."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        relevant = rng.random(40) < 0.5
        scores = np.round(relevant + rng.normal(0, 0.5, 40), 1)
        ends = [-np.inf, *(np.unique(scores) + 0.05), np.inf]
        best = 0
        for low in ends:
            for high in ends:
                alone = (scores < low) | (scores > high)
                if low <= high and ((scores > high) != relevant)[alone].sum() <= 2:
                    best = max(best, int(alone.sum()))
        low, high = savings.thresholds(scores, relevant, 0.95)
        alone = (scores < low) | (scores > high)
        assert alone.sum() == best
        assert ((scores > high) != relevant)[alone].sum() <= 2


def judged_pair(number: int, label: float, keyphrase: str) -> JudgedPair:
    return JudgedPair(
        item=f"i{number}", text="t", keyphrase=keyphrase, label=label, value="3", confidence=0.9
    )


def test_savings_are_counted_on_other_keyphrases(savings: ModuleType) -> None:
    labels = [float(n % 2) for n in range(200)]
    judged = gather(judged_pair(n, label, f"k{n % 20 // 2}") for n, label in enumerate(labels))
    perfect = savings.measure(np.array(labels), judged)
    assert (perfect.saved.value, perfect.agreement.value) == (1.0, 1.0)
    assert (perfect.pairs, perfect.keyphrases) == (200, 10)
    useless = savings.measure(np.random.default_rng(0).random(200), judged)
    assert useless.saved.value < 0.2
    assert useless.agreement.value > 0.9


def test_the_new_days_judgement_of_a_pair_counts(flywheel: ModuleType, tmp_path: Path) -> None:
    write_judged(tmp_path / "1.parquet", [judged_pair(n, 0.0, "k") for n in (1, 2)], {"day": 1})
    write_judged(tmp_path / "2.parquet", [judged_pair(n, 1.0, "k") for n in (2, 3)], {"day": 2})
    assert flywheel.pool(tmp_path / "1.parquet", tmp_path / "2.parquet", tmp_path / "all.parquet") == 3
    rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert {row["item"]: row["label"] for row in rows} == {"i1": 0.0, "i2": 1.0, "i3": 1.0}
    assert flywheel.pool(None, tmp_path / "2.parquet", tmp_path / "first.parquet") == 2


def test_the_demo_says_which_data_it_needs(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "--data", str(tmp_path), "--report", "report.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = " ".join(done.stderr.split())
    assert (done.returncode, "name its folder with --data" in said) == (1, True), done.stderr
    assert list(tmp_path.iterdir()) == []
