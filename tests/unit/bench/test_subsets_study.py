# SPDX-License-Identifier: Apache-2.0
"""The study of subsets: which subsets, whose votes, and what its table says."""

from __future__ import annotations

import json

from quorum.votes import read_votes
from quorum_bench.studies import subsets


def row(table: str, auto: float, doubt: str = "") -> subsets.Row:
    return {"table": table, "subset": [0, 1, 2], "majority": 80.0, "em_before": -1.0, "em": auto,
            "auto": auto, "doubt": doubt}  # fmt: skip


def test_subsets_of_a_file_are_judged(tmp_path):
    path = tmp_path / "four.jsonl"
    lines = [
        {
            "product": f"p{i}",
            "attribute": "a",
            "gold": ["x"],
            "votes": {"a": "x", "b": "x", "c": "y", "d": "y"},
        }
        for i in range(20)
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    part = subsets.of_members(read_votes(path), (1, 3))
    assert part.members == ("b", "d")
    assert part.cells[0].values == ("x", "y")
    inputs = subsets.Inputs(None, [path], None, tmp_path, draws=5, seeds=0)
    rows = list(subsets.subsets(inputs))
    assert [r["subset"] for r in rows] == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3], [0, 1, 2, 3]]
    assert [r["majority"] for r in rows] == [100.0, 100.0, 0.0, 0.0, 100.0]
    assert all(r["auto"] == 0.0 and r["doubt"].startswith("20 cells are too few") for r in rows)


def test_the_summary_counts_subsets_below_majority():
    rows = [row("one", -0.31, "x")] + [row("one", 0.1)] * 8 + [row("two", 0.0)]
    text = subsets.summary(rows)
    one, two = (line for line in text.splitlines() if line.startswith(("one", "two")))
    assert one.split()[1:] == [
        "9", "-1.00", "-1.00", "9", "+0.05", "-0.31", "1", "+0.05", "-0.31", "1", "8", "MISSED",
    ]  # fmt: skip
    assert two.endswith("met")
    assert "doubted" in subsets.line(rows[0])
