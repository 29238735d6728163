# SPDX-License-Identifier: Apache-2.0
"""What a restart does with a repository that another process changes, or that is damaged."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from support.deployment import write_deployment

from quorum.deployment import Deployment, load_deployment
from quorum.repository.render import render
from quorum.repository.store import CONFIG_FILE, Store
from quorum.rollout.apply_journal import ApplyJournal
from quorum.rollout.lock import locked
from quorum.server import prepare
from quorum.server.prepare import prepare_again
from quorum.serving.copies import copy_of


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    render(spec)
    return spec


def test_a_rollout_that_runs_is_waited_for_and_then_gone_past(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    store = Store(spec.repository_path)
    store.pending_path.write_text("{ damaged", encoding="utf-8")
    monkeypatch.setattr(prepare, "_ROLLOUT_S", 0.3)
    with locked(store.path):
        prepare_again(spec, store.path, reports.append)
    assert "another rollout is running" in reports[0]
    assert store.pending_path.exists(), "it belongs to the rollout that runs"
    monkeypatch.setattr(prepare, "_ROLLOUT_S", 30.0)
    reports.clear()
    held = threading.Event()

    def hold() -> None:
        with locked(store.path):
            held.set()
            time.sleep(0.3)

    rollout = threading.Thread(target=hold)
    rollout.start()
    assert held.wait(30)
    prepare_again(spec, store.path, reports.append)
    rollout.join()
    assert not store.pending_path.exists()
    assert ["was set aside as" in report for report in reports] == [True]


def test_a_damaged_state_does_not_keep_a_server_from_its_restart(spec: Deployment) -> None:
    """Triton needs the configurations only."""
    reports: list[str] = []
    Store(spec.repository_path).state_path.write_text("{ damaged", encoding="utf-8")
    prepare_again(spec, spec.repository_path, reports.append)
    assert len(reports) == 1
    assert "state.json" in reports[0]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_damaged_journal_of_an_apply_does_not_keep_a_server_from_its_start(
    spec: Deployment, is_first: bool
) -> None:
    reports: list[str] = []
    store = Store(spec.repository_path)
    journal, copy = ApplyJournal(store), store.path / copy_of("quorum_vote")
    journal.path.write_text('{"step": ', encoding="utf-8")
    copy.mkdir()
    (copy / CONFIG_FILE).touch()
    start = prepare.prepare if is_first else prepare_again
    start(spec, store.path, reports.append)
    assert len(reports) == 1
    assert "was set aside as" in reports[0]
    assert "truncated" in reports[0]
    assert not journal.path.exists()
    assert len([*store.path.glob("apply.pending.damaged-*.json")]) == 1
    assert copy.exists() is not is_first, "a channel of a server that runs may ask it"
