# SPDX-License-Identifier: Apache-2.0
"""Open a graph in a process of its own first: the library that reads it checks nothing, and may crash.

It is no proof: a damaged place that no search of the trial comes by is not found.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from quorum.processes import interpreter, signal_name

_TIMEOUT_S = 120.0
_SEARCHES, _K = 256, 50


def try_graph(path: Path) -> None:
    """Open a graph elsewhere, and search it for some of its own vectors.

    Raises:
        ValueError: That fails, crashes, or does not end.
        OSError: No process can be started.
    """
    command = [interpreter(), "-P", "-m", __name__, str(path)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"a trial search did not end in {_TIMEOUT_S:.0f} s") from error
    if done.returncode < 0:
        raise ValueError(f"a trial search crashed: {signal_name(-done.returncode)}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ValueError(f"a trial search failed: {said[-1] if said else f'exit code {done.returncode}'}")


def _search(path: Path) -> None:
    import numpy as np

    from quorum.retrieval.index import Graph

    graph = Graph(path)
    count = graph.shape[0]
    rows = np.unique(np.linspace(0, count - 1, min(_SEARCHES, count)).astype(np.int64))
    graph(graph.vectors(rows), _K)


if __name__ == "__main__":
    _search(Path(sys.argv[1]))
