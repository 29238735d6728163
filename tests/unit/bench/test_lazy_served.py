# SPDX-License-Identifier: Apache-2.0
"""What is counted of answers of the two channels, and what is said of it: by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quorum_bench.bench import Measured
from quorum_bench.scenarios.peers_llms import EXACT, lazy_findings, llms_table
from quorum_bench.studies.lazy_served import line, summary
from quorum_bench.targets.lazy import changed
from quorum_client import Answer, Extraction, Spent, Status, Vote


def answered(value: str, *votes: str | None) -> Extraction:
    """One answer by members, None if not asked, each with 10 tokens of prompt and 2 of answer."""
    cast = [
        Vote(f"m{at}", vote, Status.NOT_ASKED if vote is None else Status.ANSWERED)
        for at, vote in enumerate(votes)
    ]
    usage = {f"m{at}": Spent() if vote is None else Spent(1, 10, 2) for at, vote in enumerate(votes)}
    return Extraction("r", (Answer("color", value, 0.9, tuple(cast)),), 3, 0.1, usage=usage)


def row(**changes: Any) -> dict[str, Any]:
    full = [answered("red", "red", "red", "blue"), answered("red", "red", "blue", "red")]
    lazy = [answered("red", "red", "red", None), answered("red", "red", "blue", "red")]
    speed = {"answers_per_s": 50.0, "p50_ms": 20.0, "p95_ms": 30.0, "cpu_ms": 9.0}
    found = {"way": "open attributes", "attributes": 1, "callers": 16, **changed(full, lazy)}
    return {**found, "full": speed, "lazy": {**speed, "answers_per_s": 55.0}, **changes}


def test_cells_calls_and_tokens_are_counted() -> None:
    found = row()
    assert (found["cells"], found["equal"], found["flips"]) == (2, 2, 0)
    assert found["asked"] == pytest.approx(5 / 6)
    assert found["calls"] == {"full": 3.0, "lazy": 2.5}
    assert (found["prompt_tokens"]["lazy"], found["answer_tokens"]["lazy"]) == (25.0, 5.0)


def test_a_flip_is_another_value_by_the_same_votes() -> None:
    full = [answered("red", "red", "red", "blue")]
    assert changed(full, [answered("blue", "red", "red", None)])["flips"] == 1
    found = changed(full, [answered("blue", "red", "blue", "blue")])
    assert (found["equal"], found["flips"]) == (0, 0)


def test_goals_are_judged_at_the_most_callers() -> None:
    rows = [row(callers=1), row(), row(way="whole questions", equal=1), row(way="flip risk 2 %", equal=1)]
    rows[1]["lazy"]["answers_per_s"] = 57.0
    found = summary(rows).splitlines()
    assert len(found) == 3
    assert "equal answers met; 16.7 % of the calls saved, +14.0 % answers/s at 16 callers" in found[0]
    assert found[0].endswith(": met")
    assert "equal answers MISSED" in found[1]
    assert found[1].endswith(": MISSED")
    assert "equal answers MISSED" in found[2], "one of two values is more than 2 %"
    assert "2 of 2" in line(rows[0])


def test_servers_around_llms_are_compared_with_the_best_peer(
    make_measured: Callable[..., Measured],
) -> None:
    points = [make_measured("x", 5.0, server=name, load=8) for name in ("quorum", EXACT, "FastAPI")]
    compared = {EXACT: {"calls": {"lazy": 2.4}, "equal": 9, "cells": 10}}
    starts = {str(m.labels["server"]): [1.0] for m in points}
    table = llms_table(points, starts, compared, {"Ray Serve": "not installed\nlast words"})
    assert all(len(cells) == len(table.columns) for cells in table.rows)
    lazy = next(cells for cells in table.rows if cells[0] == EXACT)
    assert lazy[3:5] == ["2.4", "9 of 10"]
    assert lazy[2].endswith("(1.00)")
    assert table.rows[-1][0] == "Ray Serve: not installed"
    (finding,) = lazy_findings(points)
    assert finding.met is False
    assert "(FastAPI)" in finding.text
