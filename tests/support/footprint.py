# SPDX-License-Identifier: Apache-2.0
"""What a server holds: memory, file handles, shared memory, processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from support.traces import prefix_of, session_processes, shared_memory

from quorum.server.triton import TritonServer


@dataclass(frozen=True)
class Footprint:
    """Of a tritonserver and the Python processes of its models together.

    Attributes:
        server_kib: Resident memory of tritonserver.
        stubs_kib: Resident memory of the Python processes, added up; pages that they share count each time.
        processes: How many there are, tritonserver included.
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


def footprint(server: TritonServer) -> Footprint:
    """Look now."""
    assert server.pid
    processes = session_processes(server.pid)
    memory, handles = {}, 0
    for pid in processes:
        try:
            memory[pid] = int((Path(f"/proc/{pid}/statm")).read_text().split()[1]) * 4
            handles += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            continue
    names = shared_memory(server.pid, prefix_of(server))
    sizes = [path.stat().st_size for name in names if (path := Path("/dev/shm", name)).exists()]
    own = memory.pop(server.pid)
    return Footprint(own, sum(memory.values()), len(memory) + 1, handles, len(sizes), sum(sizes) // 1024)


_BLOCKS = 20
_STUDENT = 2.101
"""97.5 % point of Student's t with ``_BLOCKS - 2`` degrees of freedom."""


def growth(series: list[Footprint], warm_up: int) -> dict[str, tuple[float, float, float]]:
    """Growth per step after a warm-up: slope of a least-squares line and its 95 % interval.

    Neighbouring samples are alike, so the line goes through the means of 20 blocks.
    """
    found = {}
    for name in asdict(series[0]):
        values = np.array([getattr(s, name) for s in series[warm_up:]], dtype=float)
        steps = np.arange(len(values), dtype=float)
        x, y = (np.array([part.mean() for part in np.array_split(v, _BLOCKS)]) for v in (steps, values))
        x -= x.mean()
        slope = float(x @ y / (x @ x))
        residual = y - y.mean() - slope * x
        half = _STUDENT * float(np.sqrt(residual @ residual / (_BLOCKS - 2) / (x @ x)))
        found[name] = (slope, slope - half, slope + half)
    return found
