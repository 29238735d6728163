# SPDX-License-Identifier: Apache-2.0
"""The worker process: serves the members of one model until its step ends.

``python -m quorum.serving.isolation.program SOCKET PARENT`` is started by :mod:`.process`, with the inherited
socket and the process id of the step.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from quorum.runtimes.base import RuntimeConfigError
from quorum.runtimes.cancellation import Cancellation
from quorum.serving.answering import Answering, start_runtimes
from quorum.serving.isolation.frames import (
    Ask,
    Close,
    Drop,
    Failed,
    Frames,
    FromWorker,
    Ping,
    Pong,
    Ready,
    Start,
    ToWorker,
    Voted,
    frame,
)
from quorum.serving.log import limit_repeats, log_as
from quorum.serving.packing import unpack_question
from quorum.tasks.catalogue import Catalogue

# Run as a program the module is named `__main__`.
logger = logging.getLogger("quorum.serving.isolation.program")

_GIB = 1 << 30
_PDEATHSIG = 1
_READ_BYTES = 1 << 16
NICE = 1
"""How much a worker yields to gate, vote and its step."""
_OOM_SCORE = "500"
_ORPHANED = 9
_FENCE, _FENCE_GIB = 1.25, 0.5


class Connection:
    """The worker's end of the socket; its methods end the process when the step is gone."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket, self._lock = connected, threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Send a message, from any thread."""
        data = frame(message)
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            os._exit(_ORPHANED)

    def messages(self) -> Iterator[ToWorker]:
        """Yield what the step sends."""
        frames: Frames[ToWorker] = Frames(ToWorker)
        while True:
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError:
                data = b""
            if not data:
                os._exit(_ORPHANED)
            yield from frames.add(data)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exit if it has already."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(_ORPHANED)


def yield_to_others() -> None:
    """Let the rest of the server run first where CPU is short."""
    with contextlib.suppress(OSError):
        os.nice(NICE)


def end_before_others() -> None:
    """Let the kernel end this process before the server's others when memory is out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, "ascii")


def fence_memory(limit_gib: float) -> None:
    """Refuse allocations somewhat above a limit: its watcher could miss a sudden jump."""
    fence = int((limit_gib * _FENCE + _FENCE_GIB) * _GIB)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY or fence < most:
        resource.setrlimit(resource.RLIMIT_DATA, (fence, fence))


def serve(connection: Connection) -> None:
    """Start the runtimes that the first message names, then answer until :class:`Close`."""
    messages = connection.messages()
    start = next(messages)
    if not isinstance(start, Start):
        raise TypeError(f"the first message is {start!r}")
    log_as("worker", [member["name"] for member in start.members])
    if start.memory_limit_gib is not None:
        fence_memory(start.memory_limit_gib)
    if start.is_replacement:
        yield_to_others()
    try:
        catalogue = Catalogue.load(Path(start.catalogue))
        members = start_runtimes(start.members, Path(start.root), catalogue)
    except RuntimeConfigError as error:
        connection.send(Failed(str(error), True))
        return
    except Exception as error:
        logger.exception("a runtime did not start")
        connection.send(Failed(f"{type(error).__name__}: {error}", False))
        return
    if not start.is_replacement:
        yield_to_others()
    connection.send(Ready())
    Questions(connection, members).take(messages)
    for member in members:
        member.close()


class Questions:
    """The questions that this process has not settled yet."""

    def __init__(self, connection: Connection, members: Sequence[Answering]) -> None:
        self._connection, self._members = connection, members
        self._open: dict[int, Cancellation] = {}

    def take(self, messages: Iterator[ToWorker]) -> None:
        """Do what the messages say, until :class:`Close`."""
        for message in messages:
            if isinstance(message, Ask):
                self._ask(message)
            elif isinstance(message, Drop):
                self._drop(message.number)
            elif isinstance(message, Ping):
                self._connection.send(Pong())
            elif isinstance(message, Close):
                return

    def _ask(self, ask: Ask) -> None:
        cancellation = self._open[ask.number] = Cancellation()
        question, done = unpack_question(ask.question), partial(self._settle, ask.number)
        self._members[ask.position].ask(question, ask.question, ask.deadline_ns, done, cancellation)

    def _drop(self, number: int) -> None:
        if cancellation := self._open.get(number):
            cancellation.cancel()

    def _settle(self, number: int, votes: bytes) -> None:
        self._open.pop(number, None)
        self._connection.send(Voted(number, votes))


def main() -> None:
    """Serve the step that started this process."""
    descriptor, parent = map(int, sys.argv[1:])
    end_with(parent)
    end_before_others()
    limit_repeats()
    status = 1
    try:
        serve(Connection(socket.socket(fileno=descriptor)))
        status = 0
    except BaseException:
        logger.exception("the worker failed")
    finally:
        # Threads of a runtime that hangs must not keep the process.
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
