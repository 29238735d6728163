# SPDX-License-Identifier: Apache-2.0
"""Which models lack a process when one has ended: what Triton unloads, or still loads, lacks none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from quorum.processes import GONE
from quorum.server import reload
from quorum.server.control import ControlError, ModelState
from quorum.server.reload import missing_models
from quorum.server.steps import DeadStep
from quorum_contract import GATE, VOTE

SERVER: Any = SimpleNamespace(
    endpoint=SimpleNamespace(grpc_url="host:1", admin_key="key"),
    steps={GATE, "alpha", VOTE},
)


def missing(
    monkeypatch: pytest.MonkeyPatch,
    dead: DeadStep,
    states: dict[str, list[str]] | None,
    working: dict[str, int],
) -> list[str]:
    """``states``: model -> Triton's states of its versions; None: Triton does not say."""

    @contextmanager
    def control(*_: object) -> Iterator[Any]:
        def index() -> list[ModelState]:
            if states is None:
                raise ControlError("no answer")
            return [
                ModelState(m, f"{i}", state, "") for m, all_ in states.items() for i, state in enumerate(all_)
            ]

        yield SimpleNamespace(index=index)

    monkeypatch.setattr(reload, "Control", control)
    steps: Any = SimpleNamespace(working=lambda model: working.get(model, 0))
    return missing_models(SERVER, steps, dead)


@pytest.mark.parametrize("state", ["Z", GONE])
def test_a_ready_version_without_a_process_is_missing(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    dead = DeadStep(7, VOTE, state)
    assert missing(monkeypatch, dead, {VOTE: ["READY", "READY"]}, {VOTE: 1}) == [VOTE]
    assert missing(monkeypatch, dead, {VOTE: ["READY", "READY"]}, {VOTE: 2}) == [], "it was reloaded"


@pytest.mark.parametrize("state", ["UNAVAILABLE", "UNLOADING", "LOADING"])
def test_a_process_that_ended_with_its_version_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    assert missing(monkeypatch, DeadStep(7, VOTE, GONE), {VOTE: ["READY", state]}, {VOTE: 1}) == []


def test_the_model_of_an_unknown_zombie_is_found_by_what_lacks_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = {GATE: ["READY"], "alpha": ["READY"], VOTE: ["READY"], "quorum": ["READY"]}
    assert missing(monkeypatch, DeadStep(7, "", "Z"), states, {GATE: 1, VOTE: 1}) == ["alpha"]


def test_without_triton_a_zombie_is_dead_and_a_process_that_is_gone_may_not_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [missing(monkeypatch, DeadStep(7, "alpha", state), None, {}) for state in ("Z", GONE)]
    assert found == [["alpha"], []]
