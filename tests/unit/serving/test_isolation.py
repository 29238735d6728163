# SPDX-License-Identifier: Apache-2.0
"""Messages, link and life of a worker, with real processes but without Triton."""

from __future__ import annotations

import errno
import json
import os
import queue
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.processes import all_processes, descendants
from quorum.runtimes.base import RuntimeConfigError
from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.faults import EXIT_CODE
from quorum.serving.admission import Recovery
from quorum.serving.isolation import link as link_module
from quorum.serving.isolation import process as process_module
from quorum.serving.isolation import worker as worker_module
from quorum.serving.isolation.frames import (
    Ask,
    Close,
    Drop,
    FrameError,
    Frames,
    FromWorker,
    Ping,
    Pong,
    Start,
    ToWorker,
    Voted,
    frame,
)
from quorum.serving.isolation.link import Link
from quorum.serving.isolation.process import Process, interpreter
from quorum.serving.isolation.worker import Worker, WorkerFailed
from quorum.serving.packing import Admitted, PackedVote, pack_question, unpack_votes
from quorum.tasks.catalogue import Catalogue
from quorum_contract import Status

ANSWERED = [("nike", 0, None)]
ASKED = Admitted("t", "c", ("brand",), 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    row = {"category": "c", "title": "t", "attribute": "brand", "votes": {"m": "Nike", "other": "Puma"}}
    (tmp_path / "votes.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (tmp_path / "catalogue.json").write_text(json.dumps(Catalogue({}).to_json()), encoding="utf-8")
    return tmp_path


def start_of(folder: Path, *names: str, **options: Any) -> Start:
    chosen = {"votes": "votes.jsonl", "isolated": True, "faults": "fault", **options}
    members = [{"name": name, "runtime": "replay", "prompt": "bare", "options": chosen} for name in names]
    limit = options.get("memory_limit_gib")
    return Start(members, str(folder), str(folder / "catalogue.json"), limit)


@pytest.fixture
def worker(folder: Path) -> Iterator[Worker]:
    made = Worker("m", start_of(folder, "m", "other"))
    yield made
    made.close()


def ask(worker: Worker, position: int = 0, left_s: float = 60.0) -> list[PackedVote]:
    came, votes = threading.Event(), list[bytes]()

    def done(packed: bytes) -> None:
        votes.append(packed)
        came.set()

    deadline = time.monotonic_ns() + int(left_s * 1e9)
    worker.member(position).ask(ASKED, pack_question(ASKED), deadline, done, Cancellation())
    assert came.wait(60)
    return unpack_votes(votes[0])


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def pid_of(worker: Worker) -> int:
    """Its process; the resource tracker of this one is a child too."""
    found = all_processes()
    (pid,) = (p for p in descendants(found, os.getpid()) if b"isolation.program" in command_of(p))
    return pid


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def wait_until_back(worker: Worker) -> None:
    end = time.monotonic() + 60
    while ask(worker) != ANSWERED:
        assert time.monotonic() < end, "no new worker"
        time.sleep(0.02)


def test_a_cancelled_question_is_dropped_in_the_process_and_no_other(folder: Path) -> None:
    made = Worker("m", start_of(folder, "m", "other", latency_ms=3_600_000))
    deadline = time.monotonic_ns() + 3_600 * 10**9
    votes: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
    cancellations = [Cancellation() for _ in range(3)]
    cancellations[2].cancel()
    for number, own in enumerate(cancellations):
        done = partial(lambda number, packed: votes.put((number, packed)), number)
        made.member(number % 2).ask(ASKED, pack_question(ASKED), deadline, done, own)
    for number in (2, 0):
        cancellations[number].cancel()
        found, packed = votes.get(timeout=60)
        assert (found, unpack_votes(packed)) == (number, [("", Status.TIMEOUT, None)])
    assert len(made._pending) == 1
    cancellations[0].cancel()
    made.close()
    cancellations[1].cancel()
    assert votes.empty()


def test_what_was_settled_may_still_be_dropped(worker: Worker) -> None:
    assert ask(worker) == ANSWERED
    assert worker._link is not None
    for number in (0, 7, 2**40):
        worker._link.send(Drop(number))
    assert ask(worker) == ANSWERED


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_messages_arrive_whole_however_they_are_cut(bodies: list[bytes], data: st.DataObject) -> None:
    sent: list[ToWorker] = [Ask(n, n % 3, n * 7, body) for n, body in enumerate(bodies)]
    stream = b"".join(map(frame, [*sent, Ping(), Close()]))
    frames: Frames[ToWorker] = Frames(ToWorker)
    came: list[ToWorker] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        came += frames.add(stream[:size])
        stream = stream[size:]
    assert came == [*sent, Ping(), Close()]


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", struct.pack("<I", 3) + b"abc", struct.pack("<I", 0), frame(Ping())]
)
def test_what_is_no_message_of_a_worker_is_refused(data: bytes) -> None:
    frames: Frames[FromWorker] = Frames(FromWorker)
    # A ping has the number of votes, but not their fields.
    with pytest.raises(FrameError):
        list(frames.add(data))


def test_a_link_to_a_process_that_does_not_read_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_UNSENT_BYTES", 1 << 20)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    link = Link(ours)
    body = os.urandom(1 << 15)
    taken = 0
    while link.send(Ask(taken, 0, 0, body)):
        taken += 1
        assert taken < 1000, "it takes everything"
    frames: Frames[ToWorker] = Frames(ToWorker)
    came: list[ToWorker] = []
    theirs.settimeout(5)
    while len(came) < taken:
        link.receive(0)
        came += frames.add(theirs.recv(1 << 20))
    assert came == [Ask(number, 0, 0, body) for number in range(taken)]
    theirs.sendall(frame(Pong()) + frame(Voted(3, b"v"))[:-1])
    assert link.receive(5) == [Pong()]
    theirs.close()
    link.receive(5)
    assert not link.is_open
    assert link.send(Ping())
    link.close()
    ours.close()


def test_members_of_a_model_share_a_worker(worker: Worker) -> None:
    assert ask(worker, 0) == ANSWERED
    assert ask(worker, 1) == [("puma", 0, None)]


def test_a_worker_that_exits_is_replaced(worker: Worker, folder: Path, caplog: Any) -> None:
    (folder / "fault").write_text("exit")
    assert ask(worker) == [("", Status.ERROR, None)]
    (folder / "fault").unlink()
    wait_until_back(worker)
    (lost,) = [message for message in caplog.messages if "its worker" in message]
    assert re.search(rf"^m: its worker \(pid \d+\) ended with exit code {EXIT_CODE}; 1 questions", lost)


def test_a_lost_question_that_cannot_be_settled_costs_no_other(
    worker: Worker, folder: Path, caplog: Any
) -> None:
    (folder / "fault").write_text("hang")

    def full(_: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    deadline = time.monotonic_ns() + 60 * 10**9
    worker.member(0).ask(ASKED, pack_question(ASKED), deadline, full, Cancellation())
    came = threading.Event()
    worker.member(0).ask(ASKED, pack_question(ASKED), deadline, lambda _: came.set(), Cancellation())
    os.kill(pid_of(worker), signal.SIGKILL)
    assert came.wait(30)
    (folder / "fault").unlink()
    wait_until_back(worker)
    assert "m: a question could not be settled" in caplog.messages


def test_questions_abstain_at_once_while_there_is_no_worker(worker: Worker, folder: Path) -> None:
    (folder / "fault").write_text("exit")
    ask(worker)
    began = time.monotonic()
    # Each start that a question ends makes the next one later: in the pauses nothing is waited for.
    answers = [ask(worker) for _ in range(200)]
    assert all(votes == [("", Status.ERROR, None)] for votes in answers)
    assert time.monotonic() - began < 60


def test_a_worker_that_computes_gets_more_time(
    worker: Worker, folder: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "TICK_S", 0.02)
    used = count()
    monkeypatch.setattr(Process, "cpu_seconds", lambda _: float(next(used)))
    (folder / "fault").write_text("block")
    assert ask(worker, left_s=0) == [("", Status.ERROR, None)]
    (folder / "fault").unlink()
    wait_until_back(worker)
    (lost,) = [message for message in caplog.messages if "its worker" in message]
    assert f"settled nothing for {worker_module.BUSY_TICKS * 0.02:.0f} s past a deadline" in lost
    assert next(used) > 2


def test_a_runtime_that_refuses_its_settings_fails_the_start(folder: Path) -> None:
    with pytest.raises(RuntimeConfigError, match="no votes of 'absent'; recorded are: m, other"):
        Worker("m", start_of(folder, "absent"))


def test_the_first_start_of_a_reloaded_step_takes_as_long_as_it_takes(folder: Path) -> None:
    """Nothing says how long its LLM loads: a limit could kill it again and again."""
    worker = Worker("m", start_of(folder, "m"), Recovery.RELOAD)
    try:
        assert worker.start_limit_s is None
        wait_until(lambda: ask(worker) == ANSWERED)
        assert worker.start_limit_s is not None
    finally:
        worker.close()


def without_handles(_: object) -> Link:
    raise OSError(errno.EMFILE, "Too many open files")


def test_a_step_without_file_handles_fails_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "Link", without_handles)
    with pytest.raises(WorkerFailed, match=r"m: its worker could not be started: .*Too many open files"):
        Worker("m", start_of(folder, "m"))
    children = descendants(all_processes(), os.getpid())
    assert not [child for child in children if b"isolation.program" in command_of(child)]


def test_a_replacement_that_lacks_file_handles_is_tried_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as scarce:
        scarce.setattr(worker_module, "Link", without_handles)
        os.kill(pid_of(worker), signal.SIGKILL)
        wait_until(lambda: "could not be started" in caplog.text)
    wait_until_back(worker)
    assert worker._thread.is_alive()


def test_a_worker_that_a_signal_without_a_name_ended_is_replaced(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(pid_of(worker), signal.SIGRTMIN + 3)
    wait_until_back(worker)
    assert f"was ended by signal {signal.SIGRTMIN + 3}" in caplog.text


def test_a_process_that_does_not_die_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "asleep.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(process_module, "_PROGRAM", "asleep")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    process = Process()
    with monkeypatch.context() as still:
        still.setattr("quorum.processes._DYING_S", 0.1)
        # As one that waits for a device, which takes no signal.
        still.setattr(os, "kill", lambda *_: None)
        process.end()
    assert process.exit_code(0.0) is None
    process.end()
    assert process.exit_code(0.0) == -signal.SIGKILL


def test_a_process_that_takes_too_much_memory_while_it_starts_fails_the_start(folder: Path) -> None:
    with pytest.raises(WorkerFailed, match=r"memory_limit_gib is 0\.001; it is killed"):
        Worker("m", start_of(folder, "m", memory_limit_gib=0.001))


def test_a_worker_without_a_python_fails_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/opt/tritonserver/backends/python/triton_python_backend_stub")
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(WorkerFailed, match="no python3 on PATH"):
        Worker("m", start_of(folder, "m"))


def test_a_stub_takes_the_python_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = folder / "python3"
    python.symlink_to(interpreter())
    monkeypatch.setattr("sys.executable", "/opt/tritonserver/backends/python/triton_python_backend_stub")
    monkeypatch.setenv("PATH", str(folder))
    assert interpreter() == str(python)


def test_the_end_of_a_process_ends_its_children(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "parental.py").write_text(
        "import subprocess, socket, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "socket.socket(fileno=int(sys.argv[1])).sendall(str(child.pid).encode())\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(process_module, "_PROGRAM", "parental")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    process = Process()
    process.connection.setblocking(True)
    child = int(process.connection.recv(100))
    alone = process.resident_bytes()
    process.find_children()
    assert process.resident_bytes() > alone > 1 << 20
    process.end()
    assert process.exit_code(0) == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()
    end = time.monotonic() + 30
    # Whoever takes over an orphan collects it some time.
    while is_running(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
