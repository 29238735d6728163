# SPDX-License-Identifier: Apache-2.0
"""``quorum up`` brings its server back from every fault, while callers go on asking.

``QUORUM_LONG=1`` strikes every part at every rate, also two at once, and a server without a CPU of its own.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import quorum, quorum_json
from support.deployment import ATTRIBUTES, running, title, write_deployment
from support.open_loop import open_loop
from support.supervised import Supervised, supervised, until
from support.traces import listening, prefix_of_process, session_processes

from quorum.repository.store import PENDING_FILE
from quorum.server import watch
from quorum.server.heartbeat import Heartbeat
from quorum.server.incidents import recent_incidents
from quorum.server.launch import most_open_files
from quorum.server.probe import take_pulse
from quorum.server.runfile import find_running, state_folder
from quorum.serving.shared_file import ADMISSION, shared_path
from quorum_client import Client, Status

LONG = bool(os.environ.get("QUORUM_LONG"))
MEMBERS = {"alpha": {"options": {"latency_ms": 50, "latency_shape": "constant"}}, "beta": {}}
BACK_S = 60.0
"""A limit for machines that do much else meanwhile."""
FAULTS = [
    ("server", signal.SIGKILL),
    ("server", signal.SIGSTOP),
    ("beta", signal.SIGKILL),
    ("quorum_gate", signal.SIGKILL),
    ("quorum_vote", signal.SIGKILL),
    ("beta", signal.SIGSTOP),
]
MORE_FAULTS = [
    ("quorum_gate", signal.SIGSTOP),
    ("quorum_vote", signal.SIGSTOP),
    ("alpha+beta", signal.SIGKILL),
    ("quorum_gate+quorum_vote", signal.SIGKILL),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    folder = tmp_path_factory.mktemp("supervised")
    write_deployment(folder, MEMBERS)
    with supervised(folder) as up:
        yield up


@pytest.mark.parametrize("per_s", [0.5, 2, 40] if LONG else [40])
@pytest.mark.parametrize(("what", "number"), FAULTS + MORE_FAULTS * LONG, ids=str)
def test_callers_are_answered_again(
    served: Supervised,
    what: str,
    number: signal.Signals,
    per_s: float,
    record_property: Callable[[str, object], None],
) -> None:
    before, endpoint, pid = len(served.incidents()), served.running.endpoint, served.running.pid
    with open_loop(endpoint.grpc_url, per_s) as loop:
        until(lambda: any(not error for _, _, error in loop.replies))
        at = served.strike(what, number)
        answered = loop.wait_answered(at, BACK_S)
        incident = served.wait_over(before, BACK_S)
        # Nothing that the fault left behind lets later questions fail.
        settled = time.monotonic()
        until(lambda: sum(sent > settled for sent, _, _ in loop.replies) >= min(per_s, 5), BACK_S)
    assert loop.failed_after(settled) == {}
    record_property("seconds", f"{what} {number.name} {per_s}/s: {answered:.2f}; {incident}")
    assert incident.process.split()[0] in ("tritonserver", *what.split("+"))
    assert served.running.endpoint == endpoint
    if "restart" in incident.done:
        until(lambda: session_processes(pid) == set())
        assert served.running.pid != pid


def test_up_may_open_as_many_files_as_its_server(served: Supervised) -> None:
    soft, _ = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
    assert soft == most_open_files()


def test_the_last_incidents_are_shown(served: Supervised) -> None:
    shown = quorum_json(served.folder, "status")["incidents"]
    assert [i["found"] for i in shown] == [i.found for i in served.incidents()]
    assert all(i["seconds"] > 0 and i["done"] and i["at"] for i in shown)
    assert served.incidents()[-1].found in quorum(served.folder, "status")[1]


def test_steps_that_refuse_the_tickets_of_a_reloaded_gate_are_restarted(served: Supervised) -> None:
    """A new gate makes another secret where somebody has removed the file of tickets."""
    # A server that starts has no such file yet.
    until(lambda: take_pulse(served.spec, served.running.endpoint.grpc_url, "quorum").ready, BACK_S)
    before, pid, url = len(served.incidents()), served.running.pid, served.running.endpoint.grpc_url
    shared_path(prefix_of_process(pid).rstrip("_"), ADMISSION).unlink()
    served.strike("quorum_gate", signal.SIGKILL)
    until(lambda: served.running.pid != pid, BACK_S)
    assert "restart" in served.wait_over(before, BACK_S).done
    with Client(url) as client:
        votes = client.extract(title(0), list(ATTRIBUTES)).answers[0].votes
    assert Status.REFUSED not in [vote.status for vote in votes]


def test_a_server_that_ends_again_and_again_is_not_live_and_comes_back(served: Supervised) -> None:
    before, repository = len(served.incidents()), served.running.repository
    assert served.live() == 200
    (repository / PENDING_FILE).write_bytes(b"{ damaged")
    config = repository / "beta" / "config.pbtxt"
    shutil.move(config, served.folder / "moved.pbtxt")
    try:
        served.strike("server", signal.SIGKILL)
        until(lambda: served.live() == 503, BACK_S)
        assert "attempt 2" in served.incidents()[-1].done
        assert not served.incidents()[-1].is_over
        assert served.process.poll() is None
        _, err = quorum(served.folder, "status", code=1)
        assert "not over" in err
        assert f"`quorum up` (pid {served.process.pid}) is at it" in err
        assert "start it with" not in err
    finally:
        shutil.move(served.folder / "moved.pbtxt", config)
    incident = served.wait_over(before, BACK_S)
    assert "was killed (SIGKILL)" in incident.found
    until(lambda: served.live() == 200)
    assert not (repository / PENDING_FILE).exists()
    assert [path.read_bytes() for path in repository.glob("rollout.pending.damaged-*")] == [b"{ damaged"]
    assert take_pulse(served.spec, served.running.endpoint.grpc_url, "quorum").ready


def test_a_record_that_was_removed_is_written_again(served: Supervised) -> None:
    record = served.running
    shutil.rmtree(state_folder(served.spec))
    assert find_running(served.spec) is None
    assert until(lambda: find_running(served.spec), BACK_S) == record


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """`beta` and `gamma`, which has a worker, read votes of their own."""
    folder = tmp_path_factory.mktemp("frail")
    members: dict[str, Any] = {"alpha": {}, "beta": {"options": {"votes": "beta.jsonl"}}}
    members["gamma"] = {"options": {"votes": "beta.jsonl", "isolated": True}}
    write_deployment(folder, members)
    shutil.copy(folder / "votes.jsonl", folder / "beta.jsonl")
    with supervised(folder) as up:
        yield up


@pytest.mark.parametrize("what", ["beta+gamma", "server"])
def test_members_that_cannot_start_keep_nobody_away(frail: Supervised, what: str) -> None:
    """The others answer when the server or the members' steps come back, and so do they once they can."""
    before, votes, away = len(frail.incidents()), frail.folder / "beta.jsonl", frail.folder / "away.jsonl"
    shutil.move(votes, away)
    frail.strike(what, signal.SIGKILL)
    frail.wait_over(before, BACK_S)
    with Client(frail.running.endpoint.grpc_url) as client:

        def voted() -> list[Status]:
            answer = client.extract(title(0), ATTRIBUTES).answers[0]
            assert answer.value is not None
            return [vote.status for vote in answer.votes]

        until(lambda: voted() == [Status.ANSWERED, Status.ERROR, Status.ERROR], BACK_S)
        shutil.move(away, votes)
        until(lambda: voted() == [Status.ANSWERED] * 3, BACK_S)


