# SPDX-License-Identifier: Apache-2.0
"""A model's worker process as its step sees it: ask, watch, replace.

Whatever the process does, its questions are answered: it dies, and they abstain at once; it hangs or exceeds
its memory, and it is killed. A new one starts, and until it is ready every question abstains at once.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import NamedTuple

import msgspec

from quorum.processes import signal_name
from quorum.runtimes.base import RuntimeConfigError
from quorum.runtimes.cancellation import Cancellation
from quorum.serving.admission import Recovery
from quorum.serving.answering import Done
from quorum.serving.isolation.frames import (
    Ask,
    Close,
    Drop,
    Failed,
    FrameError,
    FromWorker,
    Ping,
    Pong,
    Ready,
    Start,
    Voted,
)
from quorum.serving.isolation.link import Link
from quorum.serving.isolation.pending import Pending
from quorum.serving.isolation.process import Process
from quorum.serving.isolation.state import StateNote
from quorum.serving.packing import Admitted, unpack_votes
from quorum_contract import Status
from quorum_contract.errors import QuorumError
from quorum_contract.usage import CALLED, NOTHING

logger = logging.getLogger(__name__)

_GIB = 1 << 30
TICK_S = 0.25
HUNG_TICKS, BUSY_TICKS = 20, 120
"""Ticks without a sign of life after which a worker is killed: an idle one, and one that computes, as an LLM
does that holds the interpreter lock for a long step. A machine that stood still counts as one tick."""
_IDLE_CPU_S = 0.1
"""A worker that used less CPU in ``HUNG_TICKS`` is idle; one that computes uses more on any machine."""
_PING_TICKS = 4
_CHILDREN_TICKS = 20
_CLOSE_S = 20.0
_EXIT_S = 0.5
_PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_STEADY_S = 5.0
"""So many seconds of service take back one failure: pauses are for workers that fail again and again."""
_RESTART_S, _RESTART_TIMES = 60.0, 10
"""How long a replacement may take to start: this, or this often as long as the first."""


class WorkerFailed(QuorumError, RuntimeError):
    """A worker did not start; the message says why."""

    code = "RUNTIME_WORKER_FAILED"


class Worker:
    """The worker of one model, with its replacements.

    Args:
        model: Its name, for messages.
        start: What it serves.
        recovery: With ``RESTART`` a first process that fails is replaced like a later one; with ``RELOAD`` it
            is not waited for either.

    Raises:
        RuntimeConfigError: A runtime refused its settings.
        WorkerFailed: It failed or died while it started.
    """

    def __init__(self, model: str, start: Start, recovery: Recovery = Recovery.NONE) -> None:
        self._model, self._start, self._must_start = model, start, recovery is Recovery.NONE
        self._note = StateNote(model)
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._pending: dict[int, Pending] = {}
        self._numbers = count()
        self._stopping = threading.Event()
        self._started: Future[None] = Future()
        self._start_limit_s: float | None = None
        if recovery is Recovery.RELOAD:
            self._started.set_result(None)
        self._thread = threading.Thread(target=self._run, name="quorum-worker", daemon=True)
        self._thread.start()
        self._started.result()

    def member(self, position: int) -> WorkerMember:
        """The member at this position of the model."""
        return WorkerMember(self, position)

    def ask(self, position: int, pending: Pending, body: bytes, cancellation: Cancellation) -> None:
        """Send a question and return at once; ``pending.done`` gets the packed votes, once."""
        number = next(self._numbers)
        refused: Status | None = Status.ERROR
        with self._lock:
            if self._link is not None:
                self._pending[number] = pending
                if self._link.send(Ask(number, position, pending.deadline_ns, body)):
                    refused = None
                else:
                    del self._pending[number]
                    refused = Status.OVERLOADED
        if refused is None:
            cancellation.when_cancelled(partial(self._drop, number))
        else:
            pending.abstain(refused, NOTHING)

    def _drop(self, number: int) -> None:
        """Have the process stop working on a question; it settles it all the same."""
        with self._lock:
            if self._link is not None and number in self._pending:
                self._link.send(Drop(number))

    def close(self) -> None:
        """Stop the process in order, or kill it after a while; questions in flight are dropped."""
        self._stopping.set()
        with self._lock:
            link, self._link, self._pending = self._link, None, {}
            if link is not None:
                link.send(Close())
        self._thread.join()

    def _run(self) -> None:
        failures = 0
        while True:
            failed = self._live()
            if not self._started.done():
                if self._must_start:
                    self._started.set_exception(failed.first_error(self._model))
                    return
                self._started.set_result(None)
            if self._stopping.is_set():
                return
            failures = max(0, failures - int(failed.served_s // _STEADY_S))
            pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
            failures += 1
            self._note.lost(failed.what, pause_s)
            when = f"in {pause_s:.0f} s" if pause_s else "now"
            what = f"{failed.what}; {failed.lost} questions abstain, and a new one starts {when}"
            logger.error("%s: its worker %s", self._model, what)
            if self._stopping.wait(pause_s):
                return

    def _live(self) -> _Failure:
        """Serve with one process until it fails or the model is closed."""
        with ExitStack() as ending:
            try:
                process = Process()
                ending.callback(process.end)
                link = Link(process.connection)
                ending.callback(link.close)
                life = _Life(self, process, link)
            except Exception as error:
                return _Failure(WorkerFailed(f"could not be started: {error}"), 0, 0.0)
            try:
                link.send(msgspec.structs.replace(self._start, is_replacement=self._started.done()))
                failed = life.run()
            except FrameError as error:
                failed = life.error(f"sent {error}; it is killed")
            except Exception as error:
                logger.exception("%s: its worker could not be served", self._model)
                failed = life.error(f"could not be served: {error!r}; it is killed")
            return _Failure(failed, self._abandon(), life.served_s)

    def _abandon(self) -> int:
        """Let all questions in flight abstain; returns how many were still waited for."""
        with self._lock:
            self._link = None
            lost, self._pending = self._pending, {}
        for pending in lost.values():
            try:
                pending.abstain(Status.ERROR, CALLED)
            except Exception:
                # The others are still waited for.
                logger.exception("%s: a question could not be settled", self._model)
        now = time.monotonic_ns()
        return sum(pending.deadline_ns > now for pending in lost.values())

    def is_stopping(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._stopping.is_set()

    def open(self, link: Link, took_s: float) -> None:
        """Send questions over this link from now on."""
        with self._lock:
            if self._stopping.is_set():
                return
            self._link = link
        self._note.ready()
        if self._start_limit_s is None:
            self._start_limit_s = max(_RESTART_S, _RESTART_TIMES * took_s)
        if self._started.done():
            logger.warning("%s: a new worker answers, after %.1f s", self._model, took_s)
        else:
            self._started.set_result(None)

    def settle(self, voted: Voted) -> None:
        """Hand on the votes of a question."""
        pending = self._pending.pop(voted.number, None)
        if pending is None:
            return
        try:
            fit = len(unpack_votes(voted.votes)) == pending.attributes
        except ValueError:
            fit = False
        if fit:
            pending.done(voted.votes)
        else:
            logger.error("%s: its worker sent other votes than were asked for", self._model)
            pending.abstain(Status.ERROR, CALLED)

    @property
    def start_limit_s(self) -> float | None:
        """How long the next process may take to start; None: as long as it takes, as none has started yet."""
        return self._start_limit_s

    @property
    def limit_bytes(self) -> float | None:
        """The memory that the process may have."""
        limit = self._start.memory_limit_gib
        return None if limit is None else limit * _GIB

    def is_overdue(self) -> bool:
        """Whether the time of some question is up."""
        now = time.monotonic_ns()
        with self._lock:
            return any(pending.deadline_ns < now for pending in self._pending.values())


class WorkerMember:
    """One member of a worker's model."""

    def __init__(self, worker: Worker, position: int) -> None:
        self._worker, self._position = worker, position

    def ask(
        self, admitted: Admitted, body: bytes, deadline_ns: int, done: Done, cancellation: Cancellation
    ) -> None:
        """Pass the packed question on; see :meth:`Worker.ask`."""
        pending = Pending(deadline_ns, len(admitted.attributes), done)
        self._worker.ask(self._position, pending, body, cancellation)


