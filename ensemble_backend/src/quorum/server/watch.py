# SPDX-License-Identifier: Apache-2.0
"""Watch a running server and reload models whose process died."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from quorum.repository.state import RepositoryError
from quorum.repository.store import Store
from quorum.server.control import Control, ControlError, ModelState
from quorum.server.health import dead_models, revive
from quorum.server.triton import TritonServer
from quorum_contract import VOTE


class Watch:
    """Reloads dead models of one server, and calls ``report`` with each finding and action."""

    def __init__(self, server: TritonServer, report: Callable[[str], None], every_s: float = 5.0) -> None:
        self._server = server
        self._report = report
        self._every_s = every_s
        self._next = time.monotonic() + every_s
        self._suspects: set[str] = set()
        self._damaged = False

    def look(self) -> None:
        """Check now if it is time; a model found dead twice in a row is reloaded."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_s
        store = Store(self._server.repository)
        endpoint = self._server.endpoint
        try:
            versions = store.state().versions
        except RepositoryError as error:
            # The server keeps answering from what it loaded.
            if not self._damaged:
                self._report(f"not watching: {error}")
            self._damaged = True
            return
        self._damaged = False
        with Control(endpoint.grpc_url, endpoint.admin_key) as control:
            dead = dead_models(self._server.spec, endpoint.grpc_url, _tried(control, versions))
            busy = _under_way(control) if dead else set()
            for model, symptom in dead.items():
                if model in self._suspects - busy:
                    self._revive(control, store, model, symptom)
        self._suspects = dead.keys() - busy
        self._next = time.monotonic() + self._every_s

    def _revive(self, control: Control, store: Store, model: str, symptom: str) -> None:
        self._report(f"{model} is dead ({symptom.splitlines()[0]}); giving it a new process")
        try:
            revive(control, store, model)
        except (ControlError, OSError) as error:
            self._report(f"{model} did not come back: {error}")
        else:
            self._report(f"{model} is back")


def _index(control: Control) -> list[ModelState]:
    """The models that the server knows; empty when it does not say."""
    try:
        return control.index()
    except ControlError:
        return []


def _tried(control: Control, versions: Sequence[int]) -> list[int]:
    """The versions of the vote that the server has tried to load.

    An interrupted publish can leave one in the state that the server was never given.
    """
    index = _index(control)
    tried = {m.version for m in index if m.name == VOTE}
    return [version for version in versions if str(version) in tried or not index]


def _under_way(control: Control) -> set[str]:
    """Models that are being loaded or unloaded: their errors mean nothing now."""
    return {m.name for m in _index(control) if m.state in ("LOADING", "UNLOADING")}


def keep_watching(server: TritonServer, report: Callable[[str], None], poll_s: float = 0.5) -> NoReturn:
    """Watch a server until it stops; the ServerProcessError then holds the last log lines."""
    watch = Watch(server, report)
    while server.pid is not None:
        time.sleep(poll_s)
        watch.look()
    raise server.failure("stopped by itself")
