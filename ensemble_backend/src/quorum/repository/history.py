# SPDX-License-Identifier: Apache-2.0
"""Log every change of a repository's state, with time and account: an append-only file next to the models."""

from __future__ import annotations

import errno
import getpass
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

HISTORY_FILE = "rollout.jsonl"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log.

    Attributes:
        at: When the change began, ISO 8601, UTC; no two are equal.
        who: Account that ran the command.
        action: ``publish``, ``canary``, ``promote``, ``rollback``, ``retire``, ``quarantine``, ``reset``
            (equal weights again), ``render`` (the first state) or ``migrate`` (a state from the
            configurations of an earlier release).
        version: Version of the weights that it was about.
        before: What the channel answered with before; ``None`` where no channel changed.
        weights_hash: Content hash of that version's weights.
        outcome: ``done``, or why it failed and was undone.
        reason: Why a check was overridden, a canary's share, what the evidence said, or what is wrong with a
            version in quarantine.
        retired: Versions that a ``publish`` unloaded to make room.
    """

    at: str
    who: str
    action: str
    version: int
    before: int | None
    weights_hash: str
    outcome: str = "done"
    reason: str | None = None
    retired: Sequence[int] = ()


class History:
    """The log of one repository.

    Args:
        repository: The repository folder.
    """

    def __init__(self, repository: Path) -> None:
        self.path = repository / HISTORY_FILE

    def append(self, event: Event) -> None:
        """Write one event so that it survives a crash right after."""
        size = self.path.stat().st_size if self.path.exists() else 0
        torn = size and self.path.read_bytes()[-1:] != b"\n"
        line = (("\n" if torn else "") + json.dumps(asdict(event)) + "\n").encode()
        # Unbuffered: a buffer would try again to write what failed when it is closed.
        with self.path.open("ab", buffering=0) as file:
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(file.fileno())
            except OSError:
                # A line that may be lost again must not be believed by who comes next.
                os.truncate(self.path, size)
                raise

    def last(self) -> Event | None:
        """The newest event."""
        return next(reversed(list(self.events())), None)

    def events(self) -> Iterator[Event]:
        """All events, oldest first; a last line cut off by a crash is passed over."""
        if not self.path.exists():
            return
        for line in self.path.read_text("utf-8").splitlines():
            try:
                yield Event(**json.loads(line))
            except (json.JSONDecodeError, TypeError):
                continue

    def before_last_change(self, current: int) -> int | None:
        """The version that the stable channel answered with before ``current`` was promoted.

        Only promotions over another version count: rolling back twice goes back twice.
        """
        for event in reversed(list(self.events())):
            promoted = event.action == "promote" and event.outcome == "done" and event.version == current
            if promoted and event.before != current:
                return event.before
        return None

    def served(self) -> list[int]:
        """Versions that the stable channel answered with, latest first, those that were rolled back last."""
        found: list[int] = []
        given_up: set[int | None] = set()
        for event in reversed(list(self.events())):
            if event.action in ("promote", "rollback") and event.outcome == "done":
                if event.action == "rollback" and event.before not in found:
                    given_up.add(event.before)
                found += [v for v in (event.version, event.before) if v is not None]
        return sorted(dict.fromkeys(found), key=lambda version: version in given_up)


def timestamp() -> str:
    """Now, ISO 8601 in UTC with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def account() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
