# SPDX-License-Identifier: Apache-2.0
"""Follow the workers of a server's steps, and note in the journal when one is lost and when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from quorum.processes import SERVER_FOLDER
from quorum.repository.store import CONFIG_FILE
from quorum.runtimes.remote.note import RemoteState, remote_states
from quorum.server.incidents import REMOVED, IncidentJournal
from quorum.serving.isolation.state import WorkerState as WorkerState
from quorum.serving.isolation.state import worker_states

_LOOK_S = 1.0


def workers_of(server: int) -> dict[str, WorkerState]:
    """The workers of a server's steps, by model; empty if it is gone, or has none."""
    folder = _folder_of(server)
    return worker_states(folder) if folder else {}


def endpoints_of(server: int) -> dict[str, RemoteState]:
    """The endpoints of a server's remote members, by member; empty if it is gone, or has none."""
    folder = _folder_of(server)
    return remote_states(folder) if folder else {}


def _folder_of(server: int) -> Path | None:
    try:
        folder = psutil.Process(server).environ().get(SERVER_FOLDER)
    except psutil.Error:
        return None
    return Path(folder) if folder else None


class WorkerWatch:
    """Notes incidents of workers, once a second; their steps replace them without any help."""

    def __init__(self, journal: IncidentJournal, report: Callable[[str], None], repository: Path) -> None:
        self._journal, self._report, self._repository = journal, report, repository
        self._failures: dict[tuple[str, int], int] = {}
        self._looked_at = 0.0

    def look(self, server: int | None) -> None:
        """Look at the workers of a server, unless that was done less than a second ago."""
        now = time.monotonic()
        if server is None or now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        states = workers_of(server)
        for state in states.values():
            self._compare(state)
        for model in self._journal.lost_workers():
            # `quorum apply` removed it.
            if model not in states and not (self._repository / model / CONFIG_FILE).exists():
                self._journal.leave(model, REMOVED)
        self._failures = {(state.model, state.step): state.failures for state in states.values()}

    def _compare(self, state: WorkerState) -> None:
        worker = f"worker of {state.model}"
        times = state.failures - self._failures.get((state.model, state.step), 0)
        if times > 0:
            lasted_s = max(0.0, time.time() - (state.failed_at if state.ready else state.since))
            self._journal.begin(
                state.why, worker, "restarting it", worker=state.model, lasted_s=lasted_s, times=times
            )
            self._report(f"{worker} {state.reason}; its step restarts it")
        if state.ready and (incident := self._journal.end("restarted it", worker=state.model)):
            self._report(f"{worker} answers again after {incident.seconds:.1f} s")
