# SPDX-License-Identifier: Apache-2.0
"""What scores cost: the two deployments that are compared, and when there is nothing to compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quorum_bench.bench import Bench, Options, Skipped
from quorum_bench.measure import Effort
from quorum_bench.scenarios import BY_NAME
from quorum_bench.targets.quorum import QuorumTarget
from quorum_bench.workload import Workload

ROOT = Path(__file__).parents[3]


def options_of(target: QuorumTarget) -> Sequence[Any]:
    return [member.options for member in target._spec.members]


def test_a_target_serves_the_deployment_with_or_without_scores() -> None:
    workload, deploy = Workload.made(attributes=1), ROOT / "deploy.yaml"
    as_it_is, without = (QuorumTarget(workload, deploy=deploy, scores=use) for use in (None, False))
    assert [options.scores for options in options_of(as_it_is)] == [True] * 3
    assert [options.scores for options in options_of(without)] == [False] * 3
    assert [o.model for o in options_of(without)] == [o.model for o in options_of(as_it_is)]


@pytest.mark.parametrize(
    ("runs", "deploy", "why"), [(4, ROOT / "deploy.yaml", "--runs 5"), (5, ROOT / "none.yaml", "none.yaml")]
)
def test_it_is_left_out_where_it_says_nothing(runs: int, deploy: Path, why: str) -> None:
    options = Options("short", Effort(1.0, 0.0, runs), deploy=deploy)
    with pytest.raises(Skipped, match=why):
        BY_NAME["scores"].play(Bench(options, file=None))  # type: ignore[arg-type]
