# SPDX-License-Identifier: Apache-2.0
"""Failed requests: the share of the window's requests that got no whole answer; percent, lower is better."""

from __future__ import annotations

import numpy as np

from quorum_bench.measure import Run
from quorum_bench.metrics.base import Metric, NoValue


def _of(run: Run) -> float:
    if not len(run.samples):
        raise NoValue("nothing was sent")
    return 100.0 * (1.0 - float(np.mean(run.samples.ok)))


METRIC = Metric("failed", "failed", "%", "lower", _of, "requests without a whole answer / requests")
