# SPDX-License-Identifier: Apache-2.0
"""Start, measure and kill a worker process with the processes that it has started."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess

from quorum.processes import (
    all_processes,
    descendants,
    end_processes,
    interpreter,
    resident_bytes,
    stat_of,
)

_PROGRAM = "quorum.serving.isolation.program"
_JIFFIES = os.sysconf("SC_CLK_TCK")


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
        self._children: dict[int, int] = {}

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def find_children(self) -> None:
        """Look for processes that the worker has started; takes milliseconds."""
        with contextlib.suppress(OSError):
            processes = all_processes()
            for ancestor in (self.pid, *self._running()):
                for child in descendants(processes, ancestor):
                    self._children[child] = processes[child].started

    def _running(self) -> list[int]:
        """Children that were found and have not ended."""
        return [pid for pid, began in self._children.items() if (s := stat_of(pid)) and s.started == began]

    def resident_bytes(self) -> int:
        """Memory of the worker and the children that were found, pages that they share counted in each."""
        total = 0
        for pid in (self.pid, *self._running()):
            with contextlib.suppress(OSError):
                total += resident_bytes(pid)
        return total

    def cpu_seconds(self) -> float:
        """CPU time that the worker has used, without its children."""
        stat = stat_of(self.pid)
        return stat.cpu / _JIFFIES if stat else 0.0

    def end(self) -> None:
        """Kill it and its children, if they still run; wait until they have ended, but not for ever."""
        self.find_children()
        own = [self.pid] if self._popen.poll() is None else []
        end_processes([*own, *self._running()])
        self.connection.close()
        self._popen.poll()

    def exit_code(self, timeout_s: float) -> int | None:
        """The exit code, as subprocess gives it; None if the worker still runs after ``timeout_s``."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
