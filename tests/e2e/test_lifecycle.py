# SPDX-License-Identifier: Apache-2.0
"""Starting and stopping: what is in flight is answered, what cannot start says why, nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from support.command import quorum, start, up
from support.deployment import ATTRIBUTES, START_S, Live, running, title, write_deployment
from support.layout import may_do_without_aslr
from support.raw import bytes_tensor
from support.traces import (
    listening,
    prefix_of,
    prefix_of_process,
    session_processes,
    shared_memory,
    stub_of,
)
from support.wire import grpc_reply

from quorum.deployment import load_deployment
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.server.launch import has_aslr
from quorum.server.leftovers import MARK
from quorum.server.reload import revive
from quorum.server.runfile import find_running
from quorum.server.supervise import wait_channels
from quorum.server.triton import ServerProcessError, TritonServer
from quorum.serving.admission import admission_of


def test_stop_answers_what_is_in_flight(tmp_path: Path) -> None:
    slow = {"options": {"latency_ms": 2000, "latency_shape": "constant"}}
    with running(write_deployment(tmp_path, {"alpha": slow, "beta": {}})) as live:
        pid, prefix, endpoint = live.server.pid, prefix_of(live.server), live.endpoint
        assert pid
        texts = [bytes_tensor([title(i % 24).encode()]) for i in range(40)]
        futures = [live.ask_raw(text, ATTRIBUTES, "shoes" if i % 2 else "") for i, text in enumerate(texts)]
        admission, end = admission_of(pid), time.monotonic() + 30
        while admission.inside(time.monotonic_ns()) + sum(f.done() for f in futures) < len(futures):
            assert time.monotonic() < end
            time.sleep(0.005)
        assert not all(future.done() for future in futures)
        stopper = threading.Thread(target=live.server.stop)
        stopper.start()
        for future in futures:
            reply = grpc_reply(future.result())
            assert {status for votes in reply.votes.values() for _, status in votes} == {0}
        stopper.join()
        assert session_processes(pid) == set()
        assert shared_memory(prefix) == set()
        assert listening(endpoint) == []
        live.server.stop()


def test_what_has_left_the_session_of_the_server_ends_with_it(tmp_path: Path) -> None:
    with running(write_deployment(tmp_path, {"alpha": {}})) as live:
        environment = Path(f"/proc/{live.server.pid}/environ").read_bytes().decode().split("\0")
        mark = next(pair for pair in environment if pair.startswith(f"{MARK}="))
        daemon = subprocess.Popen(
            ["env", mark, sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            assert daemon.stdout is not None
            daemon.stdout.readline()
            live.server.stop()
            assert daemon.wait(timeout=30) == -signal.SIGKILL
        finally:
            daemon.kill()
            daemon.communicate()


def test_stop_answers_what_is_in_flight_after_a_step_was_replaced(tmp_path: Path) -> None:
    """The dead process stays a zombie of the server, which says nothing about the steps that work now."""
    slow = {"options": {"latency_ms": 2000, "latency_shape": "constant"}}
    with running(write_deployment(tmp_path, {"alpha": slow, "beta": {}})) as live:
        os.kill(stub_of(live.server, "beta"), signal.SIGKILL)
        revive(live.control, Store(live.spec.repository_path), "beta")
        asked = live.ask_raw(bytes_tensor([title(0).encode()]), ATTRIBUTES)
        admission, end = admission_of(live.server.pid or 0), time.monotonic() + 30
        while not admission.inside(time.monotonic_ns()):
            assert time.monotonic() < end
            time.sleep(0.005)
        live.server.stop()
        reply = grpc_reply(asked.result())
        assert {status for votes in reply.votes.values() for _, status in votes} == {0}


def test_a_server_that_is_killed_can_still_be_swept(tmp_path: Path) -> None:
    with running(write_deployment(tmp_path, {"alpha": {}, "beta": {}})) as live:
        pid, prefix = live.server.pid, prefix_of(live.server)
        assert pid
        os.kill(pid, signal.SIGKILL)
        live.server.stop()
        assert live.server.pid is None
        assert session_processes(pid) == set()
        assert shared_memory(prefix) == set()


def test_a_server_does_not_outlive_the_process_that_started_it(tmp_path: Path) -> None:
    write_deployment(tmp_path, {"alpha": {}})
    quorum(tmp_path, "render")
    process = start(tmp_path, "up")
    end = time.monotonic() + 90
    while (running := find_running(load_deployment(tmp_path / "deploy.yaml"))) is None:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    prefix = prefix_of_process(running.pid)
    regions = [Path("/dev/shm", name) for name in shared_memory(prefix)]
    scratch = Path(tempfile.gettempdir(), prefix[:-1])
    assert scratch.is_dir()
    private = [*regions, scratch, tmp_path / ".quorum" / "server.log"]
    assert [path for path in private if path.stat().st_mode & 0o077] == []
    process.kill()
    process.communicate()
    while session_processes(running.pid):
        assert time.monotonic() < end
        time.sleep(0.05)
    # The steps end by themselves, and take their shared memory along; the folder waits for the next start.
    assert [path for path in regions if path.exists()] == []
    quorum(tmp_path, "clean")
    assert not scratch.exists()
    with up(tmp_path):
        assert listening(running.endpoint) == []


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    render(spec)
    server = TritonServer(spec, log_path=tmp_path / "server.log")
    try:
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()
        wait_channels(server, START_S)
        assert server.pid is not None
    finally:
        server.stop()


def code_addresses(pid: int) -> dict[int, int]:
    """Process -> where its Python library's code begins, of every step of a server."""
    found = {}
    for process in session_processes(pid):
        with suppress(OSError):
            for line in Path(f"/proc/{process}/maps").read_text("utf-8").splitlines():
                if "libpython" in line and " r-xp " in line:
                    found[process] = int(line.split("-")[0], 16)
    return found


