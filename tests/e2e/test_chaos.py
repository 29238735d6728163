# SPDX-License-Identifier: Apache-2.0
"""Parts of a server under ``quorum up`` break under load, one after the other: what callers notice.

``QUORUM_LONG=1`` breaks every part in every way at 0.5, 2 and 40 requests per second, which takes an hour;
`quorum-bench chaos` shows the same as a table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from quorum_bench.chaos.cases import long_cases, problems, run_case, short_cases
from quorum_bench.chaos.faults import Fault
from quorum_bench.chaos.world import World

CASES = [*(long_cases if os.environ.get("QUORUM_LONG") else short_cases)()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("chaos")) as world:
        yield world
    assert world.left() == []


@pytest.mark.parametrize(
    ("fault", "rate"), CASES, ids=[f"{fault.name} {fault.kind} at {rate:g}" for fault, rate in CASES]
)
def test_callers_are_answered_right_and_service_comes_back(world: World, fault: Fault, rate: float) -> None:
    row = run_case(world, fault, rate)
    # Of a machine that does much else: some calls take longer than their time, and a restart does.
    assert problems(replace(row, late=0), most_back_s=30.0) == [], row
    assert row.answered > 0
