# SPDX-License-Identifier: Apache-2.0
"""Watch the processes of a server's steps: one that dies stays a zombie, and Triton goes on asking it.

A look reads one small file for each process; a question would wait behind those that the dead step holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quorum.processes import (
    GONE,
    STOPPED,
    ZOMBIE,
    Stat,
    all_processes,
    descendants,
    state_of,
)

_STUB = "triton_python_backend_stub"
# The kernel keeps so many letters of a program's name.
_STUB_NAME = _STUB[:15]
# Instance 0 on CPU 0 of model `alpha` is called `alpha_0_0`.
_INSTANCE = re.compile(r"(.+)_\d+_\d+")
_SEARCH_S = 0.5
_CERTAIN_S = 0.15
_STOPPED_S = 0.4


@dataclass(frozen=True, slots=True)
class DeadStep:
    """A process of a step that works no more.

    Attributes:
        pid: The process.
        model: Its model; empty if it had died before anybody looked.
        state: :data:`GONE`, ``Z`` for a zombie or :data:`STOPPED`.
    """

    pid: int
    model: str
    state: str

    def __str__(self) -> str:
        """What was found, for people."""
        return "is stopped" if self.state == STOPPED else "has died"


def find_steps(server: int) -> dict[int, str]:
    """Processes of the steps of a server -> their models; "" for a zombie, whose model is unknown."""
    return _steps_in(all_processes(), server)


def _steps_in(processes: Mapping[int, Stat], server: int) -> dict[int, str]:
    found = {}
    for pid, stat in processes.items():
        if stat.parent == server and stat.name == _STUB_NAME:
            model = "" if stat.state == ZOMBIE else _model_of(pid)
            if model or stat.state == ZOMBIE:
                found[pid] = model
    return found


def waited_for_cpu_s(pids: Iterable[int]) -> float:
    """Seconds that threads of these processes were ready to run and had no CPU, added up over all threads."""
    waited_ns = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            with suppress(OSError, ValueError, IndexError):
                waited_ns += int((thread / "schedstat").read_text("ascii").split()[1])
    return waited_ns / 1e9


class StepWatch:
    """Finds steps of one server that died or were stopped; cheap enough for several looks a second."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._models: dict[int, str] = {}
        self._forgotten: set[int] = set()
        # Step -> process that it, or one of its own, has started -> when that started.
        self._started: dict[int, dict[int, int]] = {}
        self._search()
        self._since: dict[int, tuple[str, float]] = {}

    def _search(self) -> None:
        processes = all_processes()
        # Ids of processes that are gone are given to others, and to new steps.
        self._forgotten &= processes.keys()
        found = {p: m for p, m in _steps_in(processes, self._server).items() if p not in self._forgotten}
        self._models = found | self._models
        for pid in found.keys() & processes.keys():
            if processes[pid].state != ZOMBIE:
                # One whose parent has ended is no descendant any more, and still the step's.
                earlier = {p: at for p, at in self._started.get(pid, {}).items() if _is_at(processes, p, at)}
                children = (child for p in (pid, *earlier) for child in descendants(processes, p))
                self._started[pid] = earlier | {child: processes[child].started for child in children}
        self._searched = time.monotonic()

    def orphans_of(self, pid: int) -> list[int]:
        """Processes that a dead step had started, and that outlived it, in whatever session."""
        processes = all_processes()
        started = self._started.get(pid, {}).items()
        return [child for child, at in started if _is_at(processes, child, at)]

    def look(self) -> list[DeadStep]:
        """Steps that are dead or stopped for longer than a step takes that ends in order."""
        now = time.monotonic()
        if now - self._searched >= _SEARCH_S:
            self._search()
        dead = []
        for pid, model in self._models.items():
            state = state_of(pid)
            if state not in (GONE, ZOMBIE, STOPPED):
                self._since.pop(pid, None)
                continue
            seen, since = self._since.get(pid, (state, now))
            # A zombie that Triton collects meanwhile is as dead as before.
            self._since[pid] = (state, now if seen == STOPPED != state else since)
            if now - self._since[pid][1] >= (_STOPPED_S if state == STOPPED else _CERTAIN_S):
                dead.append(DeadStep(pid, model, state))
        return dead

    def forget(self, pid: int) -> None:
        """Look no more at a process: it ended in order, or was seen to."""
        self._models.pop(pid, None)
        self._since.pop(pid, None)
        self._started.pop(pid, None)
        self._forgotten.add(pid)

    def models(self) -> set[str]:
        """Models that have a process now."""
        return {*find_steps(self._server).values()} - {""}

    def working(self, model: str) -> int:
        """Number of processes of a model that live."""
        return sum(found == model for found in find_steps(self._server).values())


def _is_at(processes: Mapping[int, Stat], pid: int, started: int) -> bool:
    """Whether a process that started then still runs: ids are given to others."""
    stat = processes.get(pid)
    return stat is not None and stat.started == started and stat.state != ZOMBIE


def _model_of(pid: int) -> str:
    """The model of a step's process; empty for other processes, and for those that have died."""
    with suppress(OSError):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        if Path(arguments[0]).name == _STUB:
            return next((m[1] for a in arguments[1:] if (m := _INSTANCE.fullmatch(a))), "")
    return ""
