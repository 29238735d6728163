# SPDX-License-Identifier: Apache-2.0
"""Time learning and deciding, by scale, and next to crowd-kit on the same votes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from quorum_bench.bench import Bench, Scenario, point_id
from quorum_bench.results import Finding, Plot, PointResult, ScenarioResult, Table, Value
from quorum_bench.studies import voting_speed
from quorum_bench.targets.peer import PeerError, peers_python

_KIT_S = 600.0


def _play(bench: Bench) -> ScenarioResult:
    most, kit_cells = bench.options.pick((10**6, 10**5), (10**7, 10**6))
    rows = voting_speed.scale(most, bench.options.effort.runs)
    bench.say(f"{SCENARIO.name}: {len(rows)} timings up to {most:,} cells")
    timings = _kit(kit_cells, bench.options.effort.runs)
    findings = [_at_scale(rows, most), *_kit_findings(timings)]
    plot = Plot(
        title="aggregation time", x="cells", y=["aggregation"], series="method", log_x=True, log_y=True
    )
    result = SCENARIO.result([], findings=findings, plots=[plot], tables=[_table(timings)])
    return result.model_copy(update={"points": [_point(row) for row in rows]})


def _kit(cells: int, repeats: int) -> dict[str, Any]:
    """Time crowd-kit in the peers' environment: it needs another NumPy than some of our packages."""
    try:
        python = peers_python()
    except PeerError as error:
        return {"note": f"crowd-kit left out: {error}", "rows": []}
    line = [str(python), voting_speed.__file__, str(cells), str(repeats)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=_KIT_S)
    except subprocess.TimeoutExpired:
        return {"note": f"crowd-kit left out: not done after {_KIT_S:g} s", "rows": []}
    if done.returncode:
        last = (done.stderr.splitlines() or ["it printed nothing"])[-1]
        return {"note": f"crowd-kit left out: {last}", "rows": []}
    timings: dict[str, Any] = json.loads(done.stdout)
    return timings


def _point(row: dict[str, Any]) -> PointResult:
    labels: dict[str, str | int | float] = {"method": row["name"], "cells": row["cells"]}
    ms = [1e3 * row[key] for key in ("seconds", "least", "most")]
    value = Value(value=ms[0], low=ms[1], high=ms[2])
    return PointResult(id=point_id(SCENARIO.name, labels), labels=labels, values={"aggregation": value})


def _at_scale(rows: Sequence[dict[str, Any]], most: int) -> Finding:
    row = next(row for row in rows if row["cells"] == most and row["name"] == "em")
    ms = [1e3 * row[key] for key in ("seconds", "least", "most")]
    return Finding(
        text=f"weights learned without gold (em) from {most:,} cells of five members, all decided, in",
        value=Value(value=ms[0], low=ms[1], high=ms[2]),
        unit="ms",
    )


def _kit_findings(timings: dict[str, Any]) -> list[Finding]:
    return [
        Finding(
            text=f"crowd-kit's {row['name']} takes so many times as long as our {row['against']} "
            f"({row['accuracy']:.2f} and {row['accuracy_ours']:.2f} % right)",
            value=Value(value=row["ratio"], low=row["ratios"][0], high=row["ratios"][-1]),
            aim=f"at least {row['target']:g}" if row["target"] else "",
            met=row["ratio"] >= row["target"] if row["target"] else None,
        )
        for row in timings["rows"]
        if "error" not in row
    ]


def _table(timings: dict[str, Any]) -> Table:
    if not timings["rows"]:
        return Table(title="Next to crowd-kit", columns=["why not"], rows=[[timings["note"]]])
    rows = []
    for row in timings["rows"]:
        if "error" in row:
            rows.append([row["name"], row["error"], "", "", "", ""])
            continue
        rows.append(
            [
                row["name"],
                f"{row['theirs']['seconds']:.2f} s",
                f"{row['accuracy']:.2f} %",
                row["against"],
                f"{1e3 * row['ours']['seconds']:.1f} ms",
                f"{row['accuracy_ours']:.2f} %",
            ]
        )
    return Table(
        title=f"Next to crowd-kit {timings['crowd_kit']}, {timings['cells']:,} cells of 5 members, in turn, "
        f"medians of {timings['repeats']}",
        columns=["crowd-kit's", "takes", "right", "ours", "takes", "right"],
        rows=rows,
    )


SCENARIO = Scenario(
    "learning",
    "Learning weights, by scale",
    "How long do learning and deciding take from a thousand to millions of cells, from coded votes of five "
    "simulated members in memory, and how long does crowd-kit on the same votes?",
    _play,
)
