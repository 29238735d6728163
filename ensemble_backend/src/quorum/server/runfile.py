# SPDX-License-Identifier: Apache-2.0
"""Record a running server for other commands: its process, its addresses and its admin key."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from quorum.deployment.schema import Deployment
from quorum.files import write_atomic
from quorum.processes import ZOMBIE, stat_of
from quorum.server.endpoint import ADMIN_KEY_VARIABLE, Endpoint

STATE_FOLDER = ".quorum"
_FILE = "server.json"
_ATTEMPT_FILE = "up.json"
_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that was started from this deployment.

    Attributes:
        pid: The tritonserver process.
        started: Its start (:func:`start_of`): process ids are reused.
        repository: The model repository that it serves.
        endpoint: Its addresses and key.
        settings: The section ``server`` that it was started with; None: an earlier release's record.
        gateway: The section ``gateway`` then, empty without one; None: an earlier release's record.
    """

    pid: int
    started: str
    repository: Path
    endpoint: Endpoint
    settings: dict[str, Any] | None = None
    gateway: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A process that began to serve this deployment and has not stopped cleanly.

    Attributes:
        pid: The process that supervises the server.
        started: Its start (:func:`start_of`).
        at: When it began, or when it failed; seconds since the epoch.
        failed: Why it ended; ``None`` while it lives, and when it was killed.
        repository: The model repository, if it is not the deployment's own.
    """

    pid: int
    started: str
    at: float
    failed: str | None = None
    repository: Path | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs and has not failed."""
        return self.failed is None and _runs(self.pid, self.started)


def leave_attempt(spec: Deployment, failed: str | None = None, repository: Path | None = None) -> None:
    """Record that this process begins to serve, or that it failed to."""
    served = repository and repository.resolve()
    _write(spec, _ATTEMPT_FILE, Attempt(os.getpid(), start_of(os.getpid()), time.time(), failed, served))


def remove_attempt(spec: Deployment) -> None:
    """Remove the record of :func:`leave_attempt`: the server stopped cleanly."""
    (state_folder(spec) / _ATTEMPT_FILE).unlink(missing_ok=True)


def last_attempt(spec: Deployment) -> Attempt | None:
    """The last attempt to serve this deployment from this machine, unless it stopped cleanly."""
    return _read(spec, _ATTEMPT_FILE, Attempt)


def state_folder(spec: Deployment) -> Path:
    """The folder next to ``deploy.yaml`` for what belongs to this machine: logs, keys, records."""
    return spec.root / STATE_FOLDER


def leave_note(spec: Deployment, running: Running) -> Path:
    """Write the record, readable by its owner only."""
    return _write(spec, _FILE, running)


def remove_note(spec: Deployment) -> None:
    """Remove the record."""
    (state_folder(spec) / _FILE).unlink(missing_ok=True)


def find_running(spec: Deployment) -> Running | None:
    """The server of this deployment on this machine, if one is alive."""
    running = _read(spec, _FILE, Running)
    return running if running and _runs(running.pid, running.started) else None


def gateway_section(spec: Deployment) -> dict[str, Any]:
    """The section ``gateway`` as :class:`Running` holds it."""
    return spec.gateway.model_dump(mode="json") if spec.gateway else {}


def _write(spec: Deployment, name: str, record: Running | Attempt) -> Path:
    path = state_folder(spec) / name
    text = json.dumps(msgspec.to_builtins(record, enc_hook=str), indent=2)
    write_atomic(path, text + "\n", mode=0o600)
    return path


def _read(spec: Deployment, name: str, kind: type[_Record]) -> _Record | None:
    try:
        raw = (state_folder(spec) / name).read_bytes()
        return msgspec.json.decode(raw, type=kind, dec_hook=lambda wanted, value: wanted(value))
    except (OSError, ValueError, RecursionError):
        return None


def _runs(pid: int, started: str) -> bool:
    try:
        return start_of(pid) == started
    except OSError:
        return False


def start_of(pid: int) -> str:
    """Boot id and start tick of a process, unique among all processes.

    psutil's ``create_time()`` is wall-clock time: a clock step would make a running server look like another.
    A process that is gone, or a zombie, is an OSError.
    """
    stat = stat_of(pid)
    if stat is None or stat.state == ZOMBIE:
        raise ProcessLookupError(f"process {pid} is dead")
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{stat.started}"


def endpoint_of(spec: Deployment) -> Endpoint:
    """Where the deployment is served: by a local server's record, else by ``deploy.yaml``.

    A server that is being restarted has no process, and comes back at the addresses of its record.
    """
    running, attempt = _read(spec, _FILE, Running), last_attempt(spec)
    if running and (_runs(running.pid, running.started) or (attempt and attempt.is_alive)):
        return running.endpoint
    s = spec.server
    http_port = s.http_port if s.http else None
    return Endpoint(s.host, s.grpc_port, http_port, s.metrics_port, os.environ.get(ADMIN_KEY_VARIABLE, ""))
