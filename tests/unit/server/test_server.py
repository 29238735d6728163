# SPDX-License-Identifier: Apache-2.0
"""What surrounds a server: where it is found, the note it leaves. Starts and stops are in ``tests/e2e``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.deployment import write_deployment

from quorum.deployment import Deployment, load_deployment
from quorum.processes import runs
from quorum.repository.render import render
from quorum.repository.state import RepositoryError
from quorum.server import endpoint, install
from quorum.server.endpoint import Endpoint, ServerProcessError
from quorum.server.install import ServerNotFound, find_install
from quorum.server.runfile import (
    Running,
    endpoint_of,
    find_running,
    leave_note,
    remove_note,
    start_of,
    state_folder,
)
from quorum.server.supervise import check_repository, serve
from quorum.server.triton import TritonServer

ENDPOINT = Endpoint("127.0.0.1", 1, 2, 3, "secret")


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    return load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))


def test_a_note_is_found_while_its_server_lives(spec: Deployment) -> None:
    assert find_running(spec) is None
    path = leave_note(spec, Running(os.getpid(), start_of(os.getpid()), spec.repository_path, ENDPOINT))
    assert path.stat().st_mode & 0o777 == 0o600
    assert find_running(spec) == Running(os.getpid(), start_of(os.getpid()), spec.repository_path, ENDPOINT)
    assert endpoint_of(spec) == ENDPOINT
    remove_note(spec)
    remove_note(spec)
    assert find_running(spec) is None


def test_the_end_of_a_server_spares_a_process_that_got_its_id(spec: Deployment) -> None:
    server = TritonServer(spec, log_path=spec.root / "server.log")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    ) as stranger:
        ended.pid = stranger.pid
        server._process = ended
        server.end()
        assert runs(stranger.pid)
    assert server.pid is None


def test_one_that_is_starting_is_not_disturbed_by_another(spec: Deployment) -> None:
    render(spec)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = state_folder(spec) / "up.json"
    path.parent.mkdir(exist_ok=True)
    note = json.dumps({"pid": other.pid, "started": start_of(other.pid), "at": 0.0})
    path.write_text(note, encoding="utf-8")
    try:
        with pytest.raises(ServerProcessError, match=rf"another .* starting .*pid {other.pid}"), serve(spec):
            pass
        assert path.read_text("utf-8") == note, "who waits for it still finds it"
    finally:
        other.communicate()


def test_of_two_that_start_at_once_one_is_refused(spec: Deployment) -> None:
    render(spec)
    state_folder(spec).mkdir(exist_ok=True)
    program = f"""
import fcntl, os, sys, time
from pathlib import Path
from quorum.deployment import load_deployment
from quorum.server.runfile import leave_attempt, state_folder
spec = load_deployment({str(spec.path)!r})
handle = os.open(state_folder(spec), os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_EX)
print(flush=True)
end = time.monotonic() + 30
while not any("->" in line and " {os.getpid()} " in line for line in open("/proc/locks")):
    if time.monotonic() > end:
        sys.exit("nobody waits")
leave_attempt(spec)
os.close(handle)
input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = subprocess.Popen([sys.executable, "-c", program], **pipes)  # type: ignore[call-overload]
    other.stdout.readline()
    try:
        with pytest.raises(ServerProcessError, match=rf"another .* starting .*pid {other.pid}"), serve(spec):
            pass
    finally:
        other.communicate(b"\n")


def test_a_note_of_a_dead_server_counts_for_nothing(spec: Deployment) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leave_note(spec, Running(process.pid, start_of(process.pid), spec.repository_path, ENDPOINT))
    assert find_running(spec) is not None
    process.communicate()
    assert find_running(spec) is None


def test_a_process_that_has_the_number_of_a_dead_server_is_not_taken_for_it(spec: Deployment) -> None:
    leave_note(spec, Running(os.getpid(), "another boot:1", spec.repository_path, ENDPOINT))
    assert find_running(spec) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": 1, "repository": 2, "endpoint": {}}']
)
def test_a_damaged_note_counts_for_nothing(spec: Deployment, content: str) -> None:
    state_folder(spec).mkdir()
    (state_folder(spec) / "server.json").write_text(content, encoding="utf-8")
    assert find_running(spec) is None


