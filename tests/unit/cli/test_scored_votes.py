# SPDX-License-Identifier: Apache-2.0
"""`quorum learn`, `drift` and `label` say what scores of votes mean, and are silent where there are none."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from support.scored import scored_table

from quorum.votes import build_table, write_votes


def without_deployment(folder: Path) -> None:
    (folder / "deploy.yaml").unlink()


def test_learn_names_the_members_whose_scores_count(folder: Path, run: Any) -> None:
    without_deployment(folder)
    table = scored_table(np.random.default_rng(0), 900)
    write_votes(table, folder / "scored.jsonl")
    bare = build_table(table.members, [replace(cell, scores=()) for cell in table.cells])
    write_votes(bare, folder / "bare.jsonl")
    for method in ("em", "loglinear"):
        code, _, err = run("learn", "scored.jsonl", "--method", method)
        assert code == 0, err
        assert "a vote weighs more the surer its member is of it: m0, m1, m2" in err
        assert "scores" in json.loads((folder / "weights.json").read_text("utf-8"))["default"]
        code, _, err = run("learn", "bare.jsonl", "--method", method)
        assert code == 0, err
        assert "surer" not in err


def test_drift_of_a_single_member_by_its_scores(folder: Path, run: Any) -> None:
    without_deployment(folder)
    for name, seed, temper in (("past", 1, 1.0), ("quiet", 2, 1.0), ("changed", 3, 2.0)):
        table = scored_table(np.random.default_rng(seed), 1500, 1, temper=temper, first=seed * 10000)
        write_votes(table, folder / f"{name}.jsonl")
    assert run("learn", "past.jsonl")[0] == 0
    code, out, err = run("drift", "weights.json", "quiet.jsonl")
    assert (code, err.splitlines()[-1]) == (0, "No member changed, as far as 1500 cells tell.")
    assert "sure" in out
    code, out, _ = run("drift", "weights.json", "changed.jsonl", "--json")
    assert code == 1
    found = json.loads(out)
    assert [(f["member"], f["kind"]) for f in found["findings"]] == [("m0", "is less sure")]
    assert found["scores"][0]["sure"] < found["scores"][0]["low"]
    code, _, err = run("learn", "changed.jsonl", "--update", "weights.json")
    assert code == 0, err
    assert "m0 is less sure than before" in err


def test_drift_shows_a_dash_for_a_member_that_gives_no_scores(folder: Path, run: Any) -> None:
    without_deployment(folder)
    past, today = (scored_table(np.random.default_rng(seed), 900, first=seed * 10000) for seed in (5, 6))
    write_votes(past, folder / "past.jsonl")
    bare = [replace(cell, scores=(None, *cell.scores[1:])) for cell in today.cells]
    write_votes(build_table(today.members, bare), folder / "today.jsonl")
    assert run("learn", "past.jsonl")[0] == 0
    code, out, err = run("drift", "weights.json", "today.jsonl")
    assert code == 1
    row = [part.strip() for part in out.splitlines()[-4].split("│")[1:-1]]
    assert row == ["m0", "-", "-", "100.0%", "0.0%"]
    assert "m0 gives no scores any more" in err


def test_the_sheet_says_where_scores_contradict_votes(folder: Path, run: Any) -> None:
    without_deployment(folder)
    write_votes(scored_table(np.random.default_rng(4), 600, easy=0.8, labelled=0), folder / "votes.jsonl")
    assert run("label", "votes.jsonl", "-n", "100")[0] == 0
    with (folder / "label.csv").open(encoding="utf-8-sig", newline="") as file:
        reasons = " ".join(row["reason"] for row in csv.DictReader(file))
    assert "members agree, but are not sure of it; " in reasons
    assert ", and a minority is surer; " in reasons
    assert ".0 unlabelled" not in reasons
