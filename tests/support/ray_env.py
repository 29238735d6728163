# SPDX-License-Identifier: Apache-2.0
"""The environment with Ray and the table formats, which is not that of the tests; a cluster of processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

PYTHON = Path(__file__).parents[2] / ".venv-ray" / "bin" / "python"
LONG = pytest.mark.skipif(
    not os.environ.get("QUORUM_LONG") or not PYTHON.exists(),
    reason="long form, and needs `make ray-env`: QUORUM_LONG=1 scripts/test",
)
_ENTRY = "import sys; sys.argv[0] = 'quorum'; from quorum.cli import main; main()"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
}


def start(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command ``quorum`` in this environment."""
    return subprocess.Popen(
        [PYTHON, "-c", _ENTRY, *map(str, arguments)],
        cwd=folder,
        env=os.environ | _QUIET | environment | {"COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def quorum(folder: Path, *arguments: str | Path, code: int = 0, timeout_s: float = 300) -> tuple[str, str]:
    """Run a command to its end; standard output and standard error."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    return out, err


def python(folder: Path, script: str) -> Any:
    """Run a script in ``folder``; the JSON that it prints."""
    done = subprocess.run([PYTHON, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_CLUSTER = """
import psutil, sys
from ray.cluster_utils import Cluster
node = {"object_store_memory": 80 * 2**20}
checks = {"period_ms": 1000, "failure_threshold": 10, "initial_delay_ms": 0}
config = {f"health_check_{name}": value for name, value in checks.items()}
head = {"num_cpus": 0, "include_dashboard": False, "_system_config": config}
cluster = Cluster(initialize_head=True, head_node_args=node | head)
nodes = [cluster.add_node(num_cpus=1, **node) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    node = nodes[int(line)]
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    names = [" ".join(child.cmdline()) for child in raylet.children(recursive=True)]
    cluster.remove_node(node, allow_graceful=False)
    print(sum("NodeWorker" in name for name in names), flush=True)
cluster.shutdown()
"""


class RayCluster:
    """A head without a worker, and two nodes, all of them processes of this machine.

    Attributes:
        address: What a driver connects to.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._say()

    def kill(self, node: int) -> int:
        """Kill a node, 0 or 1, and with it what runs on it; how many workers of a job that were."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{node}\n")
        self._process.stdin.flush()
        return int(self._say())

    def _say(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the cluster ended by itself"
        return line


@contextmanager
def cluster() -> Iterator[RayCluster]:
    """Start a cluster, and end all of its processes; again where Ray's 30 s for a start are too few."""
    with ExitStack() as stack:
        for left in reversed(range(4)):
            process = stack.enter_context(_processes())
            try:
                started = RayCluster(process)
            except AssertionError:
                if not left:
                    raise
                stack.close()
            else:
                break
        yield started


@contextmanager
def _processes() -> Iterator[subprocess.Popen[str]]:
    # Not in the folder of the test: names of sockets must be short.
    folder = tempfile.mkdtemp(prefix="qr-", dir="/tmp")
    process = subprocess.Popen(
        [PYTHON, "-c", _CLUSTER],
        env=os.environ | _QUIET | {"RAY_TMPDIR": folder},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        # At the end of its input the script shuts the cluster down.
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
