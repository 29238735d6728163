# SPDX-License-Identifier: Apache-2.0
"""Stop waiting for the last members: who has answered which question, in a small shared file, and the grace.

Members are separate processes. Each writes the ticket of a question that it has answered, and when, into a
place of its own: the ticket tells one question from the next, so nothing is cleared and nothing is locked.
A member looks there only while a question of its own has waited longer than the grace, and only if there is
one (``vote.grace_ms``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from quorum.serving.admission import CAPACITY, slot_of
from quorum.serving.packing import unpack_votes
from quorum.serving.shared_file import ANSWERED, open_shared, own_server, shared_path
from quorum_contract import Status

_NUMBER_BYTES = 8

Call = Callable[[], None]
Send = Callable[[bytes], None]
"""Takes a member's packed votes."""
Add = Callable[[int, Call], Call]
"""Makes a call at a deadline in nanoseconds of the monotonic clock; returns a function that cancels it."""


class Deadlines(Protocol):
    """What the grace needs of the thread that watches deadlines."""

    def add(self, deadline_ns: int, call: Call) -> Call:
        """Make a call at a deadline; returns a function that cancels it."""


def default_path() -> Path:
    """The file of this step's server."""
    return shared_path(own_server(), ANSWERED)


class Progress:
    """INT64 [slot, member, 2] in shared memory: the ticket that a member answered last, and the time.

    Args:
        path: The file, created on first use; each process of the server opens its own view of it.
        members: Number of members of the deployment.

    Raises:
        PermissionError: The file belongs to another user.
    """

    def __init__(self, path: Path, members: int) -> None:
        self._members = members
        size = CAPACITY * members * 2 * _NUMBER_BYTES
        self._numbers = memoryview(open_shared(path, size)).cast("q")

    def mark(self, ticket: int, member: int) -> None:
        """Record that a member, by its place in the deployment, has answered; ignores tickets of no gate."""
        at = self._row(ticket) + 2 * member
        if at >= 0:
            # The ticket last: it says that the time is there.
            self._numbers[at + 1] = time.monotonic_ns()
            self._numbers[at] = ticket

    def reached_ns(self, ticket: int, count: int, since_ns: int = 0) -> int | None:
        """When the ``count``-th member answered (``time.monotonic_ns()``); None: fewer have answered.

        Answers from before ``since_ns`` do not count.
        """
        at = self._row(ticket)
        if at < 0:
            return None
        row = self._numbers[at : at + 2 * self._members].tolist()
        pairs = zip(row[::2], row[1::2], strict=True)
        times = sorted(when for given, when in pairs if given == ticket and when >= since_ns)
        return times[count - 1] if len(times) >= count else None

    def _row(self, ticket: int) -> int:
        # A caller around the gate may send any ticket; 0 is what the file is full of.
        slot = slot_of(ticket)
        return slot * self._members * 2 if ticket > 0 and slot < CAPACITY else -2 * self._members


class Grace:
    """Ends the wait of a member for its own answer once enough others have answered.

    Args:
        settings: ``min_members``, ``grace_ms``, and ``voters``, all members in the deployment's order.
        deadlines: Calls at deadlines.
        path: The shared file of the server.
    """

    def __init__(self, settings: Mapping[str, Any], deadlines: Deadlines, path: Path) -> None:
        self.grace_ns = int(settings["grace_ms"] * 1e6)
        self.min_members = int(settings["min_members"])
        self._places = {name: place for place, name in enumerate(settings["voters"])}
        self.progress = Progress(path, len(self._places))
        self.deadlines = deadlines
        self.closed = False

    def close(self) -> None:
        """Look no more; deadlines that still wait are left to their own."""
        self.closed = True

    def reporting(self, send: Send, ticket: int, member: str) -> Send:
        """``send`` that also notes an answer to all attributes, for the other members; only the first one.

        A member that abstains, if only from one attribute, has not answered: the others of that one may
        still be needed for its quorum.
        """
        first, place = [None], self._places[member]

        def report(votes: bytes) -> None:
            # What comes after an abstention is no part of the answer. Popping is atomic.
            try:
                first.pop()
            except IndexError:
                return
            if all(status == Status.ANSWERED for _, status, _ in unpack_votes(votes)):
                self.progress.mark(ticket, place)
            send(votes)

        return report

    def hurrying(self, ticket: int, since_ns: int = 0) -> Add:
        """A substitute for ``deadlines.add`` whose call may come earlier: grace after enough answers.

        Those of earlier rows, before ``since_ns``, do not count: their members had a head start.
        """

        def add(deadline_ns: int, call: Call) -> Call:
            return _Watch(self, ticket, deadline_ns, call, since_ns).cancel

        return add


class _Watch:
    """Looks whether enough members have answered a question, each grace anew, and makes the call then.

    No grace ends before the first look. If too few had answered at one look, grace ends after the next.
    """

    __slots__ = ("_call", "_cancel_call", "_cancel_look", "_grace", "_looked_ns", "_since_ns", "_ticket")

    def __init__(self, grace: Grace, ticket: int, deadline_ns: int, call: Call, since_ns: int) -> None:
        self._grace, self._ticket, self._since_ns = grace, ticket, since_ns
        self._call: Call | None = call
        self._cancel_call: Call | None = None
        self._looked_ns = time.monotonic_ns()
        # The nearer one first, or the thread could be woken twice.
        self._cancel_look = grace.deadlines.add(self._looked_ns + grace.grace_ns, self._look)
        self._cancel_call = grace.deadlines.add(deadline_ns, self._expire)

    def cancel(self) -> None:
        """Neither look nor make the call any more."""
        self._call = None
        self._cancel_look()
        if self._cancel_call is not None:
            self._cancel_call()

    def _expire(self) -> None:
        call = self._call
        self.cancel()
        if call is not None:
            call()

    def _look(self) -> None:
        grace = self._grace
        if self._call is None or grace.closed:
            return
        now = time.monotonic_ns()
        reached = grace.progress.reached_ns(self._ticket, grace.min_members, self._since_ns)
        if reached is None:
            since = self._looked_ns = now
        else:
            # Not before the last look, which found too few.
            since = max(reached, self._looked_ns)
        if since + grace.grace_ns <= now:
            self._expire()
        else:
            self._cancel_look = grace.deadlines.add(since + grace.grace_ns, self._look)