class _Failure(NamedTuple):
    """Why a process ended, how many questions it left, and for how long it had been ready."""

    error: WorkerFailed | RuntimeConfigError
    lost: int
    served_s: float

    @property
    def what(self) -> str:
        """What happened to "its worker"."""
        return str(self.error) if isinstance(self.error, WorkerFailed) else f"did not start: {self.error}"

    def first_error(self, model: str) -> Exception:
        """The error of a model whose first worker this was."""
        if isinstance(self.error, WorkerFailed):
            return WorkerFailed(f"{model}: its worker {self.error}")
        return self.error


class _Life:
    """One process, from its start to its end."""

    def __init__(self, worker: Worker, process: Process, link: Link) -> None:
        self._worker, self._process, self._link = worker, process, link
        self._began = time.monotonic()
        self._ready_at: float | None = None
        self._failed: WorkerFailed | RuntimeConfigError | None = None
        self._ticks = self._silent = self._overdue = self._quiet = 0
        self._cpu_s = 0.0
        self._pinged = self._settled = False
        self._close_by: float | None = None

    @property
    def served_s(self) -> float:
        """How long it has been ready."""
        return 0.0 if self._ready_at is None else time.monotonic() - self._ready_at

    def run(self) -> WorkerFailed | RuntimeConfigError:
        """Take what the process sends until it ends or has to; returns why."""
        next_tick = time.monotonic() + TICK_S
        while True:
            for message in self._link.receive(next_tick - time.monotonic()):
                self._take(message)
            if self._failed:
                return self._failed
            if not self._link.is_open:
                return self.error(self._how_it_ended())
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                if fault := self._find_fault(now):
                    return self.error(fault)

    def error(self, what: str) -> WorkerFailed:
        """The error that it did ``what``."""
        return WorkerFailed(f"(pid {self._process.pid}) {what}")

    def _take(self, message: FromWorker) -> None:
        match message:
            case Voted():
                self._settled = True
                self._worker.settle(message)
            case Pong():
                self._pinged, self._silent = False, 0
            case Ready():
                self._process.find_children()
                if fault := self._find_excess():
                    self._failed = self.error(fault)
                    return
                self._ready_at = time.monotonic()
                self._worker.open(self._link, self._ready_at - self._began)
            case Failed(text, is_settings):
                self._failed = (
                    RuntimeConfigError(text) if is_settings else WorkerFailed(f"did not start: {text}")
                )

    def _find_fault(self, now: float) -> str | None:
        """Why the process has to end; called every ``TICK_S``, however long the machine stood still."""
        self._ticks += 1
        if self._worker.is_stopping():
            return self._closed_too_late(now)
        if self._ticks % _CHILDREN_TICKS == 0:
            self._process.find_children()
        if fault := self._find_excess():
            return fault
        if self._ready_at is None:
            longest = self._worker.start_limit_s
            late = longest is not None and now - self._began > longest
            return f"was not ready after {longest:.0f} s; it is killed" if late else None
        return self._find_hang()

    def _find_excess(self) -> str | None:
        limit = self._worker.limit_bytes
        if limit is None or (resident := self._process.resident_bytes()) <= limit:
            return None
        has = f"has {resident / _GIB:.2f} GiB of memory, and memory_limit_gib is {limit / _GIB:g}"
        return f"{has}; it is killed"

    def _find_hang(self) -> str | None:
        if self._pinged:
            self._silent += 1
        elif self._ticks % _PING_TICKS == 0:
            self._pinged = self._link.send(Ping())
        self._overdue = 0 if self._settled or not self._worker.is_overdue() else self._overdue + 1
        self._settled = False
        if self._overdue >= BUSY_TICKS:
            return _unsettled(BUSY_TICKS)
        if not self._silent and not self._overdue:
            self._quiet = 0
        elif self._is_idle():
            if self._silent >= HUNG_TICKS:
                return f"gave no sign of life for {HUNG_TICKS * TICK_S:.0f} s; it is killed"
            if self._overdue >= HUNG_TICKS:
                return _unsettled(HUNG_TICKS)
        return None

    def _is_idle(self) -> bool:
        """Whether the process has used no CPU for ``HUNG_TICKS``, at the end of each such time."""
        if self._quiet == 0:
            self._cpu_s = self._process.cpu_seconds()
        self._quiet = (self._quiet + 1) % (HUNG_TICKS + 1)
        return self._quiet == 0 and self._process.cpu_seconds() - self._cpu_s < _IDLE_CPU_S

    def _closed_too_late(self, now: float) -> str | None:
        if self._ready_at is None:
            return "is stopped while it starts"
        self._close_by = self._close_by or now + _CLOSE_S
        if now <= self._close_by:
            return None
        fault = f"did not stop within {_CLOSE_S:.0f} s; it is killed"
        logger.warning("a worker (pid %d) %s", self._process.pid, fault)
        return fault

    def _how_it_ended(self) -> str:
        code = self._process.exit_code(_EXIT_S)
        if code is None:
            return "closed its connection; it is killed"
        if code < 0:
            return f"was ended by {signal_name(-code)}"
        return f"ended with exit code {code}"


def _unsettled(ticks: int) -> str:
    return f"settled nothing for {ticks * TICK_S:.0f} s past a deadline; it is killed"
