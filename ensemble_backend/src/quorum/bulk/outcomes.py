# SPDX-License-Identifier: Apache-2.0
"""What every run over a file shares: results are written and counted in order, and it may end early."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from quorum.bulk.callbacks import Note, Progress
from quorum.bulk.listings import Listing
from quorum.bulk.waits import found_no_server
from quorum_contract.errors import QuorumError

GIVE_UP_AFTER = 20
"""A run stops after so many listings in a row without a server to answer them."""
Ended = Literal["complete", "interrupted", "unavailable"]
Answer = TypeVar("Answer")
Given = TypeVar("Given", contravariant=True)


@dataclass(slots=True)
class Outcomes(ABC, Generic[Answer]):
    """Listings so far.

    Attributes:
        answered: Those with an answer.
        failed: Those with an error.
        silent: How many of the last ones, in a row, found no server.
        last_error: Of those that failed.
        errors: Code of an error -> listings that failed with it, and the message of the first.
    """

    answered: int = 0
    failed: int = 0
    silent: int = 0
    last_error: QuorumError | None = None
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Listings with an outcome."""
        return self.answered + self.failed

    @property
    def gave_up(self) -> bool:
        """Whether so many in a row found no server that the run ends."""
        return self.silent >= GIVE_UP_AFTER

    def ended(self, *, interrupted: bool) -> Ended:
        """Why the run ended."""
        return "interrupted" if interrupted else "unavailable" if self.gave_up else "complete"

    def add(self, result: Answer | QuorumError) -> None:
        """Count a listing."""
        self.silent = self.silent + 1 if found_no_server(result) else 0
        if isinstance(result, QuorumError):
            self.failed, self.last_error = self.failed + 1, result
            known, first = self.errors.get(result.code, (0, str(result)))
            self.errors[result.code] = known + 1, first
        else:
            self.answered += 1
            self.count(result)

    @abstractmethod
    def count(self, answer: Answer) -> None:
        """Count what an answer says."""


class Writes(Protocol[Given]):
    """Writes listings one by one."""

    def write(self, listing: Listing, result: Given | QuorumError, /) -> None:
        """Write one."""


async def in_order(
    listings: Sequence[Listing], results: AsyncIterator[Answer]
) -> AsyncIterator[tuple[Listing, Answer]]:
    """Each listing with its result; these come in the order of the listings."""
    waiting = iter(listings)
    async for result in results:
        yield next(waiting), result


async def write_each(
    results: AsyncIterator[tuple[Listing, Answer | QuorumError]],
    total: int,
    sinks: Sequence[Writes[Answer]],
    outcomes: Outcomes[Answer],
    progress: Progress,
) -> None:
    """Write and count results as they come, until :data:`GIVE_UP_AFTER` in a row find no server."""
    progress(0, total)
    async for listing, result in results:
        for sink in sinks:
            sink.write(listing, result)
        outcomes.add(result)
        progress(outcomes.done, total)
        if outcomes.gave_up:
            return


def is_interrupted(run: Coroutine[Any, Any, None]) -> bool:
    """Run it to its end, or to Ctrl-C; whether that ended it."""
    try:
        asyncio.run(run)
    except KeyboardInterrupt:
        return True
    return False


def note_numbered(source: Path, listings: Sequence[Listing], note: Note) -> None:
    """Remark on rows that have only a number as their id."""
    numbered = sum(listing.numbered for listing in listings)
    if numbered:
        note(
            f"{source}: {numbered} of {len(listings)} rows have no id, so they are numbered (row-1, row-2,"
            " ...) and cannot be joined with other files; name the column of the id with --id"
        )
