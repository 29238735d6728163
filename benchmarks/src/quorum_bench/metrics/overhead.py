# SPDX-License-Identifier: Apache-2.0
"""Ensemble overhead: how much longer the ensemble takes than its slowest member alone; ms, lower is better.

Both are asked through the same server, in interleaved runs, and compared at the same quantile. With all
members side by side on enough cores and a graph that costs nothing it would be zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from quorum_bench.bootstrap import Floats, Interval, quantile_draws


def overhead(
    ensemble: Sequence[Floats], members: Mapping[str, Sequence[Floats]], q: float = 0.5
) -> tuple[Interval, str]:
    """Difference of quantiles, with its bootstrap interval.

    Args:
        ensemble: Per run latencies in ms.
        members: Member -> per run latencies in ms.
        q: The quantile.

    Returns:
        Ensemble minus slowest member, ms, and that member's name. Which member is slowest is decided anew in
        every bootstrap draw, so its uncertainty is in the interval.
    """
    mine = float(np.median([np.quantile(run, q) for run in ensemble]))
    alone = {m: float(np.median([np.quantile(run, q) for run in runs])) for m, runs in members.items()}
    slowest = max(alone, key=lambda name: alone[name])
    draws = quantile_draws(ensemble, [q], seed=1)[0]
    others = np.stack([quantile_draws(runs, [q], seed=2 + i)[0] for i, runs in enumerate(members.values())])
    return Interval.of(mine - alone[slowest], draws - others.max(axis=0)), slowest
