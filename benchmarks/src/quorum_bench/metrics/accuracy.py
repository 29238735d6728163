# SPDX-License-Identifier: Apache-2.0
"""Accuracy: the share of labelled cells decided right, held out; percent, higher is better.

Comes from a votes table with gold labels, not from a load: only the scenario ``accuracy`` has it.
"""

from __future__ import annotations

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    raise NoValue(f"the {len(run.members)} members' answers have no gold; see the scenario accuracy")


METRIC = Metric("accuracy", "accuracy", "%", "higher", _of, "labelled cells decided right / labelled cells")
