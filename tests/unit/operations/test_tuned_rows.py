# SPDX-License-Identifier: Apache-2.0
"""`learn` and `evaluate` recognise rows that members were tuned on, and can leave them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment, write_jsonl
from typer.testing import CliRunner

import quorum
from quorum.cli import app
from quorum.operations import learn as learn_module
from quorum.operations.tuned_rows import TunedRowsError, tuned_rows
from quorum.tune.card import CardError
from quorum.tune.tuned_on import TUNED_ON_FILE, question_hash, read_tuned_on, write_tuned_on
from quorum.votes import read_votes

PRODUCTS, TAUGHT = 160, 60


def rows() -> list[dict[str, Any]]:
    """Gold of all; `small` is right on the first products only, `beta` on each but the fifth."""
    found = []
    for p in range(PRODUCTS):
        votes = {
            "small": "red" if p < TAUGHT else "blue",
            "beta": "blue" if p % 5 == 0 else "red",
            "gamma": "red",
        }
        title, gold = f"Shoe {p}, red", ["red"] if p % 10 else []
        found.append({"product": f"p{p}", "title": title, "attribute": "color", "gold": gold, "votes": votes})
    return found


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> quorum.Deployment:
    """`small` names a folder that says what it was tuned on: the color of the first products, and others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned").mkdir()
    hashes = {question_hash("color", f"  shoe {p},\tRED") for p in range(TAUGHT)}
    write_tuned_on(tmp_path / "tuned", {*hashes, question_hash("color", "no such shoe")})
    encoder = {"runtime": "encoder", "options": {"model": "tuned"}}
    members: dict[str, Any] = {"small": encoder, "beta": {}, "gamma": {}}
    path = write_deployment(tmp_path, members, rows=rows(), attributes={"color": {}, "size": {}})
    return quorum.load_deployment(path)


LABELLED = sum(p % 10 > 0 for p in range(PRODUCTS))
SEEN = sum(p % 10 > 0 for p in range(TAUGHT))


def test_learn_warns_and_leaves_them_out(deployment: quorum.Deployment) -> None:
    report = quorum.learn("votes.jsonl", deployment)
    assert report.tuned is not None
    assert report.tuned.to_json() == {
        "members": {"small": SEEN},
        "cells": LABELLED,
        "labelled": True,
        "left_out": 0,
    }
    (warning,) = report.tuned.warnings
    assert warning.startswith(f"small was tuned on {SEEN} of these {LABELLED} labelled cells, so its weight")
    assert report.to_json()["tuned"]["members"] == {"small": SEEN}
    without = quorum.learn("votes.jsonl", deployment, quorum.LearnOptions(leave_out_tuned=True))
    assert without.tuned is not None
    assert without.tuned.left_out == TAUGHT
    assert without.tuned.warnings == ()
    place = report.weights.members.index("small")
    flattered, honest = (r.weights.default.weights[place] for r in (report, without))
    assert flattered > honest


def test_commands_say_it(deployment: quorum.Deployment) -> None:
    command = CliRunner()
    shown = command.invoke(app, ["learn", "votes.jsonl"])
    assert f"small was tuned on {SEEN} of these {LABELLED} labelled cells" in shown.stderr
    shown = command.invoke(app, ["learn", "votes.jsonl", "--leave-out-tuned"])
    assert f"left out: {TAUGHT} cells that members were tuned on" in shown.stderr
    shown = command.invoke(app, ["evaluate", "votes.jsonl"])
    assert f"small was tuned on {SEEN} of these {LABELLED} labelled cells" in shown.stdout
    found = json.loads(command.invoke(app, ["evaluate", "votes.jsonl", "--json"]).stdout)
    assert found["tuned"]["members"] == {"small": SEEN}
    found = json.loads(command.invoke(app, ["evaluate", "votes.jsonl", "--leave-out-tuned", "--json"]).stdout)
    assert (found["tuned"]["left_out"], found["gold_labels"]) == (TAUGHT, LABELLED - SEEN)
    assert found["members"]["small"]["accuracy"] == 0
    assert found["notes"][0].startswith(f"left out: {TAUGHT} cells")
    shown = command.invoke(app, ["evaluate", "votes.jsonl", "--weights", "weights.json"])
    assert f"small was tuned on {SEEN} of" in shown.stderr


def test_nothing_is_said_of_members_without_hashes(deployment: quorum.Deployment) -> None:
    (deployment.root / "tuned" / TUNED_ON_FILE).unlink()
    report = quorum.learn("votes.jsonl", deployment)
    assert report.tuned is None
    assert "tuned" not in report.to_json()


def test_another_attribute_of_the_same_text_does_not_count(deployment: quorum.Deployment) -> None:
    write_jsonl(Path("votes.jsonl"), [row | {"attribute": "size"} for row in rows()])
    _, found = tuned_rows(read_votes("votes.jsonl"), deployment)
    assert found is not None
    assert (found.members, found.warnings) == ({}, ())


def test_without_gold_all_cells_count(deployment: quorum.Deployment) -> None:
    write_jsonl(Path("votes.jsonl"), [row | {"gold": []} for row in rows()])
    _, found = tuned_rows(read_votes("votes.jsonl"), deployment)
    assert found is not None
    assert (found.members, found.cells, found.labelled) == ({"small": TAUGHT}, PRODUCTS, False)


def test_what_cannot_be_left_out(deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    options = quorum.LearnOptions(leave_out_tuned=True)
    with pytest.raises(TunedRowsError, match="name it by --deploy"):
        quorum.learn("votes.jsonl", None, options)
    monkeypatch.setattr(learn_module, "is_large", lambda _: True)
    with pytest.raises(TunedRowsError, match="too large for a table"):
        quorum.learn("votes.jsonl", deployment, options)
    monkeypatch.undo()
    Path(deployment.root / "all.jsonl").write_text("")
    write_jsonl(deployment.root / "all.jsonl", rows()[:TAUGHT])
    with pytest.raises(TunedRowsError, match="every cell"):
        quorum.learn(deployment.root / "all.jsonl", deployment, options)


def test_a_large_file_is_looked_at_too(deployment: quorum.Deployment) -> None:
    from quorum.votes import write_votes

    write_votes(read_votes("votes.jsonl"), "votes.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learn_module, "is_large", lambda _: True)
        report = quorum.learn("votes.parquet", deployment)
    assert report.tuned is not None
    assert (report.tuned.members, report.tuned.first) == ({"small": SEEN}, PRODUCTS)


@pytest.mark.parametrize("content", [b"zz\n", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TUNED_ON_FILE).write_bytes(content)
    with pytest.raises(CardError, match=r"tuned_on\.txt: .*copy the folder again"):
        read_tuned_on(tmp_path)
