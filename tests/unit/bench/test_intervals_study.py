# SPDX-License-Identifier: Apache-2.0
"""The study of intervals: what an interval should cover, and both parts on a small table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.scored import scored_table
from typer.testing import CliRunner

from quorum.votes import build_table, write_votes
from quorum_bench.cli.app import app
from quorum_bench.studies.intervals import covered, halves


@pytest.mark.parametrize(
    ("own", "error", "should"), [(0.01, 0.01, 83.4), (0.03, 0.01, 93.7), (0.01, 0.0, 95.0)]
)
def test_what_an_interval_should_cover_is_what_it_covers(own: float, error: float, should: float) -> None:
    rng = np.random.default_rng(0)
    centre, there = rng.normal(0, own, 4000), rng.normal(0, error, 4000)
    ends = {"low": centre - 1.96 * own, "high": centre + 1.96 * own, "there": there}
    rows = [
        {name: float(values[i]) for name, values in ends.items()}
        | {"error": error, "method": "em", "figure": "accuracy"}
        for i in range(4000)
    ]
    (found,) = covered(rows)
    assert found["should"] == pytest.approx(should, abs=0.1)
    # Five standard deviations of 4000 draws.
    assert found["covered"] == pytest.approx(should, abs=3)
    assert found["covered_with_error"] == pytest.approx(95, abs=1.8)


def test_both_parts_on_halves_that_share_no_product(tmp_path: Path) -> None:
    table = scored_table(np.random.default_rng(0), 150)
    bare = build_table(table.members, [replace(cell, scores=()) for cell in table.cells])
    write_votes(bare, tmp_path / "votes.jsonl")
    for pair in halves(tmp_path / "votes.jsonl", 2):
        products = [{cell.product for cell in table.cells} for table in (pair.ours, pair.other)]
        assert len(products[0] | products[1]) == 50
        assert not products[0] & products[1]
    arguments = ["--votes", str(tmp_path / "votes.jsonl"), "--splits", "1", "--labels", "20", "--draws", "2"]
    done = CliRunner().invoke(
        app,
        ["study", "intervals", *arguments, "--json", str(tmp_path / "found.json")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert {(row["method"], row["figure"]) for row in found["coverage"]} >= {("loglinear", "to majority")}
    assert {row["splits"] for row in found["coverage"]} == {1}
    assert [row["sides"] for row in found["alarms"]] == ["swapped", "learned alike"]
    assert "swapped" in done.output
