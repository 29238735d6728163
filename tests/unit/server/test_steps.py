# SPDX-License-Identifier: Apache-2.0
"""Steps are watched as processes: real ones, that end, are stopped or become zombies."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorum.processes import GONE, STOPPED, stat_of, state_of
from quorum.server import steps
from quorum.server.steps import StepWatch, find_steps


@pytest.fixture
def alpha(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child of this process that looks like a step of model `alpha`."""
    program = tmp_path / "triton_python_backend_stub"
    shutil.copy("/bin/sh", program)
    arguments = [str(program), "-c", "read line", "/models/alpha/1/model.py", "alpha_0_0", "/backends"]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def wait_dead(watch: StepWatch) -> list[tuple[int, str, str]]:
    end = time.monotonic() + 20
    while not (dead := watch.look()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return [(step.pid, step.model, step.state) for step in dead]


def test_a_step_is_found_with_its_model(alpha: subprocess.Popen[bytes]) -> None:
    watch = StepWatch(os.getpid())
    assert find_steps(os.getpid()) == {alpha.pid: "alpha"}
    assert find_steps(alpha.pid) == {}
    assert watch.look() == []
    assert (watch.working("alpha"), watch.working("beta")) == (1, 0)


def test_a_killed_step_is_found_until_it_is_forgotten(alpha: subprocess.Popen[bytes]) -> None:
    watch = StepWatch(os.getpid())
    alpha.kill()
    assert wait_dead(watch) == [(alpha.pid, "alpha", "Z")]
    assert watch.working("alpha") == 0
    assert [(step.pid, step.model) for step in StepWatch(os.getpid()).look()] == []
    assert wait_dead(StepWatch(os.getpid())) == [(alpha.pid, "", "Z")], "its model is not known any more"
    alpha.wait()
    assert wait_dead(watch) == [(alpha.pid, "alpha", GONE)]
    watch.forget(alpha.pid)
    time.sleep(0.6)
    assert watch.look() == []


def test_what_a_dead_step_had_started_is_an_orphan(tmp_path: Path) -> None:
    """As the worker process of a member whose step was killed; the server leads their session."""
    shutil.copy("/bin/sh", tmp_path / "triton_python_backend_stub")
    program = f"""
import os, subprocess, sys, time
from quorum.server.steps import StepWatch
stub = {str(tmp_path / "triton_python_backend_stub")!r}
step = subprocess.Popen([stub, "-c", "sleep 60 & echo $!; wait", "alpha_0_0"], stdout=subprocess.PIPE)
worker = int(step.stdout.readline())
watch = StepWatch(os.getpid())
step.kill()
while not watch.look():
    time.sleep(0.01)
print(watch.orphans_of(step.pid) == [worker], watch.orphans_of(worker))
os.kill(worker, 9)
"""
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert shown.stdout == "True []\n"


def test_so_is_what_has_left_its_session_and_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_SEARCH_S", 0.0)
    stub = tmp_path / "triton_python_backend_stub"
    shutil.copy("/bin/sh", stub)
    worker = (
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)\n"
        "input()"
    )
    step = subprocess.Popen(
        [stub, "-c", '"$0" -c "$1"; read line', sys.executable, worker, "alpha_0_0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert step.stdout is not None
    assert step.stdin is not None
    daemon = int(step.stdout.readline())
    try:
        watch, parent = StepWatch(os.getpid()), stat_of(daemon).parent
        step.stdin.write(b"\n")
        step.stdin.flush()
        while stat_of(daemon).parent == parent:
            time.sleep(0.01)
        watch.look()
        step.kill()
        wait_dead(watch)
        assert watch.orphans_of(step.pid) == [daemon]
    finally:
        os.kill(daemon, signal.SIGKILL)
        step.kill()
        step.communicate()


def test_a_step_is_stopped_only_after_a_while(alpha: subprocess.Popen[bytes]) -> None:
    watch = StepWatch(os.getpid())
    os.kill(alpha.pid, signal.SIGSTOP)
    while state_of(alpha.pid) != STOPPED:
        time.sleep(0.001)
    begin = time.monotonic()
    assert watch.look() == []
    assert wait_dead(watch) == [(alpha.pid, "alpha", STOPPED)]
    assert time.monotonic() - begin >= 0.4
    os.kill(alpha.pid, signal.SIGCONT)
    while state_of(alpha.pid) == STOPPED:
        time.sleep(0.001)
    assert watch.look() == []


def test_a_new_step_with_the_id_of_a_forgotten_one_is_watched(
    alpha: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_SEARCH_S", 0.0)
    watch = StepWatch(os.getpid())
    watch.forget(alpha.pid)
    assert watch.look() == []
    with monkeypatch.context() as gone:
        gone.setattr(steps, "all_processes", dict)
        watch.look()
    watch.look()
    alpha.kill()
    assert wait_dead(watch) == [(alpha.pid, "alpha", "Z")]


def test_a_step_is_not_dead_because_no_file_can_be_opened(alpha: subprocess.Popen[bytes]) -> None:
    watch = StepWatch(os.getpid())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            watch.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert watch.look() == []
    assert watch.models() == {"alpha"}
