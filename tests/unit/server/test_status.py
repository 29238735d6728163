# SPDX-License-Identifier: Apache-2.0
"""The status of a server whose repository was never rendered; of others in ``tests/e2e``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.deployment import set_state, write_deployment

from quorum.cli.console import adapters_text
from quorum.decision.cell import Parameters
from quorum.decision.kept import keep_attributes
from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.operations import status as operation
from quorum.operations.status import ServerStatus, status
from quorum.repository.render import render
from quorum.repository.state import RepositoryError
from quorum.repository.store import Store
from quorum.server.control import START_IT, ControlError
from quorum.server.incidents import LEFT_OPEN, IncidentJournal
from quorum.server.probe import Pulse
from quorum.server.runfile import leave_attempt


@contextmanager
def control(*_: object, **how: object) -> Iterator[Any]:
    yield SimpleNamespace(index=list, runs=lambda *_: True)


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "Control", control)
    monkeypatch.setattr(operation, "take_pulse", lambda spec, url, channel: Pulse(channel, False, None, 0.0))


def test_without_a_state_nothing_is_pinned_and_no_version_is_listed(tmp_path: Path) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))
    for rendered in (False, True):
        if rendered:
            render(spec)
            Store(spec.repository_path).state_path.unlink()
        found = status(spec)
        assert isinstance(found, ServerStatus)
        assert found.versions == {}
        assert [channel.pinned for channel in found.channels.values()] == [None, None]
        assert found.canary_share == 0.0
        assert {name: state.state for name, state in found.members.items()} == {
            "alpha": "UNAVAILABLE",
            "beta": "UNAVAILABLE",
        }


def test_members_name_their_adapters(tmp_path: Path) -> None:
    tuned = {
        "runtime": "hf",
        "options": {"model": "m", "lora": "a b", "adapters": {"size": "c", "color": "c"}},
    }
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "tuned": tuned}))
    found = status(spec)
    assert isinstance(found, ServerStatus)
    assert found.adapters == {"tuned": {"size": "c", "color": "c", "*": "a b"}}
    assert adapters_text(found.adapters["tuned"]) == "c: size, color; a b: all others"
    assert adapters_text({"*": "a b"}) == "a b"


def test_a_version_names_the_attributes_that_it_keeps(tmp_path: Path) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))
    render(spec)
    store = Store(spec.repository_path)
    heavy = Weights("em", ("alpha", "beta"), Parameters((2.0, 1.0)))
    store.add_version(2, keep_attributes(heavy, store.weights(1), ["size", "brand"]))
    set_state(spec, [1, 2])
    found = status(spec)
    assert isinstance(found, ServerStatus)
    assert {number: version.kept for number, version in found.versions.items()} == {
        1: (),
        2: ("brand", "size"),
    }
    assert found.versions[2].to_json()["kept"] == ["brand", "size"]


def test_a_state_that_is_damaged_is_named(tmp_path: Path) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))
    render(spec)
    Store(spec.repository_path).state_path.write_bytes(b"\xff")
    with pytest.raises(RepositoryError, match=r"state\.json"):
        status(spec)


def test_without_a_server_it_says_what_quorum_up_does_or_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **how: object) -> None:
        raise ControlError(f"list models: no server answers at 127.0.0.1:9{START_IT}")

    def said() -> str:
        with pytest.raises(ControlError) as refused:
            status(spec)
        return str(refused.value)

    monkeypatch.setattr(operation, "Control", refuse)
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    assert said().endswith(START_IT)
    leave_attempt(spec)
    assert f"at 127.0.0.1:9; `quorum up` (pid {os.getpid()}) is starting or stopping it" in said()
    journal = IncidentJournal(spec)
    journal.begin("was killed", "tritonserver 7", "restarting the server")
    journal.begin("was ended", "worker of alpha", "restarting it", worker="alpha")
    assert f"at 127.0.0.1:9; `quorum up` (pid {os.getpid()}) is at it: " in said()
    assert "tritonserver 7 was killed: restarting the server; not over" in said()
    leave_attempt(spec, "no memory")
    assert f"{START_IT}; the last `quorum up` has ended: no memory\nlast incidents:\n" in said()
    assert said().count(LEFT_OPEN) == 2
