# SPDX-License-Identifier: Apache-2.0
"""Find the processes of a server that ``quorum up`` serves, and what they leave."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from quorum.deployment.schema import Deployment
from quorum.processes import runs
from quorum.server.leftovers import SCRATCH
from quorum.server.runfile import find_running
from quorum.serving.shared_file import MARK, SHARED_MEMORY
from quorum_bench.chaos.errors import ProcessNotFound

WORKER = "quorum.serving.isolation.program"
_STUB = "triton_python_backend_stub"
_POLL_S = 0.05


def server_of(spec: Deployment) -> psutil.Process:
    """The tritonserver of a deployment."""
    running = find_running(spec)
    if running is None:
        raise ProcessNotFound("no server runs")
    return psutil.Process(running.pid)


def stub_of(spec: Deployment, model: str) -> psutil.Process:
    """The process of Triton's Python backend that runs a model."""
    for child in server_of(spec).children():
        with contextlib.suppress(psutil.Error):
            line = child.cmdline()
            if any(_STUB in part for part in line[:1]) and any(f"{model}_" in part for part in line):
                return child
    raise ProcessNotFound(f"no process runs {model}")


def worker_of(spec: Deployment, model: str) -> psutil.Process:
    """The process in which a member's runtime runs."""
    for child in stub_of(spec, model).children():
        with contextlib.suppress(psutil.Error):
            if any(WORKER in part for part in child.cmdline()):
                return child
    raise ProcessNotFound(f"{model} has no worker")


def found(spec: Deployment, target: str, model: str, patience_s: float = 45.0) -> psutil.Process:
    """The process of kind ``target``: ``worker`` or ``stub`` of a model, or ``server``.

    Raises:
        ProcessNotFound: It did not appear within the time.
    """
    end = time.monotonic() + patience_s
    while True:
        try:
            if target == "server":
                return server_of(spec)
            return worker_of(spec, model) if target == "worker" else stub_of(spec, model)
        except (ProcessNotFound, psutil.Error) as error:
            if time.monotonic() > end:
                raise ProcessNotFound(f"{target} of {model}: {error}") from error
            time.sleep(_POLL_S)


def marked(supervisor: int) -> dict[int, str]:
    """Process id -> mark, of all processes of the servers that a ``quorum up`` started and that still run.

    Found by their environment, so one that has lost its parent, or that nothing has seen before, counts too.
    """
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mark = process.environ().get(MARK, "")
            if is_of(supervisor, mark) and runs(process.pid):
                found[process.pid] = mark
    return found


def is_of(supervisor: int, name: str) -> bool:
    """Whether a mark, or a file that is named after it, is of a server of that ``quorum up``."""
    return name.startswith(f"{SCRATCH}{supervisor}-")


def doubled_workers(server: psutil.Process) -> list[int]:
    """Workers beyond the first of their step."""
    return [pid for step in server.children() for pid in sorted(_workers(step))[1:]]


def _workers(step: psutil.Process) -> list[int]:
    found = []
    with contextlib.suppress(psutil.Error):
        for child in step.children():
            with contextlib.suppress(psutil.Error):
                if runs(child.pid) and any(WORKER in p for p in child.cmdline()):
                    found.append(child.pid)
    return found


def files_of(supervisor: int) -> set[str]:
    """Files in shared memory, and scratch folders, of the servers of a ``quorum up``, dead ones too."""
    folders = (SHARED_MEMORY, Path(tempfile.gettempdir()))
    return {path.name for folder in folders for path in folder.glob(f"{SCRATCH}{supervisor}-*")}


def stale(files: Iterable[str], mark: str) -> set[str]:
    """The files that the present server, with that mark, does not need; "": none runs."""
    return {name for name in files if not mark or (name != mark and not name.startswith(f"{mark}_"))}
