# SPDX-License-Identifier: Apache-2.0
"""Keep a journal of incidents: what was found, what was done, and how long callers had no answers.

One line of JSON each in ``.quorum/incidents.jsonl``, the newest last. The file is replaced by rename, so that
it can be read at any time.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from quorum.deployment.schema import Deployment
from quorum.files import write_atomic
from quorum.records import Record
from quorum.repository.history import timestamp
from quorum.server.runfile import last_attempt, state_folder

FILE = "incidents.jsonl"
KEPT = 200
"""Incidents that the journal holds; older ones are dropped."""
_LONGEST = 2000
_AGAIN_S = 60.0
"""A worker that is lost so soon after it came back belongs to the incident before."""
LEFT_OPEN = "ended with its `quorum up`"
REMOVED = "ended as the member was removed"
SERVER, WORKER = "server", "worker"
"""Kinds of incidents: the supervisor acts for a server, and for a worker its step does."""


@dataclass(frozen=True, slots=True)
class Incident(Record):
    """One fault of a server.

    Attributes:
        at: When it was found, UTC.
        found: What was found.
        process: In which process: ``tritonserver 4711``, a model and its process, or ``worker of MODEL``.
        done: What was done.
        seconds: From finding it until every channel, or the worker, answered; ``None`` for one that is not
            over, or was not when its supervisor ended.
        kind: :data:`SERVER` or :data:`WORKER`.
        times: How often a worker was lost.
        left: How it ended without an answer: with its supervisor, or as the member was removed. Empty for
            others.
    """

    at: str
    found: str
    process: str
    done: str
    seconds: float | None
    kind: str = SERVER
    times: int = 1
    left: str = ""

    @property
    def is_over(self) -> bool:
        """Whether all answered again, or nothing serves any more that could."""
        return self.seconds is not None or bool(self.left)

    def __str__(self) -> str:
        """One line for people."""
        answered = "it answered" if self.kind == WORKER else "every channel answered"
        end = self.left or "not over"
        if self.seconds is not None:
            end = f"{answered} after {self.seconds:.1f} s"
        often = f" ({self.times} times)" if self.times > 1 else ""
        when = self.at[:19].replace("T", " ")
        return f"{when} UTC {self.process} {self.found}{often}: {self.done}; {end}"


@dataclass(slots=True)
class _Entry:
    """An incident, and since when and until when it lasts; ``time.monotonic()``."""

    incident: Incident
    since: float = 0.0
    until: float = 0.0


class IncidentJournal:
    """Writes the incidents of one deployment; one process at a time does, its supervisor.

    One incident of the server, and one of each worker, can be open at a time; ``worker`` names the model.
    ``counts`` gets how many of each kind there were.
    """

    def __init__(self, spec: Deployment, counts: Counter[str] | None = None) -> None:
        self._counts = Counter[str]() if counts is None else counts
        self._path = state_folder(spec) / FILE
        self._entries = [
            _Entry(incident if incident.is_over else replace(incident, left=LEFT_OPEN))
            for incident in recent_incidents(spec)
        ]
        self._open: dict[str, _Entry] = {}
        self._ended: dict[str, _Entry] = {}
        if self._entries:
            self._write()

    @property
    def open(self) -> Incident | None:
        """The incident of the server that is not over, of this process."""
        entry = self._open.get("")
        return entry.incident if entry else None

    def begin(
        self,
        found: str,
        process: str,
        done: str,
        *,
        worker: str = "",
        lasted_s: float = 0.0,
        times: int = 1,
    ) -> Incident:
        """Note an incident, which has lasted for a while; what is found while it is open belongs to it."""
        entry = self._open.get(worker) or self._again(worker)
        if worker or entry is None:
            self._counts[WORKER if worker else SERVER] += times
        if entry is None:
            kind = WORKER if worker else SERVER
            new = Incident(timestamp(), found, process, done, None, kind, times)
            entry = _Entry(new, time.monotonic() - lasted_s)
            self._entries.append(entry)
        elif worker:
            times += entry.incident.times
            entry.incident = replace(entry.incident, found=found, done=done, seconds=None, times=times)
        else:
            last, more = entry.incident, f"{process.split()[0]} {found}"
            known = f"{last.process.split()[0]} {last.found}"
            if more not in known and len(known) < _LONGEST:
                last = replace(last, found=f"{last.found}, then {more}")
            entry.incident = replace(last, done=done)
        self._open[worker] = entry
        self._write()
        return entry.incident

    def _again(self, worker: str) -> _Entry | None:
        """The last incident of a worker, if that answered again only just before."""
        entry = self._ended.get(worker)
        return entry if worker and entry and time.monotonic() - entry.until < _AGAIN_S else None

    def go_on(self, done: str) -> None:
        """Note what is being done now about the incident of the server that is not over."""
        if entry := self._open.get(""):
            entry.incident = replace(entry.incident, done=done)
            self._write()

    def end(self, done: str = "", *, worker: str = "") -> Incident | None:
        """Note that all answer again, and what was ``done``; the incident, if one was not over."""
        entry = self._open.pop(worker, None)
        if entry is None:
            return None
        self._ended[worker], entry.until = entry, time.monotonic()
        seconds = round(entry.until - entry.since, 2)
        entry.incident = replace(entry.incident, seconds=seconds, done=done or entry.incident.done)
        self._write()
        return entry.incident

    def leave(self, worker: str, left: str) -> None:
        """Note that a worker will not answer any more, as its member is gone."""
        if entry := self._open.pop(worker, None):
            entry.incident = replace(entry.incident, left=left)
            self._write()

    def lost_workers(self) -> list[str]:
        """The models whose workers have incidents that are not over."""
        return [worker for worker in self._open if worker]

    def _write(self) -> None:
        del self._entries[:-KEPT]
        lines = [json.dumps(asdict(entry.incident), ensure_ascii=False) + "\n" for entry in self._entries]
        # A full disk must not end the supervision; the next line brings all of them.
        with suppress(OSError):
            write_atomic(self._path, "".join(lines), mode=0o600)


def recent_incidents(spec: Deployment) -> list[Incident]:
    """The incidents in the journal of this machine, oldest first; lines that cannot be read are left out.

    One that is not over, and whose supervisor is dead, is given as ended with it.
    """
    incidents, attempt = [], last_attempt(spec)
    since = attempt.at if attempt and attempt.is_alive else float("inf")
    with suppress(OSError):
        for line in _lines(state_folder(spec) / FILE):
            with suppress(ValueError, RecursionError):
                one = msgspec.json.decode(line, type=Incident)
                is_left = not one.is_over and datetime.fromisoformat(one.at).timestamp() < since
                incidents.append(replace(one, left=LEFT_OPEN) if is_left else one)
    return incidents


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()
