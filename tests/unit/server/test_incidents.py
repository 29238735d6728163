# SPDX-License-Identifier: Apache-2.0
"""The journal of incidents: bounded, readable at any time, and clear about what is not over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.deployment import write_deployment

from quorum.deployment import Deployment, load_deployment
from quorum.server import incidents
from quorum.server.incidents import FILE, KEPT, LEFT_OPEN, REMOVED, IncidentJournal, recent_incidents
from quorum.server.runfile import leave_attempt, remove_attempt, state_folder
from quorum.server.workers import WorkerWatch


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    leave_attempt(spec)
    return spec


def test_an_incident_is_one_line_from_its_begin_to_its_end(spec: Deployment) -> None:
    journal = IncidentJournal(spec)
    assert journal.end() is None
    journal.begin("has died", "alpha 12", "reloading it")
    (line,) = (state_folder(spec) / FILE).read_text("utf-8").splitlines()
    assert json.loads(line)["seconds"] is None
    (begun,) = recent_incidents(spec)
    assert not begun.is_over
    assert str(begun).endswith(" UTC alpha 12 has died: reloading it; not over")
    for _ in range(3):
        journal.begin("did not come back", "alpha", "restarting the server")
    journal.go_on("restarted the server, attempt 2")
    journal.end()
    (ended,) = recent_incidents(spec)
    assert ended.is_over
    assert ended.found == "has died, then alpha did not come back"
    assert ended.done == "restarted the server, attempt 2"
    assert journal.open is None
    journal.begin("has died", "alpha 13", "reloading it")
    assert len(recent_incidents(spec)) == 2
    assert (state_folder(spec) / FILE).stat().st_mode & 0o777 == 0o600


def test_what_a_supervisor_left_open_ended_with_it(spec: Deployment) -> None:
    IncidentJournal(spec).begin("has died", "alpha 12", "reloading it")
    assert not recent_incidents(spec)[-1].is_over
    remove_attempt(spec)
    (left,) = recent_incidents(spec)
    assert str(left).endswith("alpha 12 has died: reloading it; ended with its `quorum up`")
    leave_attempt(spec)
    assert recent_incidents(spec)[-1].left == LEFT_OPEN, "a later start, which has no journal yet"
    journal = IncidentJournal(spec)
    assert journal.open is None
    journal.begin("has died", "alpha 13", "reloading it")
    journal.end("reloaded it")
    lines = (state_folder(spec) / FILE).read_text("utf-8").splitlines()
    assert [(one["left"], one["seconds"] is None) for one in map(json.loads, lines)] == [
        (LEFT_OPEN, True),
        ("", False),
    ]
    assert "alpha 13 has died: reloaded it; every channel answered after" in str(recent_incidents(spec)[-1])


def test_a_worker_and_the_server_have_incidents_at_the_same_time(spec: Deployment) -> None:
    journal = IncidentJournal(spec)
    journal.begin("was killed", "tritonserver 7", "restarting the server")
    journal.begin("was ended", "worker of alpha", "restarting it", worker="alpha", lasted_s=5.0)
    journal.begin("did not start", "worker of alpha", "restarting it", worker="alpha")
    journal.go_on("restarted the server, attempt 1")
    assert journal.end() is not None
    server, worker = recent_incidents(spec)
    assert (server.done, server.kind, server.is_over) == ("restarted the server, attempt 1", "server", True)
    assert (worker.found, worker.kind, worker.times, worker.is_over) == ("did not start", "worker", 2, False)
    ended = journal.end("restarted it", worker="alpha")
    assert ended
    assert ended.seconds is not None
    assert ended.seconds >= 5.0
    assert "worker of alpha did not start (2 times): restarted it; it answered after" in str(ended)
    assert journal.end(worker="alpha") is None


def test_a_worker_that_is_lost_again_and_again_crowds_nothing_out(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = IncidentJournal(spec)
    journal.begin("was killed", "tritonserver 7", "restarting the server")
    journal.end()
    for _ in range(2 * KEPT):
        journal.begin("was ended", "worker of alpha", "restarting it", worker="alpha")
        journal.end("restarted it", worker="alpha")
    assert [(one.kind, one.times) for one in recent_incidents(spec)] == [("server", 1), ("worker", 2 * KEPT)]
    monkeypatch.setattr(incidents, "_AGAIN_S", 0.0)
    journal.begin("was ended", "worker of alpha", "restarting it", worker="alpha")
    assert len(recent_incidents(spec)) == 3


def test_the_journal_is_bounded_and_survives_damage(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT >= 100
    monkeypatch.setattr(incidents, "KEPT", 20)
    journal = IncidentJournal(spec)
    for pid in range(30):
        journal.begin("has died", f"alpha {pid}", "reloading it")
        journal.end()
    assert [incident.process for incident in recent_incidents(spec)] == [f"alpha {i}" for i in range(10, 30)]
    with (state_folder(spec) / FILE).open("ab") as file:
        file.write(b'{"at": 1}\n\xff\n' + b"[" * 100_000 + b"\n")
    assert len(recent_incidents(spec)) == 20


def test_one_incident_without_an_end_does_not_grow_for_ever(spec: Deployment) -> None:
    journal = IncidentJournal(spec)
    for port in range(1000):
        journal.begin(f"could not be reloaded: port {port}", "alpha", "restarting the server")
    assert len(str(recent_incidents(spec)[-1])) < 3000


def test_a_disk_without_room_does_not_end_the_supervision(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    journal = IncidentJournal(spec)
    monkeypatch.setattr(incidents, "write_atomic", full)
    journal.begin("has died", "alpha 12", "reloading it")
    monkeypatch.undo()
    journal.end()
    assert [incident.is_over for incident in recent_incidents(spec)] == [True]


def test_an_incident_of_a_worker_ends_with_its_member(spec: Deployment, tmp_path: Path) -> None:
    journal = IncidentJournal(spec)
    journal.begin("was ended", "worker of alpha", "restarting it", worker="alpha")
    (tmp_path / "alpha").mkdir()
    (tmp_path / "alpha" / "config.pbtxt").touch()

    def look() -> None:
        # Of this process, which has no workers.
        WorkerWatch(journal, lambda _: None, tmp_path).look(os.getpid())

    look()
    assert not recent_incidents(spec)[-1].is_over
    (tmp_path / "alpha" / "config.pbtxt").unlink()
    look()
    assert recent_incidents(spec)[-1].left == REMOVED
