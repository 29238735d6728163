# SPDX-License-Identifier: Apache-2.0
"""`quorum learn` says whether products' texts count, and why not; `quorum diff` which version uses them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, dump, load
from quorum.deployment import load_deployment
from quorum.operations.servers import store_of
from quorum.repository.render import render
from quorum.votes import Cell, build_table, read_votes, write_votes

COLOURS = ("red", "blue", "green", "black")


def votes(labels: int, title: str = "A {} shirt") -> list[Cell]:
    rng, cells = np.random.default_rng(labels), []
    for number in range(labels):
        right, wrong = (COLOURS[i] for i in rng.choice(4, 2, replace=False))
        named = tuple(right if rng.random() < 0.5 else wrong for _ in range(3))
        cells.append(Cell(f"p{number}", "", title.format(right), "colour", named, (right,)))
    return cells


def test_learn_says_whether_texts_count(folder: Path, run: Any) -> None:
    (folder / "deploy.yaml").unlink()
    rows = {
        "text": votes(110),
        "few": votes(40),
        "untitled": [replace(cell, title="") for cell in votes(110)],
    }
    words = {
        "text": "values also count by the products' texts, learned from 110 labels",
        "few": "votes alone decide: the products' texts count from 50 labels on",
        "untitled": "votes alone decide: no text (`title`) of the labelled votes is known",
    }
    for name in words:
        write_votes(build_table(("a", "b", "c"), rows[name]), folder / f"{name}.jsonl")
        code, _, err = run("learn", f"{name}.jsonl", "--method", "loglinear")
        assert code == 0, err
        assert words[name] in err.splitlines()
        assert bool(load(folder / "weights.json").evidence) is (name == "text")
    code, _, err = run("learn", "text.jsonl", "--no-evidence")
    assert (code, "text" in err.replace("text.jsonl", "")) == (0, False)
    weights = load(folder / "weights.json")
    assert (dict(weights.evidence), weights.settings["evidence"]) == ({}, False)


def test_given_weights_judge_by_the_text(folder: Path, run: Any) -> None:
    (folder / "deploy.yaml").unlink()
    table = build_table(("a", "b", "c"), votes(40))
    write_votes(table, folder / "votes.jsonl")
    assert read_votes(folder / "votes.jsonl").cells[0].title
    parameters = Parameters((1.0, 1.0, 1.0), 0.0, 0.0)
    plain = Weights("loglinear", table.members, parameters, confidence="calibrated")
    shares = []
    for weights in (plain, replace(plain, evidence={"any_case": (1.0, 0.4, 2.0)})):
        dump(weights, folder / "w.json")
        code, out, err = run("evaluate", "votes.jsonl", "--weights", "w.json", "--json")
        assert code == 0, err
        shares.append(json.loads(out)["weights"]["accuracy"])
        assert "no text" not in err
    assert shares[1] > shares[0] + 0.2
    bare = build_table(table.members, [replace(cell, title="") for cell in table.cells])
    write_votes(bare, folder / "bare.jsonl")
    code, _, err = run("evaluate", "bare.jsonl", "--weights", "w.json")
    assert code == 0, err
    assert "100% of the votes have no text (`title`), by which w.json weighs values" in " ".join(err.split())


def test_diff_says_which_version_uses_texts(folder: Path, run: Any) -> None:
    spec = load_deployment(folder / "deploy.yaml")
    store, known = store_of(spec), spec.catalogue().hashes
    render(spec, store.path)
    parameters = Parameters((1.0, 1.0, 1.0), 0.0, 0.0)
    plain = Weights("loglinear", tuple(spec.member_names), parameters, {}, {}, known, "calibrated")
    store.add_version(2, plain)
    store.add_version(3, replace(plain, evidence={"any_case": (1.0, 0.4, 2.0)}))
    code, _, err = run("diff", "2", "3")
    assert code == 0, err
    assert "values by the products' texts: only 3" in err
    assert "texts" not in run("diff", "2", "2")[2]
    assert json.loads(run("diff", "2", "3", "--json")[1])["use_texts"] == {"old": False, "new": True}
