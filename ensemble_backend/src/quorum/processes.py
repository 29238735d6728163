# SPDX-License-Identifier: Apache-2.0
"""Look at the processes of this machine, as proc(5) shows them, and kill some."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SERVER_FOLDER = "QUORUM_SERVER_FOLDER"
"""Environment variable of a server and all its processes: the path of its scratch folder."""
GONE = ""
"""State of a process that does not exist."""
_MANY_OPEN_FILES = 1 << 20
STOPPED = "T"
ZOMBIE = "Z"
_DYING_S = 5.0
# They say nothing about the process that was looked at.
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Stat(NamedTuple):
    """A process.

    Attributes:
        name: Its program, as much as the kernel keeps of it: 15 letters.
        state: A letter, such as :data:`STOPPED`.
        parent: Process id of its parent.
        session: Process id of the leader of its session.
        started: When it started, in clock ticks since the machine did: tells apart processes with one id.
        cpu: CPU time that it has used, without its children, in clock ticks.
    """

    name: str
    state: str
    parent: int
    session: int
    started: int
    cpu: int


def stat_of(pid: int) -> Stat | None:
    """A process; None where there is none. OSError when this process has no file handle or memory to look."""
    try:
        head, _, tail = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")
        fields = tail.split()
        parent, session, started = (int(fields[at]) for at in (1, 3, 19))
        cpu = int(fields[11]) + int(fields[12])
        return Stat(head.partition("(")[2], fields[0], parent, session, started, cpu)
    except OSError as error:
        if error.errno in _SHORT:
            raise
    return None


def all_processes() -> dict[int, Stat]:
    """Every process by its id; takes milliseconds."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return {pid: stat for pid in pids if (stat := stat_of(pid))}


def descendants(processes: Mapping[int, Stat], ancestor: int) -> list[int]:
    """Ids of the children of a process, of their children and so on."""
    children = [pid for pid, stat in processes.items() if stat.parent == ancestor]
    return [*children, *(pid for child in children for pid in descendants(processes, child))]


def state_of(pid: int) -> str:
    """State letter of a process; :data:`GONE` when there is none."""
    stat = stat_of(pid)
    return stat.state if stat else GONE


def runs(pid: int) -> bool:
    """Whether a process exists, and is no zombie that its parent does not collect."""
    return state_of(pid) not in (GONE, ZOMBIE)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def session_of(leader: int) -> list[int]:
    """Processes of a session that still run; zombies do not count."""
    found = all_processes().items()
    return [pid for pid, stat in found if stat.session == leader and stat.state != ZOMBIE]


def end_processes(pids: Iterable[int]) -> None:
    """Kill processes and wait until they have ended: one that is still ending could make a file again.

    One that waits for a device does not die before; it is waited for no longer than 5 s.
    """
    killed = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    deadline = time.monotonic() + _DYING_S
    while any(map(runs, killed)) and time.monotonic() < deadline:
        time.sleep(0.01)


def signal_name(number: int) -> str:
    """Name of a signal; real-time signals have numbers only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def collect_zombies(session: int) -> None:
    """Collect ended processes of a session that became this process's children, as those of process 1 do."""
    for pid, stat in all_processes().items():
        if stat.session == session and stat.state == ZOMBIE:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def interpreter() -> str:
    """The Python with this process's packages; a stub is no interpreter, but may claim to be one."""
    own = Path(sys.executable or "")
    if own.name.startswith("python") and os.access(own, os.X_OK):
        return str(own)
    found = shutil.which("python3")
    if not found:
        raise FileNotFoundError("no python3 on PATH to start a worker with; put its folder there")
    return found


def most_open_files() -> int:
    """The most files that a process may open here: the hard limit, or a million where it is higher."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MANY_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_OPEN_FILES)


def raise_open_files() -> int:
    """Let this process open as many files as it may; returns how many."""
    most = most_open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return most
