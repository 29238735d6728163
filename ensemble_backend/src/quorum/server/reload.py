# SPDX-License-Identifier: Apache-2.0
"""Reload the model of a step whose process died, without waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from quorum.processes import GONE, end_processes
from quorum.repository.store import Store
from quorum.server.control import Control, ControlError
from quorum.server.steps import DeadStep, StepWatch
from quorum.server.triton import TritonServer
from quorum.serving.admission import Recovery

_INDEX_S = 1.0


def revive(control: Control, store: Store, model: str) -> None:
    """Reload a model in a new process; raises ControlError when the load fails."""
    # Triton skips a load when nothing changed, and keeps the dead process when only the configuration did.
    store.touch(model)
    control.load(model)


class Reload:
    """A reload that runs in a thread: a load can take minutes, and may never return."""

    def __init__(self, server: TritonServer, model: str, timeout_s: float, orphans: Sequence[int]) -> None:
        self._server, self._model, self._timeout_s = server, model, timeout_s
        self._orphans = orphans
        self._began = time.monotonic()
        self.took_s: float | None = None
        self.error = ""
        self.working = StepWatch(server.pid or 0).working(model)
        threading.Thread(target=self._run, name=f"quorum-reload-{model}", daemon=True).start()

    @property
    def seconds(self) -> float:
        """Time since it began."""
        return time.monotonic() - self._began

    def _run(self) -> None:
        endpoint = self._server.endpoint
        try:
            end_processes(self._orphans)
            self._server.set_recovery(Recovery.RELOAD)
            with Control(endpoint.grpc_url, endpoint.admin_key, self._timeout_s) as control:
                revive(control, Store(self._server.repository), self._model)
        except (ControlError, OSError) as error:
            self.error = str(error).partition("\n")[0]
        else:
            self.took_s = self.seconds


def missing_models(server: TritonServer, steps: StepWatch, dead: DeadStep) -> list[str]:
    """The models that lack a process now that a step is dead; none if it ended in order, as when unloaded."""
    endpoint = server.endpoint
    try:
        with Control(endpoint.grpc_url, endpoint.admin_key, _INDEX_S) as control:
            index = control.index()
    except ControlError:
        # A process that is gone may have been unloaded; silence will show whether it was.
        return [] if dead.state == GONE or not dead.model else [dead.model]
    ready = [m.name for m in index if m.state == "READY"]
    own = [dead.model] if dead.model else sorted(server.steps & {*ready})
    return [model for model in own if steps.working(model) < ready.count(model)]
