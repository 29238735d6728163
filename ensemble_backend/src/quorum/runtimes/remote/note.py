# SPDX-License-Identifier: Apache-2.0
"""What a member notes about its endpoints for other processes: whether they are asked, and how they answer.

One small file for each process, in the folder of the server (:data:`quorum.processes.SERVER_FOLDER`).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from quorum.files import write_atomic
from quorum.processes import SERVER_FOLDER, runs
from quorum.records import Record

_FILES = "endpoints-*.json"
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class EndpointState(Record):
    """One endpoint of a member; counts are since its process started.

    Attributes:
        url: Scheme, host and port.
        state: Of its breaker: closed (it is asked), open, or half-open (one request tries).
        since: When that began, seconds since the epoch.
        opened: How often the breaker has opened.
        problem: What went wrong last.
        held_s: Seconds for which it wants to be left alone, when this was written.
        in_flight: Requests now.
        concurrency: Most requests at once, as learned.
        requests: Sent.
        answered: Of those, answered.
        limited: Answered by "too many requests".
        failed: Neither, by the server's fault.
        form: What answers keep to.
        scores: Whether answers come with log-probabilities; None: not known yet.
        prompt_tokens: Read, where it says so.
        cached_tokens: Of those, from a prefix cache.
        answer_tokens: Written.
        p50_s: Median time of an answer, in seconds; None: none yet.
        p95_s: 95 of 100 answers took no longer.
    """

    url: str
    state: str
    since: float
    opened: int = 0
    problem: str = ""
    held_s: float = 0.0
    in_flight: int = 0
    concurrency: int = 0
    requests: int = 0
    answered: int = 0
    limited: int = 0
    failed: int = 0
    form: str = ""
    scores: bool | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    p50_s: float | None = None
    p95_s: float | None = None

    @property
    def breaker(self) -> str:
        """What its breaker does, for people; since when, where that is not to let requests through."""
        since = f" since {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return self.state + (since if self.state != "closed" else "")


@dataclass(frozen=True, slots=True)
class RemoteState(Record):
    """The endpoints of one member.

    Attributes:
        member: Its name.
        process: That asks them.
        endpoints: In the order of its options.
        questions: Asked of the member.
        repeated: Requests beyond one for each question: retries, hedges, and after a field was refused.
        waiting: Questions that wait for limits now.
    """

    member: str
    process: int
    endpoints: tuple[EndpointState, ...]
    questions: int = 0
    repeated: int = 0
    waiting: int = 0


class RemoteNote:
    """Writes the state of one member's endpoints; without a folder, and on a full disk, nowhere."""

    def __init__(self) -> None:
        folder = os.environ.get(SERVER_FOLDER)
        self._folder = Path(folder) if folder else None
        self._written: RemoteState | None = None

    def write(self, state: RemoteState) -> None:
        """Write it, unless it was written already."""
        if self._folder is None or state == self._written or not self._folder.is_dir():
            return
        with suppress(OSError):
            path = self._folder / f"endpoints-{state.member}.{state.process}.json"
            write_atomic(path, json.dumps(asdict(state)), mode=0o600)
            self._written = state


def remote_states(folder: Path) -> dict[str, RemoteState]:
    """The endpoints of the members whose processes live, by member; of two processes the latest."""
    states: dict[str, RemoteState] = {}
    for path in sorted(folder.glob(_FILES), key=_changed_at):
        with suppress(OSError, ValueError):
            state = msgspec.json.decode(path.read_bytes(), type=RemoteState)
            if runs(state.process):
                states[state.member] = state
    return states


def shortened(problem: str) -> str:
    """A problem that fits a line."""
    return problem if len(problem) <= _LONGEST else problem[: _LONGEST - 1] + "…"


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
