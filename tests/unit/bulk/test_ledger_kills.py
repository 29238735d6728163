# SPDX-License-Identifier: Apache-2.0
"""A bulk job that dies at any moment goes on by the same command: every row once, nothing asked again."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from support.bulk_jobs import Job
from support.dying import died_before, killed_before


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine loses its power here; that it is asked for stays counted."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


MIXED: dict[str, Any] = {"rows": (2, 3), "bad": frozenset({1}), "failing": frozenset({3})}


STEP = 1 if os.environ.get("QUORUM_LONG") else 5
"""What shares almost all operations with the first test dies in the short form at every fifth."""


def deaths(folder: Path, start: int = 0, step: int = 1, **settings: Any) -> Any:
    """Jobs to kill at their first, second, ... operation."""
    for operation in itertools.count(start, step):
        yield operation, Job(folder / f"{operation}" / "files", **settings)


@pytest.mark.parametrize(("die", "step"), [(died_before, 1), (killed_before, STEP)])
def test_a_job_that_dies_before_any_operation_goes_on(tmp_path: Path, die: Any, step: int) -> None:
    whole = Job(tmp_path / "whole" / "files", **MIXED)
    whole.run()
    for operation, job in deaths(tmp_path, 0, step, **MIXED):
        died = die(operation, job.folder, job.run)
        assert job.run() == tuple(f"{job.folder}/{name}" for name in _NAMES)
        assert job.written() == whole.written(), operation
        # What was being asked when it died is asked again.
        assert len(job.asked) <= len(whole.asked) + died, operation
        if not died:
            break
    assert operation > 60


_NAMES = ("answers.csv", "answers.csv.dead.jsonl", "votes.jsonl")


@pytest.mark.parametrize(
    "outputs",
    [
        {"out": "answers.parquet", "votes": "votes.parquet"},
        {"out": "answers.jsonl", "votes": "votes/"},
        {"out": "answers/", "votes": "votes.arrow"},
    ],
)
def test_every_kind_of_output_outlives_deaths(tmp_path: Path, outputs: dict[str, str]) -> None:
    whole = Job(tmp_path / "whole" / "files", **MIXED, **outputs)
    whole.run()
    for operation, job in deaths(tmp_path, 0, STEP, **MIXED, **outputs):
        died = died_before(operation, job.folder, job.run)
        job.run()
        assert job.written() == whole.written(), operation
        assert len(job.asked) <= len(whole.asked) + died, operation
        if not died:
            break
    assert operation > 60


@pytest.mark.parametrize("goes_on_by_retry", [True, False])
def test_a_retry_that_dies_goes_on(tmp_path: Path, goes_on_by_retry: bool) -> None:
    right = Job(tmp_path / "right" / "files", votes="votes.jsonl/")
    right.run()
    with (right.folder / "answers.csv").open(newline="") as file:
        right_rows = list(csv.DictReader(file))
    settings: dict[str, Any] = {"votes": "votes.jsonl/", "failing": frozenset({1, 3, 4})}
    for operation, job in deaths(tmp_path, 2 * goes_on_by_retry, STEP, **settings):
        job.run()
        job.failing = frozenset()
        died = died_before(operation, job.folder, lambda job=job: job.run(retry=True))
        job.run(retry=goes_on_by_retry)
        with (job.folder / "answers.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        # Rows that were not asked again have the error that they had.
        assert [row["sku"] for row in rows] == [f"s-{row}" for row in range(5)], operation
        assert all(row["error"] == "too late" or row in right_rows for row in rows), operation
        job.run(retry=True)
        assert job.written() == right.written(), operation
        assert len(job.asked) <= 5 + 3 + died, operation
        if not died:
            break
    assert operation > 40


def test_two_deaths_in_a_row(tmp_path: Path) -> None:
    whole = Job(tmp_path / "whole" / "files", **MIXED)
    whole.run()
    for first, second in itertools.product(range(5, 100, 29), range(3, 100, 19)):
        job = Job(tmp_path / f"{first}-{second}" / "files", **MIXED)
        deaths = died_before(first, job.folder, job.run) + died_before(second, job.folder, job.run)
        job.run()
        assert job.written() == whole.written(), (first, second)
        assert len(job.asked) <= len(whole.asked) + deaths
