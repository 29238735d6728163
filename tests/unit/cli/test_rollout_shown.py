# SPDX-License-Identifier: Apache-2.0
"""What `quorum history` and `promote` tell people, in a narrow terminal too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.loading_server import Server, weights

import quorum
from quorum.cli import console
from quorum.cli.rollout import moved
from quorum.deployment import Deployment, load_deployment
from quorum.operations.servers import store_of
from quorum.repository.history import Event, History
from quorum.repository.render import render
from quorum.rollout.channels import Rollout
from quorum_contract import STABLE

WHY = "probe of quorum failed: 127.0.0.1:8001: StatusCode.UNAVAILABLE: the member demo-qwen2 did not answer"


@pytest.fixture
def spec(folder: Path) -> Deployment:
    spec = load_deployment(folder / "deploy.yaml")
    render(spec)
    return spec


def event(action: str, version: int, **more: Any) -> Event:
    return Event(
        "2026-11-30T12:00:00.123456+00:00",
        action,
        version,
        more.pop("before", None),
        "",
        who="a-long-account-name",
        **more,
    )


def test_history_can_be_read_at_80_columns(
    spec: Deployment, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "_width", 80)
    log = History(store_of(spec).path)
    log.append(event("canary", 12, before=11, reason="12.5 % of the products"))
    log.append(event("promote", 12, before=11, outcome=f"undone: {WHY}"))
    log.append(event("publish", 3, model="quorum_retriever"))
    code, out, err = run("history")
    assert code == 0, err
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    began = "2026-11-30 12:00:00  a-long-account-name "
    assert [line for line in lines if not line.startswith("    ")][1:] == [
        f"{began} canary 12 (before: 11)",
        f"{began} promote 12 (before: 11)",
        f"{began} publish retriever 3",
    ]
    assert "    12.5 % of the products" in map(str.rstrip, lines)
    # Whole words, each text beside nothing else.
    assert f"undone: {WHY}" in " ".join(out.split())


def test_promote_says_what_becomes_of_the_canary(spec: Deployment) -> None:
    server = Server(store_of(spec))
    rollout = Rollout(spec, server, server.probe)
    for heavy in (2.0, 3.0):
        rollout.publish(weights(spec, heavy))
    rollout.canary(2, 0.05)
    other, same = rollout.promote(3), rollout.promote(2)
    assert "The canary goes on: 5 % of the products get version 2; `quorum canary off`" in moved(
        STABLE, other
    )
    assert "same version now and goes on for 5 % of the products; `quorum canary off`" in moved(STABLE, same)
    rollout.end_canary()
    assert "canary" not in moved(STABLE, rollout.promote(3))
    assert isinstance(same, quorum.Change)
    assert same.canary_share == 0.05