def can_choose_layouts() -> bool:
    """Whether this machine randomises addresses, and lets a process do without."""
    system_wide = Path("/proc/sys/kernel/randomize_va_space").read_text("ascii").strip()
    return may_do_without_aslr() and system_wide != "0" and bool(has_aslr(os.getpid()))


@pytest.mark.skipif(not can_choose_layouts(), reason="addresses are not random here, or must be")
def test_steps_have_code_at_the_same_addresses_only_when_asked_for(steady: Live, tmp_path: Path) -> None:
    ports = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}}, server={**ports, "aslr": False})
    with running(deploy) as same:
        for live, aslr in ((steady, True), (same, False)):
            assert live.server.pid is not None
            assert has_aslr(live.server.pid) is aslr
            addresses = code_addresses(live.server.pid)
            steps = len(live.spec.members) + 2
            assert len(addresses) >= steps
            assert len(set(addresses.values())) == (len(addresses) if aslr else 1)
            assert live.ask(title(1), ATTRIBUTES).values


@pytest.mark.parametrize("key", ["grpc_port", "http_port", "metrics_port"])
def test_a_taken_port_is_named(tmp_path: Path, key: str) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        data = yaml.safe_load(deploy.read_text("utf-8"))
        data["server"] |= {"http": True, key: port}
        deploy.write_text(yaml.safe_dump(data), encoding="utf-8")
        spec = load_deployment(deploy)
        server = TritonServer(spec, log_path=tmp_path / "server.log")
        with pytest.raises(ServerProcessError, match=rf"server\.{key} {port}.*in use"):
            server.start()
        server.stop()
    assert not (tmp_path / "server.log").exists()


def test_a_failed_start_shows_what_a_member_refused(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {"options": {"votes": "nowhere.jsonl"}}})
    spec = load_deployment(deploy)
    render(spec)
    server = TritonServer(spec, log_path=tmp_path / "logs" / "server.log")
    try:
        server.start()
        pid, prefix = server.pid, prefix_of(server)
        assert pid
        with pytest.raises(ServerProcessError, match=r"beta: .*nowhere\.jsonl") as caught:
            wait_channels(server, START_S)
        assert str(caught.value).count("nowhere.jsonl") == 1
        assert "\n" not in str(caught.value)
    finally:
        server.stop()
    assert session_processes(pid) == set()
    assert shared_memory(prefix) == set()
