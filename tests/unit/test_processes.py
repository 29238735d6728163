# SPDX-License-Identifier: Apache-2.0
"""Processes are seen as the kernel shows them: real ones, that run, end and become zombies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from quorum.processes import GONE, ZOMBIE, descendants, runs, stat_of, state_of


def test_a_process_is_seen_whatever_its_name_is(tmp_path: Path) -> None:
    program = tmp_path / "a (b) c"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        stat = stat_of(process.pid)
        assert stat is not None
        assert (stat.name, stat.parent, stat.session) == (program.name, os.getpid(), os.getsid(0))
        assert runs(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert state_of(process.pid) == ZOMBIE
        assert not runs(process.pid)
    assert (state_of(process.pid), stat_of(process.pid)) == (GONE, None)


def test_descendants_are_children_and_their_children() -> None:
    own = stat_of(os.getpid())
    assert own
    family = {1: 0, 2: 1, 3: 2, 4: 1, 5: 9}
    processes = {pid: own._replace(parent=parent) for pid, parent in family.items()}
    assert sorted(descendants(processes, 1)) == [2, 3, 4]
    assert descendants(processes, 3) == []


def test_zombies_that_process_1_would_get_are_collected() -> None:
    program = """
import ctypes, os, signal, subprocess, sys
from quorum.processes import collect_zombies, end_processes, session_of
import psutil
# Orphans become children of this process, as of process 1 of a container.
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
sleeper = ["sh", "-c", "sleep 60 & echo $!; wait"]
server = subprocess.Popen(sleeper, stdout=subprocess.PIPE, start_new_session=True)
step = int(server.stdout.readline())
os.killpg(server.pid, signal.SIGKILL)
server.wait()
end_processes(session_of(server.pid))
print([child.pid for child in psutil.Process().children()] == [step])
collect_zombies(server.pid)
print(psutil.Process().children())
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "True\n[]\n"
