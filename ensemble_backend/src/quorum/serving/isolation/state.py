# SPDX-License-Identifier: Apache-2.0
"""What a step notes about its worker for other processes: whether it answers, and why it did not.

One small file for each step, in the server's folder (:data:`quorum.processes.SERVER_FOLDER`), if it has one.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from quorum.files import write_atomic
from quorum.processes import SERVER_FOLDER, runs
from quorum.records import Record

_FILES = "worker-*.json"
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class WorkerState(Record):
    """The worker of one step; times are seconds since the epoch.

    Attributes:
        model: The Triton model.
        step: Process of the step.
        ready: Whether the worker answers.
        since: Since when it answers, or does not.
        failures: How often one ended since the step started; each was, or will be, replaced.
        failed_at: When the last one ended; 0 if none did.
        cause: Why the last one that had answered ended.
        reason: Why the last one ended, which may never have answered.
        next_start: When the next one starts, or started.
    """

    model: str
    step: int
    ready: bool
    since: float
    failures: int = 0
    failed_at: float = 0.0
    cause: str = ""
    reason: str = ""
    next_start: float = 0.0

    @property
    def why(self) -> str:
        """Why it does not answer, or did not: what it began with, and what came last."""
        # A worker that never answered has no cause.
        return f"{self.cause}, then {self.reason}" if self.cause not in ("", self.reason) else self.reason


class StateNote:
    """Writes the state of the worker of one model; without a folder, and on a full disk, nowhere."""

    def __init__(self, model: str) -> None:
        folder = os.environ.get(SERVER_FOLDER)
        self._folder = Path(folder) if folder else None
        self._state = WorkerState(model, os.getpid(), False, time.time())

    def ready(self) -> None:
        """Note that the worker answers."""
        self._write(replace(self._state, ready=True, since=time.time()))

    def lost(self, reason: str, pause_s: float) -> None:
        """Note that the worker ended, and that the next one starts after a pause."""
        now, last = time.time(), self._state
        self._write(
            replace(
                last,
                ready=False,
                since=now if last.ready else last.since,
                failures=last.failures + 1,
                failed_at=now,
                cause=reason[:_LONGEST] if last.ready else last.cause,
                reason=reason[:_LONGEST],
                next_start=now + pause_s,
            )
        )

    def _write(self, state: WorkerState) -> None:
        self._state = state
        if self._folder is None or not self._folder.is_dir():
            return
        with suppress(OSError):
            path = self._folder / f"worker-{state.model}.{state.step}.json"
            write_atomic(path, json.dumps(asdict(state)), mode=0o600)


def worker_states(folder: Path) -> dict[str, WorkerState]:
    """The workers of the steps that live, by model; of two steps during a reload, the one that answers."""
    found: dict[str, WorkerState] = {}
    for path in sorted(folder.glob(_FILES)):
        with suppress(OSError, ValueError):
            state = msgspec.json.decode(path.read_bytes(), type=WorkerState)
            known = found.get(state.model)
            if runs(state.step) and not (known and known.ready):
                found[state.model] = state
    return found
