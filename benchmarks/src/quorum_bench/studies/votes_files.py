# SPDX-License-Identifier: Apache-2.0
"""Measure seconds and peak memory of ``quorum votes``, each command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from quorum.votes import Cell
from quorum.votes.write import replacing_votes

MEMBERS = tuple(f"m{j}" for j in range(5))
ATTRIBUTES = 20
VALUES = 5_000
MISSING = 0.1
GOLD = 0.01
HEAD = (
    f"{'command':10} {'file':9} {'cells':>9} {'MB':>6} {'seconds':>8} {'us a cell':>9} {'peak MB':>8} "
    f"{'imports':>8}"
)

Row = dict[str, Any]

_RUN = """
import json, sys, time
from pathlib import Path
from quorum.cli import app

def peak_mb():
    # Not getrusage: its peak of a new process includes that of the parent before the fork.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))

import quorum.operations.votes, quorum.votes.columns
imports = peak_mb()
start = time.perf_counter()
app(["votes", *sys.argv[1:]], standalone_mode=False)
print(json.dumps({"seconds": time.perf_counter() - start, "imports_mb": imports, "peak_mb": peak_mb()}))
"""

_DEPLOY = """
attributes: {a0: {values: [value 1, value 2]}, a1: {}}
members: [{name: m0, runtime: replay, options: {votes: votes.jsonl}}]
"""


def measure(cells: int, ending: str) -> Iterator[Row]:
    """Yield a row per command, for files of a format, on a tenth of the cells and on all of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "deploy.yaml").write_text(_DEPLOY, encoding="utf-8")
        for size in (cells // 10, cells):
            yield from _of_table(folder, ending, size)


def line(row: Row) -> str:
    """One line of the table of :func:`measure`."""
    return (
        f"{row['command']:10} {row['file']:9} {row['cells']:9,} {row['file_mb']:6.0f} {row['seconds']:8.1f} "
        f"{1e6 * row['seconds'] / row['cells']:9.0f} {row['peak_mb']:8} {row['imports_mb']:8}"
    )


def _of_table(folder: Path, ending: str, cells: int) -> Iterator[Row]:
    votes, rest, one = (folder / f"{name}.{ending}" for name in ("votes", "rest", "one"))
    out = folder / f"out.{ending}"
    write_table(votes, cells)
    commands = (
        ("info", [votes]),
        ("drop", [votes, "m0", "--out", rest]),
        ("normalise", [votes, "--deploy", folder / "deploy.yaml", "--out", out]),
        ("drop", [votes, *MEMBERS[1:], "--out", one]),
        ("merge", [rest, one, "--out", out]),
    )
    for command, arguments in commands:
        done = subprocess.run(
            [sys.executable, "-c", _RUN, command, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
        )
        figures = json.loads(done.stdout.splitlines()[-1])
        yield {
            "command": command,
            "file": ending,
            "cells": cells,
            "file_mb": votes.stat().st_size / 2**20,
            **figures,
        }
    for path in (votes, rest, one, out):
        path.unlink()


def write_table(path: Path, cells: int) -> None:
    """Five members, 20 attributes, no cell twice; titles, scores, and gold for one cell in 100; seed 0."""
    rng = np.random.default_rng(0)
    words = [f"value {number}" for number in range(VALUES)]
    with replacing_votes(path) as writer:
        for at in range(cells):
            product, attribute = divmod(at, ATTRIBUTES)
            truth = int(rng.integers(VALUES))
            chance, other = (
                rng.random(len(MEMBERS)).tolist(),
                rng.integers(VALUES, size=len(MEMBERS)).tolist(),
            )
            values = tuple(
                None if p < MISSING else words[w] if p > 1 - MISSING else words[truth]
                for p, w in zip(chance, other, strict=True)
            )
            scores = tuple(None if v is None else -float(p) for v, p in zip(values, chance, strict=True))
            gold = (words[truth],) if at % round(1 / GOLD) == 0 else ()
            title = f"Product {product}, which has a title of about the usual length, size {product % 50}"
            cell = Cell(
                f"p{product}", f"c{product % 10}", title, f"a{attribute}", values, gold, scores=scores
            )
            writer.write(cell, MEMBERS)
