# SPDX-License-Identifier: Apache-2.0
"""What goes into outputs: listings with their answers or errors; what writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.listings import Listing
from quorum_client import Extraction


class Outcome(NamedTuple):
    """A listing, and its answer or error."""

    listing: Listing
    result: Extraction | Exception


class Sink(Protocol):
    """Writes answers one by one."""

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""


class PartFormat(Protocol):
    """Writes one kind of output in one format; the same rows give the same bytes."""

    def write(self, path: Path, outcomes: Sequence[Outcome], bad: Sequence[BadRow]) -> bool:
        """Write a part, a file that can be used alone; whether it has anything of this kind.

        The file may be there, without meaning, if it has not.
        """

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Join parts, in order, into one file; holds no more than a few parts in memory."""
