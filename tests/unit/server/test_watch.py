# SPDX-License-Identifier: Apache-2.0
"""What the watch takes for dead; with real processes in ``tests/e2e/test_health.py``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.deployment import set_state, write_deployment

from quorum.decision.weights import equal_weights
from quorum.deployment import load_deployment
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.server import watch
from quorum.server.control import ControlError, ModelState
from quorum.server.endpoint import Endpoint
from quorum.server.watch import Watch
from quorum_contract import VOTE


class Server:
    """A server whose vote answers with the versions that it has a process of."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spec = load_deployment(write_deployment(folder, {"alpha": {}, "beta": {}}))
        render(self.spec)
        self.repository = self.spec.repository_path
        Store(self.repository).add_version(2, equal_weights(self.spec.member_names))
        # A publish was killed after it wrote the state, before the server was given the new version.
        set_state(self.spec, [1, 2])
        self.endpoint = Endpoint("127.0.0.1", 1, 2, 3, "key")
        self.alive = {1}
        self.index: list[ModelState] | None = [ModelState(VOTE, "1", "READY", "")]
        self.revived: list[str] = []
        self.reports: list[str] = []
        self.watch = Watch(self, self.reports.append, every_s=0)  # type: ignore[arg-type]
        monkeypatch.setattr(watch, "Control", self.control)
        monkeypatch.setattr(watch, "dead_models", self.dead)
        monkeypatch.setattr(watch, "revive", lambda control, store, model: self.revived.append(model))

    @contextmanager
    def control(self, url: str, key: str) -> Iterator[Any]:
        def index() -> list[ModelState]:
            if self.index is None:
                raise ControlError("no server answers")
            return self.index

        yield SimpleNamespace(index=index)

    def dead(self, spec: object, url: str, versions: Iterable[int]) -> dict[str, str]:
        return {} if {*versions} <= self.alive else {VOTE: "INTERNAL: no process"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(tmp_path, monkeypatch)


def test_a_version_that_the_server_was_never_given_is_not_revived(server: Server) -> None:
    for _ in range(4):
        server.watch.look()
    assert (server.revived, server.reports) == ([], [])


def test_a_version_that_the_server_had_is_revived(server: Server) -> None:
    server.index = [ModelState(VOTE, "1", "READY", ""), ModelState(VOTE, "2", "READY", "")]
    server.watch.look()
    assert server.revived == []
    server.watch.look()
    assert server.revived == [VOTE]


def test_a_version_that_is_being_loaded_is_left_alone(server: Server) -> None:
    server.index = [ModelState(VOTE, "1", "READY", ""), ModelState(VOTE, "2", "LOADING", "")]
    for _ in range(4):
        server.watch.look()
    assert server.revived == []


def test_a_server_that_does_not_say_what_it_has_is_taken_to_have_all(server: Server) -> None:
    server.index = None
    for _ in range(2):
        server.watch.look()
    assert server.revived == [VOTE]


def test_a_damaged_state_is_told_once(server: Server) -> None:
    path = Store(server.repository).state_path
    whole = path.read_bytes()
    path.write_bytes(b"\xff")
    for _ in range(3):
        server.watch.look()
    assert [report.split(":")[0] for report in server.reports] == ["not watching"]
    path.write_bytes(whole)
    server.watch.look()
    path.write_bytes(b"")
    server.watch.look()
    assert len(server.reports) == 2
