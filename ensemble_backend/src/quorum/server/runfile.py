# SPDX-License-Identifier: Apache-2.0
"""The note that a running server leaves for other commands: where it listens and how to administer it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from quorum.repository.store import write_atomic
from quorum.server.triton import ADMIN_KEY_VARIABLE, Endpoint
from quorum.spec.model import Deployment

STATE_FOLDER = ".quorum"
_FILE = "server.json"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that was started from this deployment.

    Attributes:
        pid: The tritonserver process.
        repository: The model repository that it serves.
        endpoint: Where it listens.
    """

    pid: int
    repository: Path
    endpoint: Endpoint


def state_folder(spec: Deployment) -> Path:
    """Logs, keys and other things that belong to this machine, beside ``deploy.yaml``."""
    return spec.root / STATE_FOLDER


def leave_note(spec: Deployment, running: Running) -> Path:
    """Write the note; only its owner can read it, since it holds the admin key."""
    path = state_folder(spec) / _FILE
    data = {"pid": running.pid, "repository": str(running.repository), "endpoint": asdict(running.endpoint)}
    write_atomic(path, json.dumps(data, indent=2) + "\n", mode=0o600)
    return path


def remove_note(spec: Deployment) -> None:
    """Take the note back."""
    (state_folder(spec) / _FILE).unlink(missing_ok=True)


def find_running(spec: Deployment) -> Running | None:
    """The server of this deployment on this machine, if one is alive."""
    try:
        data = json.loads((state_folder(spec) / _FILE).read_text("utf-8"))
        running = Running(int(data["pid"]), Path(data["repository"]), Endpoint(**data["endpoint"]))
        os.kill(running.pid, 0)
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return running


def endpoint_of(spec: Deployment) -> Endpoint:
    """Where the deployment is served: by the note of a local server, else as ``deploy.yaml`` says."""
    running = find_running(spec)
    if running:
        return running.endpoint
    s = spec.server
    return Endpoint(s.host, s.grpc_port, s.http_port, s.metrics_port, os.environ.get(ADMIN_KEY_VARIABLE, ""))