def test_without_a_note_the_spec_and_the_environment_say_where(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUORUM_ADMIN_KEY", "from outside")
    assert endpoint_of(spec) == Endpoint("127.0.0.1", 0, None, 0, "from outside")


def test_free_ports_differ_and_keys_are_not_guessed(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUORUM_ADMIN_KEY", raising=False)
    one, two = (TritonServer(spec, log_path=spec.root / "log").endpoint for _ in range(2))
    assert len({one.grpc_port, one.metrics_port}) == 2
    assert 0 not in (one.grpc_port, one.metrics_port)
    assert one.http_port is None
    assert one.admin_key != two.admin_key
    assert len(one.admin_key) >= 32


def test_two_servers_that_start_at_once_never_choose_the_same_port(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens on the ports yet: only the claims keep them apart."""
    # Ports that no server of other tests chooses.
    monkeypatch.setattr(endpoint, "_FREE_PORTS", range(19_000, 19_008))
    servers = [TritonServer(spec, log_path=spec.root / "log") for _ in range(3)]
    ports = [(s.endpoint.grpc_port, s.endpoint.metrics_port) for s in servers]
    assert len({port for pair in ports for port in pair}) == 6
    servers.append(TritonServer(spec, log_path=spec.root / "log"))
    with pytest.raises(ServerProcessError, match=r"no port of 127\.0\.0\.1 is free"):
        TritonServer(spec, log_path=spec.root / "log")
    servers.pop().stop()
    TritonServer(spec, log_path=spec.root / "log")


def test_the_server_of_this_machine_is_found_with_quorums_backends(tmp_path: Path) -> None:
    found = find_install()
    assert found.binary.is_file()
    backends = found.prepare_backends(tmp_path)
    for name in ("quorum_gate", "quorum_member", "quorum_vote"):
        assert (backends / name / "model.py").is_file()
    assert (backends / "python" / "libtriton_python.so").is_file()
    assert found.environment()["PATH"].startswith(str(Path(sys.executable).parent))


@pytest.mark.parametrize(("given", "threads"), [(None, "1"), ("3", "3")])
def test_linear_algebra_has_one_thread_unless_the_environment_says_how_many(
    monkeypatch: pytest.MonkeyPatch, given: str | None, threads: str
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", given)
    assert find_install().environment()["OPENBLAS_NUM_THREADS"] == threads


def test_without_any_server_the_way_to_one_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "_CONTAINER", tmp_path)
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ServerNotFound, match="make setup"):
        find_install()


def test_a_repository_that_is_not_what_the_spec_says_is_refused(spec: Deployment) -> None:
    with pytest.raises(RepositoryError, match=r"model_repository does not exist; .*`quorum render`"):
        check_repository(spec)
    spec.repository_path.mkdir()
    with pytest.raises(RepositoryError, match=r"differs from .*deploy\.yaml \(.*\); run `quorum render`"):
        check_repository(spec)
    render(spec)
    check_repository(spec)
    weights = spec.repository_path / "quorum_vote" / "1" / "weights.json"
    data = json.loads(weights.read_text("utf-8")) | {"method": "magic"}
    weights.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RepositoryError, match=r"version 1.*magic"):
        check_repository(spec)


def test_stopping_what_never_started_is_nothing(spec: Deployment) -> None:
    server = TritonServer(spec, log_path=spec.root / "log")
    server.stop()
    assert server.pid is None
    assert server.log_tail() == ""


def test_a_start_that_fails_again_and_again_leaves_no_folders(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: the folder of this process counts as in use for every sweep."""
    monkeypatch.setattr(tempfile, "tempdir", str(spec.root / "scratch"))
    (spec.root / "scratch").mkdir()
    server = TritonServer(spec, log_path=spec.root / "nowhere" / "server.log")
    for _ in range(3):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            server.start_again()
        server.end()
    assert [*(spec.root / "scratch").iterdir()] == []
    server.stop()


@pytest.mark.parametrize(("lines", "starts"), [("boost::interprocess::lock_exception", 3), ("no model", 1)])
def test_a_server_that_lost_a_lock_while_it_started_is_started_again(
    spec: Deployment, monkeypatch: pytest.MonkeyPatch, lines: str, starts: int
) -> None:
    server = TritonServer(spec, log_path=spec.root / "server.log")
    monkeypatch.setattr(server, "_command", lambda _: [sys.executable, "-c", f"print({lines!r})"])
    server.start()
    with pytest.raises(ServerProcessError, match=f"(?s)stopped while starting.*{lines}"):
        server.wait_ready(lambda: False, 30.0)
    assert server.life.starts == starts
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGRTMIN + 1])
def test_how_a_server_ended_is_said_for_every_signal(spec: Deployment, number: int) -> None:
    server = TritonServer(spec, log_path=spec.root / "server.log")
    server._process = subprocess.Popen([sys.executable, "-c", f"import os; os.kill(os.getpid(), {number})"])
    server._process.wait()
    assert server.ended == ("was killed (SIGKILL)" if number == 9 else f"was killed (signal {number})")
    server._process = None
    server.stop()
