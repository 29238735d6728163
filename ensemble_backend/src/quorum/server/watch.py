# SPDX-License-Identifier: Apache-2.0
"""Keep a server serving: find what is dead, stopped or silent, and bring it back.

A step whose process died is reloaded, which takes a fraction of a second and leaves the other steps alone.
Everything else, and a reload that does not help, is a restart of the whole server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from quorum.processes import GONE, STOPPED, end_processes, session_of, state_of
from quorum.repository.history import utc
from quorum.server import log_file
from quorum.server.heartbeat import Heartbeat
from quorum.server.incidents import IncidentJournal
from quorum.server.life import SILENCE_S
from quorum.server.prepare import prepare_again
from quorum.server.reload import Reload, missing_models
from quorum.server.runfile import find_running, leave_note
from quorum.server.steps import DeadStep, StepWatch, waited_for_cpu_s
from quorum.server.supervise import running_of
from quorum.server.triton import TritonServer
from quorum.server.workers import WorkerWatch
from quorum.serving.admission import Recovery
from quorum_contract.errors import QuorumError

_LOOK_S = 0.1
_FILES_LOOK_S = 5.0
_STOPPED_S = 1.0
# A server that waits for a CPU half of this time is starved, and may be silent so many times longer.
_SAMPLE_S = 0.5
_STARVED = 4
_STARTING_S = 2.0
# How long a reload may show no new process, and channels no answer after one.
_PATIENCE_S = 3.0
_LOADING_S = 7.0
# Pauses before a restart: none, 1, 2, 4 ... 30 s. Each 10 s of health take one back, a minute all of them.
_HEALTHY_S = 10.0
_LONGEST_PAUSE_S = 30.0
_LEVELS = 6


class Supervisor:
    """Brings one server back from each fault, and calls ``report`` with each finding and action."""

    def __init__(
        self,
        server: TritonServer,
        report: Callable[[str], None],
        heart: Heartbeat,
        start_timeout_s: float,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._server, self._heart, self._life = server, heart, server.life
        self._report_to, self._start_timeout_s = report, start_timeout_s
        self._interrupted = interrupted
        self._incidents = IncidentJournal(server.spec, server.life.incidents)
        self._workers = WorkerWatch(self._incidents, self._report, server.repository)
        self._steps = StepWatch(server.pid or 0)
        self._reloads: dict[str, Reload] = {}
        self._acted_at = self._ready_at = self._files_at = self._runs_at = time.monotonic()
        self._restarted_at: float | None = None
        self._expected: set[str] = set()
        self._attempts = 0

    def look(self) -> None:
        """Look once, and do what is needed; a restart returns when a channel answers again."""
        self._stop_if_interrupted()
        pid, life = self._server.pid, self._life
        if pid is None:
            self._restart(self._server.ended, "tritonserver")
        elif self._is_stopped(pid):
            self._restart("is stopped", f"tritonserver {pid}")
        elif life.is_silent and not self._reloads and self._is_late(life.silent_for_s, life.silence_s, pid):
            self._restart(f"has not answered for {life.silence_s:g} s", f"tritonserver {pid}")
        else:
            for step in self._steps.look():
                self._see_to(step)
            self._see_to_reloads(pid)
        self._settle()
        self._workers.look(self._server.pid)
        if time.monotonic() - self._files_at > _FILES_LOOK_S:
            self._files_at = time.monotonic()
            self._see_to_files()

    def _see_to_files(self) -> None:
        """Keep the log small; write the record again where it was removed, or the disk was full."""
        pid = self._server.pid
        if pid is not None and find_running(self._server.spec) is None:
            # While the disk is full, the next look may find room.
            with suppress(OSError):
                self._leave_note(pid)
        log_file.bound(self._server.log_path)

    def _leave_note(self, pid: int) -> None:
        server = self._server
        leave_note(server.spec, running_of(server, pid))

    def _is_stopped(self, pid: int) -> bool:
        """Whether the server is stopped (SIGSTOP) for longer than a shell's job control takes."""
        now = time.monotonic()
        if state_of(pid) != STOPPED:
            self._runs_at = now
        return now - self._runs_at > _STOPPED_S

    def _is_late(self, seconds: float, limit_s: float, pid: int) -> bool:
        """Whether something takes too long; a server that waits for a CPU has longer, but not for ever."""
        if seconds <= limit_s or seconds > _STARVED * limit_s:
            return seconds > limit_s
        processes = [pid, *session_of(pid)]
        before = waited_for_cpu_s(processes)
        time.sleep(_SAMPLE_S)
        return waited_for_cpu_s(processes) - before <= _SAMPLE_S / 2

    def _see_to(self, step: DeadStep) -> None:
        """Reload the model of a step that is dead, unless its process ended in order."""
        if step.state == STOPPED:
            end_processes([step.pid])
        models = missing_models(self._server, self._steps, step)
        orphans = self._steps.orphans_of(step.pid)
        self._steps.forget(step.pid)
        for model in models:
            if model in self._reloads:
                continue
            self._begin(str(step), f"{model} {step.pid}", "reloading it")
            self._reloads[model] = Reload(self._server, model, self._start_timeout_s, orphans)

    def _see_to_reloads(self, pid: int) -> None:
        for model, reload in self._reloads.items():
            if reload.error:
                return self._restart(f"could not be reloaded: {reload.error}", model)
            wait_s = _PATIENCE_S
            if reload.took_s is not None:
                wait_s += 2 * reload.took_s
            elif reload.seconds > _PATIENCE_S and self._steps.working(model) > reload.working:
                # It loads, perhaps an LLM; never longer than all of them together took.
                wait_s += max(_LOADING_S, 1.5 * self._server.ready_after_s)
            if self._is_late(reload.seconds, wait_s, pid):
                return self._restart("did not come back by a reload", model)
        return None

    def _settle(self) -> None:
        """Note the end of an incident, once every channel that answered before does so again."""
        if self._incidents.open is None or any(r.took_s is None for r in self._reloads.values()):
            return
        if self._life.answer_since(self._acted_at, self._expected):
            if self._restarted_at is not None:
                self._server.ready_after_s = time.monotonic() - self._restarted_at
                self._restarted_at = None
            done = "reloaded it" if self._reloads else ""
            self._reloads.clear()
            self._heart.hurry(False)
            self._server.set_recovery(Recovery.NONE)
            if (incident := self._incidents.end(done)) and incident.seconds is not None:
                self._report(
                    f"{incident.process}: every channel answers again after {incident.seconds:.1f} s"
                )

    def _begin(self, found: str, process: str, done: str) -> None:
        if self._incidents.open is None:
            self._expected = self._life.answering()
        # What interrupts a start says nothing about how long one takes.
        self._restarted_at = None
        self._incidents.begin(found, process, done)
        self._report(f"{process} {found}; {done}")
        self._acted_at = time.monotonic()
        self._heart.hurry()

    def _restart(self, found: str, process: str) -> None:
        """Restart the server until a channel answers; a restart that fails is repeated, ever more slowly."""
        self._begin(found, process, "restarting the server")
        self._reloads.clear()
        healthy_s = time.monotonic() - self._ready_at
        self._attempts = max(0, self._attempts - int(healthy_s // _HEALTHY_S))
        while True:
            self._stop_if_interrupted()
            if self._attempts:
                self._server.end()
                pause_s = min(2.0 ** (self._attempts - 1), _LONGEST_PAUSE_S)
                attempt = self._life.restarts + 1
                self._incidents.go_on(f"restarting the server in {pause_s:g} s, attempt {attempt}")
                time.sleep(pause_s)
            self._attempts = min(self._attempts + 1, _LEVELS)
            self._life.restarts += 1
            try:
                self._start_again()
            except (QuorumError, OSError) as error:
                why = str(error) if self._life.restarts == 1 else str(error).partition("\n")[0]
                self._report(f"restart {self._life.restarts} failed: {why}")
                continue
            break
        self._incidents.go_on(f"restarted the server, attempt {self._life.restarts}")
        self._life.restarts = 0
        self._ready_at = time.monotonic()

    def _start_again(self) -> None:
        """Start the server anew; returns once a channel answers, or raises ServerProcessError."""
        server = self._server
        server.end()
        prepare_again(server.spec, server.repository, self._report)
        self._restarted_at = time.monotonic()
        server.start_again()
        pid = server.pid
        if pid is None:
            raise server.failure("stopped while starting")
        server.set_recovery(Recovery.RESTART)
        try:
            self._leave_note(pid)
        except OSError as error:
            self._report(f"other commands will not find the server: {error}")
        self._acted_at = self._runs_at = time.monotonic()
        self._steps = StepWatch(pid)
        lost_at: list[float] = []

        def answers() -> bool:
            self._stop_if_interrupted()
            if server.pid is not None and self._is_stopped(server.pid):
                raise server.failure("was stopped while starting")
            # A server that gives up collects its steps and says why; a zombie is one that it waits for.
            if dead := [step for step in self._steps.look() if step.state != GONE]:
                lost_at.append(time.monotonic())
                if lost_at[-1] - lost_at[0] > _STARTING_S:
                    raise server.failure(f"lost {dead[0].model or 'a step'} while starting")
            return any(at > self._acted_at for at in self._life.answered_at.values())

        server.wait_ready(answers, self._start_timeout_s)

    def _stop_if_interrupted(self) -> None:
        # Python drops what a signal handler raises while a finaliser runs.
        if self._interrupted():
            raise KeyboardInterrupt

    def _report(self, text: str) -> None:
        # A terminal or a pipe that is gone is no reason to stop serving.
        with suppress(OSError):
            self._report_to(f"{utc(time.time())} {text}")


def keep_serving(
    server: TritonServer,
    report: Callable[[str], None],
    *,
    silence_s: float = SILENCE_S,
    start_timeout_s: float = 120.0,
    interrupted: Callable[[], bool] = lambda: False,
) -> NoReturn:
    """Keep a server of :func:`quorum.serve` serving, from the main thread and for ever.

    A server that ends, or of which no channel answers for ``silence_s``, is restarted at the same addresses
    with the same key; a step whose process dies is reloaded. Requests that were lost are not asked again.
    Each incident is also noted in ``.quorum/incidents.jsonl``.

    Args:
        server: The server, which answers.
        report: Called with a line for each finding and action.
        silence_s: Seconds without an answer of any channel after which the server is killed and restarted.
        start_timeout_s: How long a restart may take until a channel answers.
        interrupted: Asked all the time; where it is true, KeyboardInterrupt is raised.
    """
    server.life.silence_s = silence_s
    with Heartbeat(server.spec, server.endpoint.grpc_url, server.life) as heart:
        supervisor = Supervisor(server, report, heart, start_timeout_s, interrupted)
        while True:
            try:
                supervisor.look()
            except Exception as error:
                # Whatever it is (no memory, no file handles), the server may still answer callers.
                with suppress(OSError):
                    report(
                        f"{utc(time.time())} supervision failed, and goes on: {type(error).__name__}: {error}"
                    )
                time.sleep(1)
            time.sleep(_LOOK_S)
