# SPDX-License-Identifier: Apache-2.0
"""`quorum evaluate --weights` needs no deployment, prints its verdict first, and refuses what learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scored import scored_table

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, dump, equal_weights
from quorum.votes import write_votes


@pytest.fixture
def votes(folder: Path) -> Path:
    (folder / "deploy.yaml").unlink()
    table = scored_table(np.random.default_rng(0), 600)
    write_votes(table, folder / "votes.jsonl")
    bad = {"colour": Parameters((0.0, 0.0, 0.0), na_bias=9.0)}
    dump(Weights("em", table.members, Parameters((1.0, 1.0, 1.0)), bad), folder / "w.json")
    return folder


def test_text_and_json_agree(votes: Path, run: Any) -> None:
    code, out, err = run("evaluate", "votes.jsonl", "--weights", "w.json")
    assert code == 0, err
    first = out.splitlines()[0]
    assert first.startswith("w.json (em): ")
    code, text, err = run("evaluate", "votes.jsonl", "--weights", "w.json", "--json")
    assert code == 0, err
    told = json.loads(text)
    assert first == f"w.json (em): {told['verdict']}"
    worse = [name for name, figures in told["by_attribute"].items() if figures["is_worse"]]
    assert worse == ["colour"]
    assert "; worse on colour (-" in first
    row = next(line.split() for line in out.splitlines() if line.strip().startswith("colour"))
    figures = told["by_attribute"]["colour"]
    shares = [f"{100 * figures[name]:.1f}" for name in ("weights", "majority")]
    assert row[1:4] == [*shares, str(figures["cells"])]
    assert (told["gold_labels"], told["products"], told["trained_on"]) == (600, 200, False)
    assert set(told["members"]) == {"m0", "m1", "m2"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--weights", "w.json", "--gold-labels", "50"), "--weights learns nothing"),
        (("--weights", "w.json", "--methods", "em"), "--weights learns nothing"),
        (("--weights", "other.json"), "the weights are for x, y, z, the votes are those of m0, m1, m2"),
        (("--weights", "missing.json"), "missing.json"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    votes: Path, run: Any, arguments: tuple[str, ...], words: str
) -> None:
    dump(equal_weights(["x", "y", "z"]), votes / "other.json")
    code, out, err = run("evaluate", "votes.jsonl", *arguments)
    assert (code, out) == (1, "")
    assert words in err
