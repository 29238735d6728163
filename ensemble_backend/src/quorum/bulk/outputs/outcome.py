# SPDX-License-Identifier: Apache-2.0
"""What goes into outputs: outcomes of rows, and rows that could not be read; what writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

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


class BadRow(Protocol):
    """A row that could not be read: its index in the whole input, from 0, where it stands, why, its text."""

    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def place(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def raw(self) -> Any: ...  # noqa: D102


class PartFormat(Protocol):
    """Writes one kind of output in one format; the same rows give the same bytes."""

    def write(self, path: Path, outcomes: Sequence[Outcome], bad: Sequence[BadRow]) -> bool:
        """Write a part, a file that can be used alone; whether it has anything of this kind.

        The file may be there, without meaning, if it has not.
        """

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Join parts, in order, into one file; holds no more than a few parts in memory."""
