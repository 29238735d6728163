# SPDX-License-Identifier: Apache-2.0
"""A worker that is lost shows in `quorum status`, in the journal and in the lines of `quorum up`."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support.command import quorum, quorum_json
from support.deployment import write_deployment
from support.supervised import Supervised, supervised, until

from quorum.server.incidents import Incident
from quorum.server.runfile import find_running
from quorum.serving.isolation import program

MEMBERS: dict[str, Any] = {"frail": {"options": {"isolated": True}}, "sound": {}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    folder = tmp_path_factory.mktemp("workers")
    write_deployment(folder, MEMBERS)
    with supervised(folder) as up:
        yield up


def kill_worker(served: Supervised) -> int:
    (worker,) = (
        process
        for process in psutil.Process(served.running.pid).children(recursive=True)
        if program.__name__ in process.cmdline()
    )
    worker.send_signal(signal.SIGKILL)
    return worker.pid


def last(served: Supervised) -> Incident:
    return until(lambda: [i for i in served.incidents() if i.kind == "worker"])[-1]  # type: ignore[no-any-return]


def test_a_worker_that_cannot_come_back_is_down_until_it_does(served: Supervised) -> None:
    assert quorum_json(served.folder, "status")["members"]["frail"]["state"] == "READY"
    votes = served.folder / "votes.jsonl"
    kept, before = votes.read_bytes(), time.time()
    votes.write_bytes(b"no votes\n")
    try:
        pid = kill_worker(served)
        shown = until(
            lambda: (s := quorum_json(served.folder, "status"))["workers"]["frail"]["failures"] > 1 and s
        )
        frail = shown["members"]["frail"]
        assert frail["state"] == "DOWN"
        assert f"its worker (pid {pid}) was ended by SIGKILL, then did not start: " in frail["reason"]
        assert "votes.jsonl" in frail["reason"]
        assert " UTC: " in frail["reason"]
        assert "(restart " in frail["reason"]
        assert not shown["workers"]["frail"]["ready"]
        assert before <= shown["workers"]["frail"]["since"] <= time.time()
        assert shown["members"]["sound"]["state"] == "READY"
        out, _ = quorum(served.folder, "status")
        assert "DOWN" in out
        assert not last(served).is_over
    finally:
        votes.write_bytes(kept)
    incident = until(lambda: last(served).is_over and last(served), 60)
    assert incident.process == "worker of frail"
    assert incident.done == "restarted it"
    assert f"(pid {pid}) was ended by SIGKILL, then did not start" in incident.found
    assert incident.times > 1
    assert incident.seconds > 0
    frail = quorum_json(served.folder, "status")["members"]["frail"]
    assert frail["state"] == "READY"
    assert f"was lost {incident.times} times" in frail["reason"]


def test_a_worker_that_is_lost_again_at_once_belongs_to_its_incident(served: Supervised) -> None:
    until(lambda: last(served).is_over)
    incident, count = last(served), len(served.incidents())
    pid = kill_worker(served)
    until(lambda: last(served).is_over and last(served).times == incident.times + 1, 60)
    assert len(served.incidents()) == count
    assert f"(pid {pid}) was ended by SIGKILL" in last(served).found


def test_up_reports_it_with_the_time_and_status_says_that_up_was_killed(served: Supervised) -> None:
    served.process.kill()
    _, err = served.process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if "worker of frail" in line]
    assert any("answers again after" in line for line in lines)
    assert all(" UTC worker of frail " in line for line in lines)
    until(lambda: find_running(served.spec) is None)
    _, err = quorum(served.folder, "status", code=1)
    assert "start it with `quorum up`" in err
    assert f"it was killed (pid {served.process.pid})" in err
    assert last(served).found in err