def test_up_stops_at_once_after_a_step_died(served: Supervised) -> None:
    """Triton itself waits its exit timeout for the requests that a dead step holds."""
    pid, endpoint = served.running.pid, served.running.endpoint
    with open_loop(endpoint.grpc_url, 40) as loop:
        until(lambda: any(not error for _, _, error in loop.replies))
        served.strike("alpha", signal.SIGKILL)
        begin = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        _, err = served.process.communicate(timeout=BACK_S)
    assert served.process.returncode == 0
    assert time.monotonic() - begin < 15, "that is less than the exit timeout"
    assert "beta" in err.partition("restart 1 failed")[2].partition("restart 2 failed")[0]
    assert "was set aside as" in err
    assert session_processes(pid) == set()
    assert listening(endpoint) == []


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_deployment(tmp_path_factory.mktemp("silent"), {"alpha": {}})


def test_an_interrupt_that_was_lost_ends_the_supervision(silent: Path) -> None:
    """Also while the server cannot be started."""
    reports: list[str] = []
    with running(silent) as live, Heartbeat(live.spec, live.url, live.server.life) as heart:
        supervisor = watch.Supervisor(live.server, reports.append, heart, BACK_S, lambda: bool(reports))
        supervisor.look()
        live.server.end()
        with pytest.raises(KeyboardInterrupt):
            supervisor.look()


def test_a_server_that_runs_and_does_not_answer_is_restarted(
    silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped one stands for it, whose state is not looked at."""
    monkeypatch.setattr(watch, "state_of", lambda pid: "S")
    reports: list[str] = []
    with running(silent) as live:
        server, pid = live.server, live.server.pid
        with Heartbeat(live.spec, live.url, server.life) as heart:
            supervisor = watch.Supervisor(server, reports.append, heart, BACK_S)
            supervisor.look()
            assert reports == []
            server.life.silence_s = 2.0
            first_s = server.ready_after_s
            os.kill(pid or 0, signal.SIGSTOP)
            until(lambda: supervisor.look() or reports, BACK_S)
            until(lambda: supervisor.look() or recent_incidents(live.spec)[-1].is_over, BACK_S)
        assert "has not answered for 2 s" in reports[0]
        assert server.pid not in (pid, None)
        assert first_s != server.ready_after_s > 0, "the last start counts"
        assert take_pulse(live.spec, live.url, "quorum").ready
    assert session_processes(pid or 0) == set()


@pytest.mark.skipif(not LONG, reason="a long form: set QUORUM_LONG=1")
def test_a_server_that_is_starved_of_cpu_is_left_alone(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    write_deployment(tmp_path, MEMBERS)
    with supervised(tmp_path) as up, open_loop(up.running.endpoint.grpc_url, 5) as loop:
        burn = [sys.executable, "-c", "while True: pass"]
        hogs = [subprocess.Popen(burn) for _ in range(12 * (os.cpu_count() or 1))]
        try:
            time.sleep(30)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
        silent = [i for i in up.incidents() if "has not answered" in i.found]
        latencies = sorted(ended - sent for sent, ended, error in loop.replies if not error)
        record_property("answered", f"{len(latencies)} of {len(loop.replies)}, slowest {latencies[-1]:.1f} s")
        record_property("incidents", "; ".join(map(str, up.incidents())))
        # Triton itself aborts when a step has no CPU for more than a second; it is not shot.
        assert silent == []
