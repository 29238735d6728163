# SPDX-License-Identifier: Apache-2.0
"""The study of asking members in turn, both parts on a small table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from support.scored import scored_table
from typer.testing import CliRunner

from quorum.votes import write_votes
from quorum_bench.cli.app import app


def test_both_parts_on_a_small_table(tmp_path: Path) -> None:
    table, target = tmp_path / "votes.jsonl", tmp_path / "figures.json"
    write_votes(scored_table(np.random.default_rng(0), 90).without_scores(), table)
    given = ["--ae110k", str(table), "--splits", "2", "--json", str(target)]
    result = CliRunner().invoke(app, ["study", "lazy", *given])
    assert result.exit_code == 0, result.output
    figures = json.loads(target.read_text("utf-8"))
    rows = figures["saving"]["result"]
    exact = [row for row in rows if row["how"] == "until nothing can change"]
    assert len(exact) == 8
    assert all(row["flips"] == 0.0 and row["asked"] < 1.0 for row in exact)
    # 60 cells cannot support a risk of 1 %, so that nothing stops before it is settled.
    tried = {(row["weights"], row["risk"]): row for row in figures["splits"]["result"]}
    assert tried["em", 0.01]["supported"] == tried["em", 0.01]["flips"] == 0.0
    assert {weights for weights, _ in tried} == {"em", "fitted"}
