# SPDX-License-Identifier: Apache-2.0
"""Log every change of a repository's state, with time and account: an append-only file next to the models."""

from __future__ import annotations

import errno
import getpass
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from quorum_contract import VOTE

HISTORY_FILE = "rollout.jsonl"


class Step(msgspec.Struct, frozen=True):
    """What a change of the state does; the part that its journal and its line in the log share.

    Attributes:
        at: When it began, ISO 8601, UTC; no two are equal.
        action: ``publish``, ``canary``, ``promote``, ``rollback``, ``retire``, ``quarantine``, ``reset``
            (equal weights again), ``render`` (the first state) or ``migrate`` (a state from the
            configurations of an earlier release).
        version: The version that was changed or pinned.
        before: The channel's version before; ``None`` where no channel changed.
        weights_hash: Content hash of the version, of weights or a retriever; empty where it is damaged.
        reason: Why a check was overridden, a canary's share or verdict, or the damage of a version.
        retired: Versions that a ``publish`` unloads to make room.
        model: The versioned model: ``quorum_vote`` or ``quorum_retriever``.
    """

    at: str
    action: str
    version: int
    before: int | None
    weights_hash: str
    reason: str | None = None
    retired: tuple[int, ...] = ()
    model: str = VOTE


class Event(Step, frozen=True, kw_only=True):
    """One line of the log.

    Attributes:
        who: Account that ran the command.
        outcome: ``done``, or why it failed and was undone.
    """

    who: str
    outcome: str = "done"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return msgspec.structs.asdict(self)


class History:
    """The log of the repository in a folder, and what it says of one versioned model."""

    def __init__(self, repository: Path, model: str = VOTE) -> None:
        self.path = repository / HISTORY_FILE
        self._model = model

    def append(self, event: Event) -> None:
        """Append one event durably."""
        size = self.path.stat().st_size if self.path.exists() else 0
        torn = size and self.path.read_bytes()[-1:] != b"\n"
        line = (("\n" if torn else "") + json.dumps(event.to_json()) + "\n").encode()
        # Unbuffered: closing a buffer would retry a failed write.
        with self.path.open("ab", buffering=0) as file:
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(file.fileno())
            except OSError:
                # The next reader must not trust a line that may still be lost.
                os.truncate(self.path, size)
                raise

    def last(self) -> Event | None:
        """The newest event."""
        return next(reversed(list(self.events())), None)

    def events(self) -> Iterator[Event]:
        """All events, oldest first; keys of other releases and lines that are no event are passed over."""
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines():
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                yield _event(json.loads(line))

    def before_last_change(self, current: int) -> int | None:
        """The stable channel's version before ``current`` was promoted.

        Only promotions over another version count: rolling back twice goes back twice.
        """
        return next((e.before for e in self._done("promote") if e.version == current != e.before), None)

    def was_left(self, version: int) -> bool:
        """Whether the stable channel went from this version to another, and no canary was set to it since."""
        for event in self._done("canary", "promote", "rollback"):
            if event.action == "canary" and event.version == version:
                return False
            if event.action != "canary" and event.before == version != event.version:
                return True
        return False

    def served(self) -> list[int]:
        """Former versions of the stable channel: latest first, rolled-back versions at the end."""
        versions: list[int] = []
        rolled_back: set[int | None] = set()
        for event in self._done("promote", "rollback"):
            if event.action == "rollback" and event.before not in versions:
                rolled_back.add(event.before)
            versions += [v for v in (event.version, event.before) if v is not None]
        return sorted(dict.fromkeys(versions), key=lambda version: version in rolled_back)

    def _done(self, *actions: str) -> list[Event]:
        """The model's changes by these actions that were not undone, newest first."""
        mine = [e for e in self.events() if e.model == self._model and e.outcome == "done"]
        return [event for event in reversed(mine) if event.action in actions]


def _event(found: dict[str, Any]) -> Event:
    """Read a line; of values of another type, only those of the versions make it no event."""
    values = {}
    for field in msgspec.structs.fields(Event):
        try:
            if field.required or field.name in found:
                values[field.name] = msgspec.convert(found[field.name], field.type, strict=False)
        except msgspec.ValidationError:
            if field.name in ("version", "before"):
                raise
            values[field.name] = "" if field.type is str else field.default
    return Event(**values)


def timestamp() -> str:
    """Now, ISO 8601 in UTC with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def utc(at: float) -> str:
    """A time in seconds since the epoch, for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def account() -> str:
    """The account that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
