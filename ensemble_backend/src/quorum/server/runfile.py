# SPDX-License-Identifier: Apache-2.0
"""The note that a running server leaves for other commands: where it listens and how to administer it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.files import write_atomic
from quorum.server.triton import ADMIN_KEY_VARIABLE, Endpoint

STATE_FOLDER = ".quorum"
_FILE = "server.json"
_ATTEMPT_FILE = "up.json"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that was started from this deployment.

    Attributes:
        pid: The tritonserver process.
        started: When that process started (:func:`start_of`): process ids are given again.
        repository: The model repository that it serves.
        endpoint: Where it listens.
    """

    pid: int
    started: str
    repository: Path
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody began to serve this deployment, and did not stop in order since.

    Attributes:
        pid: The process that supervises the server.
        started: When that process started (:func:`start_of`).
        at: When it began, or when it failed; seconds since the epoch.
        failed: Why it ended; ``None`` while it lives, and when it was killed.
    """

    pid: int
    started: str
    at: float
    failed: str | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it may still come to something."""
        try:
            return self.failed is None and start_of(self.pid) == self.started
        except OSError:
            return False


def leave_attempt(spec: Deployment, failed: str | None = None) -> None:
    """Note that this process begins to serve, or that it failed to."""
    attempt = Attempt(os.getpid(), start_of(os.getpid()), time.time(), failed)
    write_atomic(state_folder(spec) / _ATTEMPT_FILE, json.dumps(asdict(attempt)) + "\n", mode=0o600)


def remove_attempt(spec: Deployment) -> None:
    """Take the note of :func:`leave_attempt` back: the server stopped in order."""
    (state_folder(spec) / _ATTEMPT_FILE).unlink(missing_ok=True)


def last_attempt(spec: Deployment) -> Attempt | None:
    """Who last began to serve this deployment from this machine, unless it stopped in order."""
    try:
        return Attempt(**json.loads((state_folder(spec) / _ATTEMPT_FILE).read_text("utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def state_folder(spec: Deployment) -> Path:
    """Logs, keys and other things that belong to this machine, beside ``deploy.yaml``."""
    return spec.root / STATE_FOLDER


def leave_note(spec: Deployment, running: Running) -> Path:
    """Write the note, for its owner's eyes."""
    path = state_folder(spec) / _FILE
    data = {
        "pid": running.pid,
        "started": running.started,
        "repository": str(running.repository),
        "endpoint": asdict(running.endpoint),
    }
    write_atomic(path, json.dumps(data, indent=2) + "\n", mode=0o600)
    return path


def remove_note(spec: Deployment) -> None:
    """Take the note back."""
    (state_folder(spec) / _FILE).unlink(missing_ok=True)


def find_running(spec: Deployment) -> Running | None:
    """The server of this deployment on this machine, if one is alive."""
    try:
        data = json.loads((state_folder(spec) / _FILE).read_text("utf-8"))
        running = Running(
            int(data["pid"]), data["started"], Path(data["repository"]), Endpoint(**data["endpoint"])
        )
        return running if start_of(running.pid) == running.started else None
    except (OSError, KeyError, TypeError, ValueError):
        return None


def start_of(pid: int) -> str:
    """Boot and tick at which a process started: no other process ever has both.

    Not psutil's ``create_time()``: that is of the wall clock, and a step of that clock would make a living
    server look like another one.

    Raises:
        OSError: There is no such process, or it is dead and only waits to be collected.
    """
    after_name = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    if after_name[0] == "Z":
        raise ProcessLookupError(f"process {pid} is dead")
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{after_name[19]}"


def endpoint_of(spec: Deployment) -> Endpoint:
    """Where the deployment is served: by the note of a local server, else as ``deploy.yaml`` says."""
    running = find_running(spec)
    if running:
        return running.endpoint
    s = spec.server
    return Endpoint(s.host, s.grpc_port, s.http_port, s.metrics_port, os.environ.get(ADMIN_KEY_VARIABLE, ""))
