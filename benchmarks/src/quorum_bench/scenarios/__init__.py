# SPDX-License-Identifier: Apache-2.0
"""The questions, one file each."""

from quorum_bench.bench import Scenario
from quorum_bench.scenarios import overhead

ALL: tuple[Scenario, ...] = (overhead.SCENARIO,)
BY_NAME = {scenario.name: scenario for scenario in ALL}
