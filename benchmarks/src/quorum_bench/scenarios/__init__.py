# SPDX-License-Identifier: Apache-2.0
"""List the scenarios: one file for each question or for a few related ones."""

from quorum_bench.bench import Scenario
from quorum_bench.scenarios import (
    accuracy,
    bulk,
    capacity,
    cross_check,
    growth,
    layout,
    learning,
    overhead,
    overload,
    peers,
    scores,
    stability,
    verify,
)

ALL: tuple[Scenario, ...] = (
    overhead.SCENARIO,
    layout.SCENARIO,
    growth.MEMBERS,
    growth.ATTRIBUTES,
    capacity.CONCURRENCY,
    capacity.RATE,
    capacity.TEXT,
    capacity.CHANNELS_,
    capacity.REPLAY,
    overload.SCENARIO,
    bulk.SCENARIO,
    accuracy.SCENARIO,
    learning.SCENARIO,
    peers.SCENARIO,
    scores.SCENARIO,
    stability.SCENARIO,
    verify.SCENARIO,
    cross_check.SCENARIO,
)
BY_NAME = {scenario.name: scenario for scenario in ALL}
