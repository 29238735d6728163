# SPDX-License-Identifier: Apache-2.0
"""Measure votes of people, and of recorded systems, by the measure of each kind: best, majority, learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quorum.evaluation.evaluate import evaluate
from quorum.votes import VotesTable
from quorum.votes.write import write_votes
from quorum_bench.studies.task_tables import (
    KINDS,
    QUERYNER,
    RELEVANCE,
    SUMMARIES,
    queryner_votes,
    relevance_votes,
    summaries_votes,
)

LEARNED = "loglinear"
HEAD = (
    f"{'votes':15} {'role':12} {'name':12} {'measure':9} {'%':>5} {'95 % interval':>14} {'to the best':>20}"
)

Row = dict[str, Any]


def tables(tasks: Path) -> Iterator[tuple[str, VotesTable]]:
    """The votes tables by name: QueryNER, relevance and summaries.

    Args:
        tasks: Folder with the public data of tasks.
    """
    yield QUERYNER, queryner_votes(tasks / "queryner" / "test.jsonl.gz")
    yield RELEVANCE, relevance_votes(tasks / "relevance" / "test.jsonl.gz")
    files = [tasks / "review-summaries" / f"{part}.jsonl.gz" for part in ("dev", "test")]
    yield SUMMARIES, summaries_votes(files)


def measure(tasks: Path, folds: int, out: Path | None = None) -> Iterator[Row]:
    """Yield a row per table, member or method, and measure, held out by products.

    Args:
        tasks: As in :func:`tables`.
        folds: Parts of the products.
        out: Folder that the tables are written to, as ``NAME.jsonl``; None: nowhere.
    """
    for name, table in tables(tasks):
        if out:
            out.mkdir(parents=True, exist_ok=True)
            write_votes(table, out / f"{name}.jsonl")
        found = evaluate(table, ("majority", LEARNED), folds, kinds=KINDS)
        error = {method: found.methods[method].ece for method in ("majority", LEARNED)}
        for row in found.tasks[name].rows:
            delta = row.to_best_member
            for key, figure in row.figures.items():
                is_headline = key == found.tasks[name].headline
                yield {
                    "table": name,
                    "cells": found.tasks[name].cells,
                    "role": row.role,
                    "name": row.name,
                    "measure": key,
                    "value": figure.value,
                    "ci95": [figure.low, figure.high],
                    "to_best_member": [delta.value, delta.low, delta.high] if delta and is_headline else None,
                    "calibration_error": error.get(row.name) if KINDS[name] != "text" else None,
                }


def line(row: Row) -> str:
    """One line of the table of :func:`measure`."""
    low, high = row["ci95"]
    delta = row["to_best_member"]
    to_best = f"{100 * delta[0]:+.1f} ({100 * delta[1]:+.1f}, {100 * delta[2]:+.1f})" if delta else ""
    interval = f"({100 * low:.1f}-{100 * high:.1f})"
    error = row["calibration_error"]
    end = f"   calibration error {100 * error:.1f} %" if error is not None and delta else ""
    return (
        f"{row['table']:15} {row['role']:12} {row['name']:12} {row['measure']:9} {100 * row['value']:5.1f} "
        f"{interval:>14} {to_best:>20}{end}"
    )
