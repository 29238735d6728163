# SPDX-License-Identifier: Apache-2.0
"""Tell votes of a lazy channel: members that it did not ask stand there like members that abstained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from quorum.votes.schema import Cell
from quorum.votes.table import VotesTable
from quorum_contract import LAZY_CHANNELS


def is_lazy(cells: Iterable[Cell]) -> bool:
    """Whether any of the cells was answered by a lazy channel."""
    return any(map(_is_lazily_asked, cells))


def asked_of_all(table: VotesTable) -> VotesTable:
    """The rows that no lazy channel answered: what all members say is known of these alone."""
    rows = [row for row, cell in enumerate(table.cells) if not _is_lazily_asked(cell)]
    return table if len(rows) == len(table) else table.take(rows)


def lazy_warning(votes: str | Path) -> str:
    """Say what such votes do not tell."""
    return (
        f"{votes}: members of later rows are asked only where earlier ones left an answer open, so these "
        "votes say little of how good they are; learn weights from votes without --lazy"
    )


def lazy_remarks(cells: Iterable[Cell], votes: str | Path) -> tuple[str, ...]:
    """The warning where any of the cells was answered by a lazy channel."""
    return (lazy_warning(votes),) if is_lazy(cells) else ()


def _is_lazily_asked(cell: Cell) -> bool:
    return cell.origin is not None and cell.origin.channel in LAZY_CHANNELS
