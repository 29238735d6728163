# SPDX-License-Identifier: Apache-2.0
"""`quorum learn --lazy` and `quorum evaluate --lazy`: what is learned, shown and named as not supported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.deployment import write_deployment
from support.scored import scored_table

from quorum.decision import weights as weights_file
from quorum.decision.stopping import recorded_stopping
from quorum.votes import build_table, write_votes


@pytest.fixture
def votes(folder: Path) -> Path:
    (folder / "deploy.yaml").unlink()
    write_votes(scored_table(np.random.default_rng(0), 240), folder / "votes.jsonl")
    return folder


def learned(folder: Path) -> Any:
    return recorded_stopping(weights_file.load(folder / "weights.json").settings)


def test_learning_about_early_stops_is_asked_for(votes: Path, run: Any) -> None:
    code, _, err = run("learn", "votes.jsonl", "--no-judge")
    assert code == 0, err
    assert learned(votes) is None
    code, _, err = run("learn", "votes.jsonl", "--no-judge", "--lazy")
    assert code == 0, err
    found = learned(votes)
    assert (found.cells, found.products) == (240, 80)
    assert "stopping early: flip risks that 240 cells of 80 products support: " in " ".join(err.split())
    assert set(found.lines) == {"1", "2"}
    write_votes(scored_table(np.random.default_rng(1), 30, first=1000), votes / "day.jsonl")
    code, _, err = run("learn", "day.jsonl", "--update", "weights.json", "--lazy", "--no-judge")
    assert code == 0, err
    assert "not learned from a state" in " ".join(err.split())
    assert learned(votes) is None


def test_an_evaluation_shows_what_rows_save(votes: Path, run: Any) -> None:
    code, text, err = run("evaluate", "votes.jsonl", "--methods", "majority", "--lazy", "--json")
    assert code == 0, err
    early = json.loads(text)["early"]
    full, exact, *rest = early["results"]
    assert (full["asked"], full["flips"], exact["flips"]) == (1.0, 0.0, 0.0)
    assert exact["asked"] < 1.0
    assert [row["how"] for row in rest] == [f"flip risk {risk}" for risk in (0.01, 0.02, 0.05)]
    assert 0.01 in early["not_supported"]
    code, text, err = run("evaluate", "votes.jsonl", "--methods", "majority", "--lazy")
    assert code == 0, err
    row = next(line for line in text.splitlines() if "until nothing can change" in line)
    assert f"{100 * exact['asked']:.1f}" in row
    assert "do not support a flip risk of 1.0%" in " ".join(err.split())
    code, text, err = run("evaluate", "votes.jsonl", "--methods", "majority", "--json")
    assert "early" not in json.loads(text)


def test_a_deployment_that_asks_in_rows_learns_when_to_stop(folder: Path, run: Any) -> None:
    members = tuple(f"m{at}" for at in range(6))
    write_deployment(folder, {name: {} for name in members})
    with (folder / "deploy.yaml").open("a", encoding="utf-8") as file:
        file.write("lazy: {flip_risk: 0.05}\n")
    table = scored_table(np.random.default_rng(0), 240, len(members))
    write_votes(build_table(members, table.cells), folder / "votes.jsonl")
    code, _, err = run("learn", "votes.jsonl", "--no-judge")
    assert code == 0, err
    assert "stopping early: flip risks that 240 cells of 80 products support: " in " ".join(err.split())


def test_without_prices_a_member_without_an_llm_is_counted_first(votes: Path, run: Any) -> None:
    """It is right where the others are, so that only the order tells whether it is asked first."""
    rng = np.random.default_rng(0)
    table = scored_table(rng, 60)
    same = [replace(cell, values=("red", "red", "red"), gold=("red",), scores=()) for cell in table.cells]
    odd = [replace(cell, values=("red", "red", "blue")) if at % 3 else cell for at, cell in enumerate(same)]
    write_votes(build_table(("alpha", "beta", "gamma"), odd), votes / "odd.jsonl")
    asked = []
    for runtime in ("replay", "encoder"):
        members = {name: {} for name in ("alpha", "beta")}
        gamma = {"runtime": "encoder", "options": {"model": "tuned"}} if runtime == "encoder" else {}
        write_deployment(votes, {**members, "gamma": gamma}, lazy={})
        code, text, err = run("evaluate", "odd.jsonl", "--methods", "majority", "--lazy", "--json")
        assert code == 0, err
        asked.append(json.loads(text)["early"]["results"][1]["asked"])
    assert asked[0] < asked[1]


@pytest.mark.parametrize("members", [("alpha", "beta"), ("alpha", "beta", "gamma", "delta")])
def test_rows_of_other_members_than_the_votes_are_refused(
    folder: Path, run: Any, members: tuple[str, ...]
) -> None:
    """As `learn` refuses them."""
    with (folder / "deploy.yaml").open("a", encoding="utf-8") as file:
        file.write("lazy: {rows: [[alpha, beta], [gamma]]}\n")
    table = scored_table(np.random.default_rng(0), 60, len(members))
    write_votes(build_table(members, table.cells), folder / "votes.jsonl")
    told = []
    for command in (("learn", "--no-judge"), ("evaluate", "--methods", "majority", "--lazy")):
        code, _, err = run(command[0], "votes.jsonl", *command[1:])
        assert code == 1, err
        told.append(" ".join(err.split()))
    assert f"these are votes of {', '.join(members)}, wanted are votes of alpha, beta, gamma" in told[0]
    assert told[1] == told[0]
    code, _, err = run("evaluate", "votes.jsonl", "--methods", "majority")
    assert code == 0, err
