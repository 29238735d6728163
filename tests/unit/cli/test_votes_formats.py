# SPDX-License-Identifier: Apache-2.0
"""Every command that takes a votes table takes Parquet as it takes JSON lines, with the same result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quorum.votes import read_votes, write_votes

pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)


def both(run: Any, folder: Path, *command: str) -> tuple[str, str]:
    """Output of a command on votes.jsonl and on the same votes as Parquet."""
    write_votes(read_votes(folder / "votes.jsonl"), folder / "votes.parquet")
    shown = []
    for ending in ("jsonl", "parquet"):
        code, out, err = run(*(part.replace("VOTES", f"votes.{ending}") for part in command))
        assert code == 0, err
        shown.append(out)
    return shown[0], shown[1]


def weights(folder: Path, ending: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{ending}.json").read_text("utf-8"))
    content["provenance"].pop("created")
    content.pop("content_hash")
    return content


@pytest.mark.parametrize("more", [[], ["--gold-labels", "10"], ["--method", "em"]])
def test_learn(run: Any, folder: Path, more: list[str]) -> None:
    write_votes(read_votes(folder / "votes.jsonl"), folder / "votes.parquet")
    for ending in ("jsonl", "parquet"):
        assert run("learn", f"votes.{ending}", "--out", f"{ending}.json", *more)[0] == 0
    assert weights(folder, "jsonl") == weights(folder, "parquet")
    states = [folder / f"{ending}.state.json" for ending in ("jsonl", "parquet")]
    assert [state.exists() for state in states] == [more[:1] != ["--gold-labels"]] * 2


def test_evaluate(run: Any, folder: Path) -> None:
    left, right = both(run, folder, "evaluate", "VOTES", "--methods", "majority,em", "--folds", "2", "--json")
    assert json.loads(left) == json.loads(right)


def test_update_and_drift(run: Any, folder: Path) -> None:
    table = read_votes(folder / "votes.jsonl")
    write_votes(table.take(range(36)), folder / "monday.parquet")
    write_votes(table.take(range(36, len(table))), folder / "tuesday.parquet")
    assert run("learn", "monday.parquet", "--out", "w.json")[0] == 0
    assert run("drift", "w.json", "tuesday.parquet")[0] == 0
    assert run("learn", "tuesday.parquet", "--update", "w.json", "--out", "w.json")[0] == 0
    code, _, err = run("learn", "tuesday.parquet", "--update", "w.json", "--out", "w.json")
    assert code == 1
    assert "added before, as table 2 of 2" in " ".join(err.split())


def test_label_writes_what_it_reads(run: Any, folder: Path) -> None:
    write_votes(read_votes(folder / "votes.jsonl"), folder / "votes.parquet")
    assert run("label", "votes.parquet", "-n", "2")[0] == 0
    lines = (folder / "label.csv").read_text("utf-8-sig").splitlines()
    (folder / "label.csv").write_text("\n".join(line.replace(",,", ",red,") for line in lines), "utf-8")
    assert run("label", "votes.parquet", "--apply", "label.csv")[0] == 0
    before, after = (read_votes(folder / name) for name in ("votes.parquet", "votes-gold.parquet"))
    assert after.labelled.sum() > before.labelled.sum()
    code, _, err = run("label", "votes.parquet", "--apply", "label.csv", "--out", "gold.csv")
    assert code == 1
    assert "gold.csv: cannot tell the format" in err


def test_a_large_file_is_read_in_a_stream(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_votes(read_votes(folder / "votes.jsonl"), folder / "votes.parquet")
    assert run("learn", "votes.jsonl", "--out", "jsonl.json")[0] == 0
    monkeypatch.setattr("quorum.votes.read.LARGE", 10)
    code, _, err = run("learn", "votes.parquet", "--out", "parquet.json")
    assert code == 0
    assert "read in a stream" in " ".join(err.split())
    assert weights(folder, "jsonl")["attributes"] == weights(folder, "parquet")["attributes"]
    assert not (folder / "parquet.state.json").exists()


def test_extract_refuses_an_ending_before_it_asks(run: Any, folder: Path) -> None:
    (folder / "in.csv").write_text("title\nshoe\n", encoding="utf-8")
    code, _, err = run("extract", "in.csv", "--votes", "votes.txt", "--out", "out.csv")
    assert code == 1
    assert "--votes votes.txt: cannot tell the format from '.txt'" in " ".join(err.split())
    assert not (folder / "out.csv").exists()
