# SPDX-License-Identifier: Apache-2.0
"""What dead servers left is found and removed, and nothing else."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from quorum.processes import runs
from quorum.server import leftovers
from quorum.server.leftovers import Removed, remove_traces, sweep_killed
from quorum.serving import admission


def test_what_a_killed_server_left_in_shared_memory_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, folder = tmp_path / "shm", tmp_path / "quorum-only-1-a"
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", memory)
    monkeypatch.setattr(admission, "SHARED_MEMORY", memory)
    (folder / "quorum-server-x1").mkdir(parents=True)
    (folder / "quorum-server-x1" / "pid").write_text("99999999", encoding="ascii")
    memory.mkdir()
    steps = ("admission", "answered")
    for name in ("quorum-server-x1_1", "quorum-server-x1_2", *(f"quorum-99999999-{step}" for step in steps)):
        (memory / name).touch()
    kept = {"quorum-server-x12_1", "quorum-999999990-answered", f"quorum-{os.getpid()}-admission"}
    for name in kept:
        (memory / name).touch()
    remove_traces(folder)
    assert {path.name for path in memory.iterdir()} == kept
    (folder / "quorum-server-x2").mkdir()
    (folder / "quorum-server-x2" / "pid").write_text(f"{os.getpid()}", encoding="ascii")
    remove_traces(folder)
    assert (memory / f"quorum-{os.getpid()}-admission").exists(), "its process id was given to another"


def test_a_start_sweeps_what_killed_servers_left_but_not_what_a_live_step_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "shm"
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", memory)
    monkeypatch.setattr(admission, "SHARED_MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    orphan = tmp_path / "quorum-server-99999998-b"
    for folder in (memory, tmp_path / "quorum-server-99999999-a", orphan):
        folder.mkdir()
    for name in ("quorum-server-99999999-a_1", "quorum-server-99999998-b_1"):
        (memory / name).touch()
    handle = os.open(orphan, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    step = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(handle,))
    os.close(handle)
    sweep_killed()
    assert {path.name for path in tmp_path.iterdir()} == {"shm", orphan.name}
    assert [path.name for path in memory.iterdir()] == ["quorum-server-99999998-b_1"]
    step.communicate(b"\n")
    sweep_killed()
    assert [*tmp_path.iterdir(), *memory.iterdir()] == [memory]


def test_a_start_ends_steps_that_outlived_their_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch = tmp_path / "quorum-server-99999999-a"
    scratch.mkdir()
    # The server starts two processes, which inherit its mark or lose it, and dies.
    program = (
        "import os, subprocess, sys\n"
        "for mark in (os.environ['QUORUM_SERVER'], ''):\n"
        "    program = 'import time; print(flush=True); time.sleep(60)'\n"
        "    how = {'stdout': subprocess.PIPE, 'env': {**os.environ, 'QUORUM_SERVER': mark}}\n"
        "    step = subprocess.Popen([sys.executable, '-c', program], start_new_session=True, **how)\n"
        "    step.stdout.readline()\n"
        "    print(step.pid, flush=True)\n"
        "input()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "QUORUM_SERVER": scratch.name}, **pipes
    )
    assert server.stdout is not None
    step, other = (int(server.stdout.readline()) for _ in range(2))
    try:
        (scratch / "pid").write_text(f"{server.pid}", encoding="ascii")
        assert sweep_killed().processes == [], "their server lives"
        server.communicate("\n")
        scratch.mkdir(exist_ok=True)
        (scratch / "pid").write_text(f"{server.pid}", encoding="ascii")
        assert sweep_killed() == Removed([step], [str(scratch)])
        assert [runs(pid) for pid in (step, other)] == [False, True]
        assert not scratch.exists()
    finally:
        os.kill(other, signal.SIGKILL)


def test_processes_of_another_container_that_shares_the_folder_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their record holds the id that the server has there, which is another's here."""
    unshare = ["unshare", "--pid", "--fork", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a namespace of process ids")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch = tmp_path / "quorum-server-99999999-a"
    scratch.mkdir()
    (scratch / "pid").write_text("1", encoding="ascii")
    lock = os.open(scratch, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    server = subprocess.Popen(
        # Outside of the namespace nothing carries the mark.
        [*unshare, "env", f"QUORUM_SERVER={scratch.name}", sys.executable, "-c", "print(flush=1); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(lock,),
    )  # fmt: skip
    os.close(lock)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        assert sweep_killed() == Removed()
        assert scratch.exists()
    finally:
        server.communicate(b"\n")
    assert server.returncode == 0
