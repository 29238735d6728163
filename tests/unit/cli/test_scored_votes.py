# SPDX-License-Identifier: Apache-2.0
"""`quorum learn`, `drift` and `label` say what scores of votes mean, and are silent where there are none."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scored import scored_table
from typer.testing import CliRunner

from quorum.cli import app
from quorum.votes import Cell, build_table, read_votes, write_votes


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


def test_learn_says_how_many_votes_have_a_score_and_what_they_are_worth(folder: Path, run: Any) -> None:
    without_deployment(folder)
    rng = np.random.default_rng(7)
    table = scored_table(rng, 900, unscored=0.2)
    write_votes(table, folder / "votes.jsonl")
    known, total = int((~np.isnan(table.scores)).sum()), int((table.codes >= 0).sum())
    share = f"{known} of {total} votes have a score"
    noise = [
        replace(cell, scores=tuple(None if v is None else -rng.exponential() for v in cell.values))
        for cell in table.cells
    ]
    write_votes(build_table(table.members, noise), folder / "noise.jsonl")
    code, _, err = run("learn", "votes.jsonl", "--method", "em")
    assert code == 0, err
    named = "a vote weighs more the surer its member is of it: m0, m1, m2"
    assert err.splitlines()[1:3] == [share, f"{named}; without a score it keeps its member's weight"]
    for command, words in (
        (("votes.jsonl", "--method", "majority"), f"{share}; majority does not use them"),
        (("votes.jsonl", "--no-scores"), f"{share}; they are left out, as asked for"),
        (("noise.jsonl", "--method", "em"), "those of no member say enough, so no vote weighs more"),
    ):
        code, _, err = run("learn", *command)
        assert code == 0, err
        assert words in err
        assert "surer" not in err


@pytest.mark.parametrize("method", ["auto", "majority", "iwmv", "em", "loglinear"])
def test_learn_without_scores_is_as_if_the_votes_had_none(folder: Path, run: Any, method: str) -> None:
    without_deployment(folder)
    table = scored_table(np.random.default_rng(8), 600)
    write_votes(table, folder / "scored.jsonl")
    bare = build_table(table.members, [replace(cell, scores=()) for cell in table.cells])
    write_votes(bare, folder / "bare.jsonl")
    learned = []
    for more in (
        ("bare.jsonl",),
        ("scored.jsonl", "--no-scores"),
        ("scored.jsonl", "--no-scores", "--update"),
    ):
        update = ("weights.json",) if "--update" in more else ()
        if update:
            day = scored_table(np.random.default_rng(9), 3, labelled=0, first=9000)
            write_votes(day, folder / "scored.jsonl")
        code, _, err = run("learn", *more, *update, "--method", method)
        assert code == 0, err
        learned.append(json.loads((folder / "weights.json").read_text("utf-8")))
    assert learned[0]["default"] == learned[1]["default"]
    assert all("scores" not in weights["default"] for weights in learned)
    if method == "auto":
        assert learned[1]["method"] == "loglinear"


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
    code, out, err = run("drift", "weights.json", "today.jsonl", "--report", "drift.html")
    assert code == 1
    row = [line.split() for line in out.splitlines() if line.strip().startswith("m0 ")][1]
    assert row == ["m0", "–", "–", "100.0", "0.0"]
    assert "m0 gives no scores any more" in err
    page = (folder / "drift.html").read_text("utf-8")
    assert page.count("<svg") == 2
    assert "m0 gives no scores any more" in page
    assert f"report: {folder / 'drift.html'}" in err


def test_label_asks_with_probabilities(folder: Path, run: Any) -> None:
    without_deployment(folder)
    scores = (float(np.float32(np.log(0.93))), None, float(np.float32(np.log(0.4))))
    cell = Cell("p1", "", "a shoe", "colour", ("red", "red", "blue"), (), None, scores)
    write_votes(build_table(("m0", "m1", "m2"), [cell]), folder / "votes.jsonl")
    result = CliRunner().invoke(app, ["label", "votes.jsonl", "--ask"], input="2\n")
    assert result.exit_code == 0, result.output
    assert "  1  red  m0 p=.93, m1\n" in result.output
    assert "  2  blue  m2 p=.40\n" in result.output
    assert read_votes(folder / "votes-gold.jsonl").cells[0].gold == ("blue",)


def test_the_sheet_says_where_scores_contradict_votes(folder: Path, run: Any) -> None:
    without_deployment(folder)
    write_votes(scored_table(np.random.default_rng(4), 600, easy=0.8, labelled=0), folder / "votes.jsonl")
    assert run("label", "votes.jsonl", "-n", "100")[0] == 0
    with (folder / "label.csv").open(encoding="utf-8-sig", newline="") as file:
        reasons = " ".join(row["reason"] for row in csv.DictReader(file))
    assert "members agree, but are not sure of it; " in reasons
    assert ", and a minority is surer; " in reasons
    assert ".0 unlabelled" not in reasons
