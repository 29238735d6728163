# SPDX-License-Identifier: Apache-2.0
"""PDEATHSIG and ASLR flags set before exec, on a real kernel."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.layout import may_do_without_aslr

from quorum.server.launch import NO_EFFECT, has_aslr, launch_command, most_open_files

SHOW = ["/bin/cat", "/proc/self/personality"]
# A seccomp filter as containers have one: personality() may be asked for, and not be changed (EPERM).
REFUSING = """
import ctypes, os, struct, sys
load, equal, ret = 0x20, 0x15, 0x06
program = [
    (load, 0, 0, 0), (equal, 0, 3, 135), (load, 0, 0, 16), (equal, 1, 0, 0xFFFFFFFF),
    (ret, 0, 0, 0x00050001), (ret, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
libc = ctypes.CDLL(None)
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, filter) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def elsewhere(function: Callable[[], Any]) -> Any:
    """What a function returns on a thread that is not the main one."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


needs_personality = pytest.mark.skipif(
    not may_do_without_aslr(), reason="no setarch here, or a seccomp profile refuses personality()"
)


@needs_personality
@pytest.mark.parametrize("on", [lambda function: function(), elsewhere], ids=["main thread", "another"])
def test_a_layout_that_is_asked_for_is_given(on: Callable[[Callable[[], Any]], Any]) -> None:
    inherited = int(output(SHOW), 16)
    assert int(output(on(lambda: launch_command(SHOW, aslr=True))), 16) == inherited
    assert int(output(on(lambda: launch_command(SHOW, aslr=False))), 16) == inherited | 0x0040000


def test_what_is_refused_is_said_and_the_command_runs() -> None:
    refused = [sys.executable, "-c", REFUSING, *launch_command(SHOW, aslr=False)]
    said, shown = output(refused).splitlines()
    assert said == f"quorum: {NO_EFFECT}"
    assert not int(shown, 16) & 0x0040000


@needs_personality
def test_a_process_tells_its_layout_or_nothing() -> None:
    process = subprocess.Popen(
        ["setarch", "-R", sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert has_aslr(process.pid) is False
    process.communicate(b"\n")
    assert has_aslr(process.pid) is None
    assert has_aslr(os.getpid()) is not None


def test_a_process_is_killed_with_its_parent() -> None:
    """It ignores what asks it to end in order."""
    child = [
        sys.executable,
        "-c",
        "import signal; signal.signal(15, signal.SIG_IGN); print(0, flush=True); input()",
    ]
    program = (
        "import subprocess; from quorum.server.launch import launch_command\n"
        f"subprocess.run(launch_command({child}, aslr=True))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    parent = subprocess.Popen([sys.executable, "-c", program], **pipes)  # type: ignore[call-overload]
    assert parent.stdout.readline() == b"0\n"
    parent.send_signal(signal.SIGKILL)
    # The end of the file comes when the last process that has it is gone.
    assert parent.stdout.read() == b""
    parent.communicate()


@pytest.mark.parametrize("soft", [512, 1024])
def test_a_command_may_open_as_many_files_as_is_allowed(soft: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        shown = output(launch_command(["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"], aslr=True))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert int(shown.split()[0]) == most_open_files() > soft
    assert int(shown.split()[1]) == before[1]


def test_nothing_is_started_for_a_parent_that_has_ended() -> None:
    """As one that was killed before the kernel knew that its child ends with it."""
    command = launch_command(["/bin/echo", "started"], aslr=True)
    other = f"import subprocess; raise SystemExit(subprocess.run({command}, timeout=60).returncode)"
    shown = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "has ended" in shown.stderr
