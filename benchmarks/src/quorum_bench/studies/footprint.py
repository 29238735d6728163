# SPDX-License-Identifier: Apache-2.0
"""Memory, file handles, shared memory and processes that a server holds, and how they grow."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from quorum.serving.shared_file import server_name, traces_of
from quorum_bench.usage import descendants, rss_bytes


@dataclass(frozen=True, slots=True)
class Footprint:
    """Holdings of a tritonserver and the Python processes of its models together.

    Attributes:
        server_kib: Resident memory of tritonserver.
        stubs_kib: Resident memory of the Python processes, added up; pages that they share count each time.
        processes: Number of them, tritonserver included.
        handles: Open file handles of all.
        regions: Shared-memory files of this server.
        region_kib: Their size.
    """

    server_kib: int
    stubs_kib: int
    processes: int
    handles: int
    regions: int
    region_kib: int


def footprint(server: int) -> Footprint:
    """Count what a tritonserver with this process id holds now."""
    processes = descendants([server])
    stubs = [pid for pid in processes if pid != server]
    handles = 0
    for pid in processes:
        with contextlib.suppress(OSError):
            handles += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    sizes = _region_sizes(server)
    return Footprint(
        rss_bytes([server]) // 1024,
        rss_bytes(stubs) // 1024,
        len(processes),
        handles,
        len(sizes),
        sum(sizes) // 1024,
    )


def _region_sizes(server: int) -> list[int]:
    sizes = []
    for path in traces_of(server_name(server)):
        with contextlib.suppress(OSError):
            sizes.append(path.stat().st_size)
    return sizes


_BLOCKS = 20
_STUDENT = 2.101
"""97.5 % point of Student's t with ``_BLOCKS - 2`` degrees of freedom."""


def growth(series: Sequence[Footprint], warm_up: int) -> dict[str, tuple[float, float, float]]:
    """Return the growth per step after a warm-up: slope of a least-squares line and its 95 % interval.

    Neighbouring samples are alike, so the line goes through the means of 20 blocks.

    Args:
        series: At least ``warm_up`` and 20 more.
        warm_up: Left out at the start.

    Raises:
        ValueError: The series is shorter.
    """
    if len(series) < warm_up + _BLOCKS:
        raise ValueError(f"{len(series)} samples; give at least {warm_up + _BLOCKS} for a line")
    slopes = {}
    for name in asdict(series[0]):
        values = np.array([getattr(sample, name) for sample in series[warm_up:]], dtype=float)
        steps = np.arange(len(values), dtype=float)
        x, y = (np.array([part.mean() for part in np.array_split(v, _BLOCKS)]) for v in (steps, values))
        x -= x.mean()
        slope = float(x @ y / (x @ x))
        residual = y - y.mean() - slope * x
        half = _STUDENT * float(np.sqrt(residual @ residual / (_BLOCKS - 2) / (x @ x)))
        slopes[name] = (slope, slope - half, slope + half)
    return slopes
