# SPDX-License-Identifier: Apache-2.0
"""Hundreds of callers at once, more than the gate lets in: all answered or refused, and the server stays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.deployment import Live, running, write_deployment

from quorum_bench.load import Closed, run_load
from quorum_bench.targets.triton_caller import triton_caller
from quorum_bench.workload import Workload

WORKLOAD = Workload.made(attributes=5)
MEMBERS = [f"m{i}" for i in range(5)]
UNAVAILABLE = 14
# What found a server that aborted: some eighty thousand requests of eight hundred callers.
ROUNDS, SECONDS = (20, 8.0) if os.environ.get("QUORUM_LONG") else (1, 2.0)


def answered(live: Live, callers: int, seconds: float) -> tuple[int, set[int]]:
    """How many were answered, and the statuses of all."""
    caller = triton_caller(live.url, "quorum", WORKLOAD)
    samples = run_load(caller, Closed(callers), seconds, generators=2).samples
    return int(np.count_nonzero(samples.ok)), set(samples.status.tolist())


@pytest.mark.timeout(600)
def test_a_crowd_is_answered_and_the_server_stays(tmp_path: Path) -> None:
    rows = WORKLOAD.votes_table(MEMBERS)
    attributes = {name: {} for name in WORKLOAD.products[0].attributes}
    deploy = write_deployment(
        tmp_path,
        {name: {} for name in MEMBERS},
        rows=rows,
        attributes=attributes,
        gate={"max_in_flight": 600},
    )
    with running(deploy) as live:
        for _ in range(ROUNDS):
            count, statuses = answered(live, 500, SECONDS)
            assert count >= 500
            assert statuses == {0}
            count, statuses = answered(live, 800, SECONDS / 2)
            assert count > 500
            assert statuses <= {0, UNAVAILABLE}
        assert answered(live, 2, 1.0)[1] == {0}
