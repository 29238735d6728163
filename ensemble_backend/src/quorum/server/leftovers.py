# SPDX-License-Identifier: Apache-2.0
"""Find and remove what dead servers of this user left: processes, shared memory and scratch folders."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from quorum.files import sweep_scratch
from quorum.processes import end_processes, runs
from quorum.records import Record
from quorum.serving.admission import SHARED_MEMORY, shared_files

SCRATCH = "quorum-server-"
"""Begin of the name of a server's scratch folder, which also marks its processes and its shared memory."""
PID_FILE = "pid"
MARK = "QUORUM_SERVER"
"""Environment variable of a server and all its processes: the name of its scratch folder."""


@dataclass(frozen=True, slots=True)
class Removed(Record):
    """What was removed.

    Attributes:
        processes: Ids of processes that were ended.
        files: Files of shared memory, and scratch folders.
    """

    processes: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def remove_traces(folder: Path) -> None:
    """Remove what a temporary server with its log in ``folder``, which was killed, left in shared memory."""
    for scratch in folder.glob(f"{SCRATCH}*"):
        _remove_shared_memory(scratch)


def sweep_killed() -> Removed:
    """End processes of this user's servers that outlived them; remove scratch and memory of dead servers."""
    removed = Removed()

    def remove(scratch: Path) -> None:
        removed.files.extend([*_remove_shared_memory(scratch), str(scratch)])

    dead = {}
    for scratch in Path(tempfile.gettempdir()).glob(f"{SCRATCH}[0-9]*-*"):
        with contextlib.suppress(OSError, ValueError):
            if scratch.lstat().st_uid == os.geteuid():
                dead[scratch.name] = int((scratch / PID_FILE).read_text("ascii"))
    # A look at all processes takes milliseconds, which a start without leftovers saves.
    if dead:
        removed.processes.extend(_end_orphans(dead))
    sweep_scratch(SCRATCH, remove)
    return removed


def processes_of(scratch: str) -> list[int]:
    """Processes that carry the mark of the server with that scratch folder, also in other sessions."""
    return _marked({scratch}).get(scratch, [])


def _marked(marks: Container[str]) -> dict[str, list[int]]:
    """Mark -> processes that carry it and count their ids as this one does.

    Other containers may share the folder of scratch folders, and have other ids in their records.
    """
    found: dict[str, list[int]] = {}
    own = _id_namespace("self")
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK, "")
            if mark in marks and runs(process.pid) and _id_namespace(process.pid) == own:
                found.setdefault(mark, []).append(process.pid)
    return found


def _id_namespace(pid: int | str) -> str:
    """The namespace in which a process has its id."""
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def _end_orphans(servers: dict[str, int]) -> list[int]:
    """Kill the processes of servers (mark -> process id) that are dead."""
    marked = _marked(servers)
    orphans = [pid for mark, pids in marked.items() if servers[mark] not in pids for pid in pids]
    end_processes(orphans)
    return orphans


def _remove_shared_memory(scratch: Path) -> list[str]:
    """Remove what the dead server of a scratch folder left in shared memory; returns the files."""
    traces = list(SHARED_MEMORY.glob(f"{scratch.name}_*"))
    with contextlib.suppress(OSError, ValueError):
        pid = int((scratch / PID_FILE).read_text("ascii"))
        # Process ids are reused: one that is alive is another server's.
        traces += [] if runs(pid) else shared_files(pid)
    for trace in traces:
        trace.unlink(missing_ok=True)
    return sorted(map(str, traces))
