# SPDX-License-Identifier: Apache-2.0
"""Keep a journal of incidents: what was found, what was done, and how long callers had no answers.

One line of JSON each in ``.quorum/incidents.jsonl``, the newest last. The file is replaced by rename, so that
it can be read at any time.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from quorum.deployment.schema import Deployment
from quorum.files import write_atomic
from quorum.records import Record
from quorum.repository.history import timestamp
from quorum.server.runfile import state_folder

FILE = "incidents.jsonl"
KEPT = 200
"""Incidents that the journal holds; older ones are dropped."""
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Incident(Record):
    """One fault of a server.

    Attributes:
        at: When it was found, UTC.
        found: What was found.
        process: In which process: ``tritonserver 4711``, or a model and its process.
        done: What was done.
        seconds: From finding it until every channel answered; ``None`` for one that is not over, or was not
            when its supervisor ended.
    """

    at: str
    found: str
    process: str
    done: str
    seconds: float | None

    @property
    def is_over(self) -> bool:
        """Whether every channel answered again."""
        return self.seconds is not None

    def __str__(self) -> str:
        """One line for people."""
        end = f"every channel answered after {self.seconds:.1f} s" if self.is_over else "not over"
        return f"{self.at[:19].replace('T', ' ')} {self.process} {self.found}: {self.done}; {end}"


class IncidentJournal:
    """Writes the incidents of one deployment; one process at a time does, its supervisor."""

    def __init__(self, spec: Deployment) -> None:
        self._path = state_folder(spec) / FILE
        self._incidents = recent_incidents(spec)
        self._since = 0.0

    @property
    def open(self) -> Incident | None:
        """The incident that is not over, of this process."""
        return self._incidents[-1] if self._since else None

    def begin(self, found: str, process: str, done: str) -> Incident:
        """Note an incident; what is found while one is not over belongs to it."""
        if self._since:
            last, more = self._incidents[-1], f"{process.split()[0]} {found}"
            known = f"{last.process.split()[0]} {last.found}"
            if more not in known and len(known) < _LONGEST:
                last = replace(last, found=f"{last.found}, then {more}")
            self._incidents[-1] = replace(last, done=done)
        else:
            self._incidents.append(Incident(timestamp(), found, process, done, None))
            self._since = time.monotonic()
        self._write()
        return self._incidents[-1]

    def go_on(self, done: str) -> None:
        """Note what is being done now about the incident that is not over."""
        if self._since:
            self._incidents[-1] = replace(self._incidents[-1], done=done)
            self._write()

    def end(self) -> Incident | None:
        """Note that every channel answers; returns the incident, if one was not over."""
        if not self._since:
            return None
        seconds = round(time.monotonic() - self._since, 2)
        self._incidents[-1] = replace(self._incidents[-1], seconds=seconds)
        self._since = 0.0
        self._write()
        return self._incidents[-1]

    def _write(self) -> None:
        del self._incidents[:-KEPT]
        lines = [json.dumps(asdict(incident), ensure_ascii=False) + "\n" for incident in self._incidents]
        # A full disk must not end the supervision; the next line brings all of them.
        with suppress(OSError):
            write_atomic(self._path, "".join(lines), mode=0o600)


def recent_incidents(spec: Deployment) -> list[Incident]:
    """The incidents in the journal of this machine, oldest first; lines that cannot be read are left out."""
    incidents = []
    with suppress(OSError):
        for line in _lines(state_folder(spec) / FILE):
            with suppress(ValueError, RecursionError):
                incidents.append(msgspec.json.decode(line, type=Incident))
    return incidents


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()
