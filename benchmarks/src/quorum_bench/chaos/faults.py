# SPDX-License-Identifier: Apache-2.0
"""The faults: what breaks, how it is broken, and how it is lifted."""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from quorum.deployment.schema import Deployment
from quorum.processes import runs
from quorum_bench.chaos.errors import ProcessNotFound
from quorum_bench.chaos.processes import found
from quorum_contract import GATE, VOTE

_RUN_S, _STOPPED_S = 0.005, 0.045
_ROOM_BYTES = 4 * 2**20
_DYING_S = 5.0

RUNTIME_FAULTS = ("raise", "hang", "block", "slow", "garbage", "memory", "exit")
"""Rehearsed by the runtime ``replay`` (:class:`quorum.runtimes.options.ReplayOptions`)."""

Lift = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break one part.

    Attributes:
        kind: A runtime fault, ``kill`` (SIGKILL), ``stop`` (SIGSTOP), ``slow`` (a tenth of its time), or
            ``starve`` (no more memory).
        targets: What is broken: ``(kind of process, model)``.
    """

    kind: str
    targets: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """What is broken, for tables."""
        if len(self.targets) > 2:
            return f"all {self.targets[0][0]}s"
        return ", ".join(_name_of(part, model) for part, model in self.targets)

    @property
    def members(self) -> frozenset[str]:
        """Members that may abstain while it lasts."""
        return frozenset(model for part, model in self.targets if part != "server") - {GATE, VOTE}

    @property
    def spares_steps(self) -> bool:
        """Whether no process of Triton is touched, so that every call must get an answer or a refusal."""
        return all(part in ("runtime", "worker") for part, _ in self.targets)

    @property
    def spares_graph(self) -> bool:
        """Whether only members are touched, so that the others must go on voting."""
        return self.members == {model for _, model in self.targets}

    @property
    def must_show(self) -> bool:
        """Whether the broken members must abstain meanwhile; otherwise nothing was broken."""
        return self.spares_steps and self.kind not in ("slow", "kill")

    @property
    def lasts(self) -> bool:
        """Whether it must be lifted."""
        return self.kind != "kill"


def _name_of(part: str, model: str) -> str:
    if part == "stub":
        return model if model in (GATE, VOTE) else f"step of {model}"
    return f"{part} of {model}" if model else part


def begin(fault: Fault, spec: Deployment, faults_folder: Path) -> Lift:
    """Break the targets; returns the function that lifts the fault.

    Raises:
        ProcessNotFound: A process that is to be broken does not run, or did not break.
        ValueError: No process can be broken in that way.
    """
    if all(part == "runtime" for part, _ in fault.targets):
        return _rehearse(fault.kind, [faults_folder / model for _, model in fault.targets])
    processes = [found(spec, part, model) for part, model in fault.targets]
    match fault.kind:
        case "kill":
            _kill(processes)
            return lambda: None
        case "stop":
            _signal(processes, signal.SIGSTOP)
            return lambda: _signal(processes, signal.SIGCONT)
        case "slow":
            return _slow(processes)
        case "starve":
            return _starve(processes)
    raise ValueError(f"no fault {fault.kind!r} for processes")


def _rehearse(kind: str, files: Sequence[Path]) -> Lift:
    for file in files:
        file.write_text(kind, encoding="ascii")

    def lift() -> None:
        for file in files:
            file.write_text("", encoding="ascii")

    return lift


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _kill(processes: Sequence[psutil.Process]) -> None:
    """Kill the processes; raises ProcessNotFound if one was gone before or outlives it."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess as error:
            raise ProcessNotFound(f"{error}, before it was killed") from error
    end = time.monotonic() + _DYING_S
    while left := [process.pid for process in processes if runs(process.pid)]:
        if time.monotonic() > end:
            raise ProcessNotFound(f"processes {left} outlive SIGKILL")
        time.sleep(0.002)


def _slow(processes: Sequence[psutil.Process]) -> Lift:
    """Let the processes run for a tenth of the time."""
    over = threading.Event()

    def alternate() -> None:
        while not over.is_set():
            _signal(processes, signal.SIGSTOP)
            over.wait(_STOPPED_S)
            _signal(processes, signal.SIGCONT)
            over.wait(_RUN_S)
        _signal(processes, signal.SIGCONT)

    thread = threading.Thread(target=alternate, name="chaos-slow", daemon=True)
    thread.start()

    def lift() -> None:
        over.set()
        thread.join()

    return lift


def _starve(processes: Sequence[psutil.Process]) -> Lift:
    """Refuse the processes more memory than they have and a little."""
    for process in processes:
        most = process.memory_info().data + _ROOM_BYTES
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))

    def lift() -> None:
        for process in processes:
            with contextlib.suppress(OSError):
                resource.prlimit(
                    process.pid, resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                )

    return lift
