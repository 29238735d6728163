# SPDX-License-Identifier: Apache-2.0
"""A runtime that blocks, dies, hangs or eats memory costs its own member's votes, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.deployment import ATTRIBUTES, START_S, Live, plain_triton, running, title, write_deployment
from support.raw import bytes_tensor
from support.wire import Reply, grpc_reply

from quorum.deployment import load_deployment
from quorum.processes import runs
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.server.control import ControlError
from quorum.server.reload import revive
from quorum.server.triton import ServerProcessError
from quorum.serving.isolation import program
from quorum_contract import Status

MEMBER_TIMEOUT_S = 3.0
LIMIT_GIB = 0.5
PROGRAM = program.__name__
LONG = bool(os.environ.get("QUORUM_LONG"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("isolation")


@pytest.fixture(scope="module")
def live(place: Path) -> Iterator[Live]:
    """`frail` runs in a worker and has the faults that the file `fault` names; `sound` has none."""
    frail = {"isolated": True, "faults": "fault", "memory_limit_gib": LIMIT_GIB}
    members: dict[str, Any] = {"frail": {"options": frail, "timeout_s": MEMBER_TIMEOUT_S}, "sound": {}}
    with running(write_deployment(place, members)) as live:
        yield live


@pytest.fixture(autouse=True)
def _mended(place: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    set_fault(place, "")
    if "live" in request.fixturenames:
        wait_until_back(request.getfixturevalue("live"))


def set_fault(place: Path, fault: str) -> None:
    fresh = place / "fault.new"
    fresh.write_text(fault)
    fresh.replace(place / "fault")


def ask(live: Live, product: int = 1, **how: Any) -> Reply:
    return live.ask(title(product), ATTRIBUTES, "shoes" if product % 2 else "", **how)


def statuses(reply: Reply, member: str) -> set[int]:
    return {status for _, status in reply.votes[member]}


def check_only_frail_abstained(reply: Reply, status: Status) -> None:
    assert statuses(reply, "frail") == {status}
    assert statuses(reply, "sound") == {Status.ANSWERED}
    assert reply.values == [value for value, _ in reply.votes["sound"]]


def workers(server: int) -> list[psutil.Process]:
    """The worker processes of a server, each a child of a step."""
    return [
        process
        for process in psutil.Process(server).children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and PROGRAM in process.cmdline()
    ]


def worker(live: Live) -> psutil.Process:
    assert live.server.pid
    (found,) = workers(live.server.pid)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)


def wait_until_back(live: Live) -> None:
    wait_until(lambda: statuses(ask(live), "frail") == {Status.ANSWERED})


def log_of(live: Live) -> str:
    return live.server.log_path.read_text("utf-8", "replace")


def test_a_worker_is_a_child_of_its_step_in_the_servers_session(live: Live) -> None:
    frail = worker(live)
    assert os.getsid(frail.pid) == live.server.pid
    step = frail.parent()
    assert step is not None
    assert step.ppid() == live.server.pid
    assert frail.nice() > step.nice()


@pytest.mark.parametrize(
    ("fault", "status"),
    [("raise", Status.ERROR), ("garbage", Status.UNPARSABLE), ("hang", Status.TIMEOUT)],
)
def test_a_question_that_goes_wrong_costs_one_vote(
    live: Live, place: Path, fault: str, status: Status
) -> None:
    before = worker(live).pid
    set_fault(place, fault)
    check_only_frail_abstained(ask(live), status)
    assert worker(live).pid == before


def test_a_slow_answer_is_one_that_did_not_come(live: Live, place: Path) -> None:
    set_fault(place, "slow")
    check_only_frail_abstained(ask(live, server_timeout_us=1_500_000), Status.TIMEOUT)


def test_a_call_that_never_returns_costs_its_members_votes_until_a_new_worker_answers(
    live: Live, place: Path
) -> None:
    before = worker(live).pid
    set_fault(place, "block")
    check_only_frail_abstained(ask(live, server_timeout_us=1_500_000), Status.TIMEOUT)
    set_fault(place, "")
    # The blocked thread takes no question any more; on a busy machine its process may be killed by now.
    reply = ask(live, server_timeout_us=1_500_000)
    assert statuses(reply, "frail") <= {Status.TIMEOUT, Status.ERROR}
    assert statuses(reply, "sound") == {Status.ANSWERED}
    wait_until_back(live)
    assert worker(live).pid != before
    assert "frail: its worker" in log_of(live)
    assert re.search(r"(gave no sign of life for|settled nothing for) 5 s.*; it is killed", log_of(live))


def test_a_process_that_exits_costs_the_questions_in_flight(live: Live, place: Path) -> None:
    before = worker(live).pid
    set_fault(place, "hang")
    waiting = live.ask_raw(bytes_tensor([title(1).encode()]), ATTRIBUTES, "shoes")
    # An answer of `sound` shows that the gate has passed the question on.
    ask(live)
    set_fault(place, "exit")
    check_only_frail_abstained(ask(live), Status.ERROR)
    lost = grpc_reply(waiting.result())
    assert statuses(lost, "frail") <= {Status.ERROR, Status.TIMEOUT}
    assert statuses(lost, "sound") == {Status.ANSWERED}
    set_fault(place, "")
    wait_until_back(live)
    assert worker(live).pid != before
    assert "ended with exit code 70" in log_of(live)


def test_memory_beyond_the_limit_ends_the_worker(live: Live, place: Path) -> None:
    before = worker(live).pid
    set_fault(place, "memory")
    reply = ask(live)
    set_fault(place, "")
    assert statuses(reply, "frail") <= {Status.ERROR, Status.TIMEOUT}
    assert statuses(reply, "sound") == {Status.ANSWERED}
    wait_until_back(live)
    assert worker(live).pid != before
    assert f"memory_limit_gib is {LIMIT_GIB:g}; it is killed" in log_of(live)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_lost_under_load_costs_only_its_votes(live: Live, sign: signal.Signals) -> None:
    stop = threading.Event()
    replies: list[Reply] = []
    errors: list[Exception] = []

    def call(number: int) -> None:
        while not stop.is_set():
            try:
                replies.append(ask(live, number % 24))
            except Exception as error:
                errors.append(error)
                return
            stop.wait(0.05)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6 if LONG else 1):
            lost = worker(live)
            done = len(replies)
            wait_until(lambda done=done: len(replies) > done + 40)
            lost.send_signal(sign)
            wait_until(lambda lost=lost: not runs(lost.pid))
            wait_until_back(live)
            done = len(replies)
            wait_until(lambda done=done: len(replies) > done + 40)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert all(statuses(reply, "sound") == {Status.ANSWERED} for reply in replies)
    allowed = {Status.ANSWERED, Status.ERROR, Status.TIMEOUT, Status.OVERLOADED}
    seen = set().union(*(statuses(reply, "frail") for reply in replies))
    assert seen <= allowed
    assert seen & {Status.ERROR, Status.TIMEOUT}


def test_a_new_step_has_a_new_worker_and_the_old_one_is_gone(live: Live) -> None:
    old = worker(live)
    revive(live.control, Store(live.spec.repository_path), "frail")
    wait_until(lambda: not old.is_running())
    wait_until_back(live)
    assert worker(live).pid != old.pid


def test_a_worker_that_stays_silent_is_replaced_without_any_question(live: Live) -> None:
    silent = worker(live)
    silent.suspend()
    wait_until(lambda: not silent.is_running() or silent.status() == psutil.STATUS_ZOMBIE)
    wait_until_back(live)


def test_a_member_whose_runtime_cannot_start_says_why(live: Live, place: Path) -> None:
    votes = place / "votes.jsonl"
    kept = votes.read_text("utf-8")
    votes.write_text("no votes\n")
    try:
        with pytest.raises(ControlError, match=r"votes\.jsonl, line 1"):
            revive(live.control, Store(live.spec.repository_path), "frail")
    finally:
        votes.write_text(kept, encoding="utf-8")
    assert statuses(ask(live), "frail") == {Status.ANSWERED}


def test_a_worker_that_dies_while_it_loads_fails_the_load(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {"greedy": {"options": {"isolated": True}}})
    spec = yaml.safe_load(deploy.read_text("utf-8"))
    # An interpreter needs more than this.
    spec["members"][0]["options"]["memory_limit_gib"] = 0.001
    deploy.write_text(yaml.safe_dump(spec), encoding="utf-8")
    render(load_deployment(deploy))
    with (
        pytest.raises(ServerProcessError, match=r"memory_limit_gib is 0\.001; it is killed"),
        plain_triton(deploy),
    ):
        pass


def test_a_stop_leaves_no_worker(tmp_path: Path) -> None:
    members = {name: {"options": {"isolated": True}} for name in ("one", "two")}
    with running(write_deployment(tmp_path, members)) as live:
        assert live.server.pid
        found = workers(live.server.pid)
        assert len(found) == 2
        live.server.stop()
        assert not any(process.is_running() for process in found)
        assert "it is killed" not in log_of(live)


def test_a_step_that_is_killed_takes_its_worker_with_it(tmp_path: Path) -> None:
    with running(write_deployment(tmp_path, {"one": {"options": {"isolated": True}}, "two": {}})) as live:
        found = worker(live)
        step = found.parent()
        assert step is not None
        step.kill()
        wait_until(lambda: not found.is_running(), START_S)
