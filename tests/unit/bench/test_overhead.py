# SPDX-License-Identifier: Apache-2.0
"""An overhead that is none is not called one."""

from __future__ import annotations

import pytest

from quorum.evaluation.stats import Estimate
from quorum_bench.scenarios.overhead import _longer


@pytest.mark.parametrize(
    ("low", "words"),
    [(0.1, "five take longer than one by"), (-0.1, "five take no longer than one; difference")],
)
def test_what_is_not_surely_longer_is_said_to_be_no_longer(low: float, words: str) -> None:
    assert _longer("five", "take", "than one", Estimate(0.5, low, 1.0)) == words
