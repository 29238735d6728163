# SPDX-License-Identifier: Apache-2.0
"""Find the processes of a server that ``quorum up`` serves, and what they leave."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil

from quorum.deployment.schema import Deployment
from quorum.server.runfile import find_running

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (this is what it is for)
WORKER = "quorum.serving.isolation.program"
_STUB = "triton_python_backend_stub"
_POLL_S = 0.05


class ProcessNotFound(RuntimeError):
    """A process that is to be broken does not run."""


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


def found(spec: Deployment, target: str, model: str, patience_s: float = 15.0) -> psutil.Process:
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


def family(root: int) -> dict[int, str]:
    """Process id -> name of a process and all that descend from it and still run."""
    members = {}
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(root)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                if one.status() != psutil.STATUS_ZOMBIE:
                    members[one.pid] = _name(one)
    return members


def _name(process: psutil.Process) -> str:
    line = process.cmdline()
    for part in line:
        if WORKER in part:
            return "worker"
    return Path(line[0]).name if line else process.name()


def regions(server: int | None = None) -> set[str]:
    """Names of quorum's files in shared memory; of one server only, or of all."""
    names = {path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith("quorum-")}
    return names if server is None else {name for name in names if name.startswith(f"quorum-{server}-")}


def is_alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
