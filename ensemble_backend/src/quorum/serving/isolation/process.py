# SPDX-License-Identifier: Apache-2.0
"""Start, measure and kill a worker process with the processes that it has started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROGRAM = "quorum.serving.isolation.program"
_JIFFIES = os.sysconf("SC_CLK_TCK")
_PARENT, _CPU, _STARTED = 1, slice(11, 13), 19
"""Fields of ``/proc/PID/stat`` after the name."""


class Process:
    """A worker process; ``connection`` is this side of its socket, which does not block.

    Start it from a thread that lives as long as it: the kernel kills it when that thread ends.
    """

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        try:
            command = [interpreter(), "-P", "-m", _PROGRAM, str(theirs.fileno()), str(os.getpid())]
            self._popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()
        self.connection.setblocking(False)
        # Process id -> when it started, so that another process with a used id is not taken for it.
        self._family = {self.pid: _started(self.pid)}

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def find_children(self) -> None:
        """Look for processes that the worker has started; takes milliseconds."""
        parents: dict[int, list[int]] = {}
        for folder in _PROC.iterdir():
            if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
                parents.setdefault(int(fields[_PARENT]), []).append(int(folder.name))
        pending = list(self._family)
        while pending:
            for pid in parents.get(pending.pop(), ()):
                if pid not in self._family:
                    self._family[pid] = _started(pid)
                    pending.append(pid)

    def resident_bytes(self) -> int:
        """Memory of the worker and the children that were found, pages that they share counted in each."""
        total = 0
        for pid in self._family:
            with contextlib.suppress(OSError, ValueError, IndexError):
                total += int((_PROC / str(pid) / "statm").read_text("ascii").split()[1]) * _PAGE
        return total

    def cpu_seconds(self) -> float:
        """CPU time that the worker has used, without its children."""
        fields = _stat(self.pid)
        return sum(map(int, fields[_CPU])) / _JIFFIES if fields else 0.0

    def end(self) -> None:
        """Kill it and its children, if they still run."""
        with contextlib.suppress(OSError):
            self.find_children()
        for pid, started in self._family.items():
            if started and _started(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.connection.close()
        self._popen.wait()

    def exit_code(self, timeout_s: float) -> int | None:
        """The exit code, as subprocess gives it; None if the worker still runs after ``timeout_s``."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


def interpreter() -> str:
    """The Python with this process's packages; a stub is no interpreter, but may claim to be one."""
    own = Path(sys.executable or "")
    if own.name.startswith("python") and os.access(own, os.X_OK):
        return str(own)
    found = shutil.which("python3")
    if not found:
        raise FileNotFoundError("no python3 on PATH to start a worker with; put its folder there")
    return found


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` after the name; empty when the process is gone."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return []


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[_STARTED] if fields else ""
