# SPDX-License-Identifier: Apache-2.0
"""Tell votes of a lazy channel: members that it did not ask stand there like members that abstained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from quorum.votes.schema import Cell
from quorum_contract import LAZY_CHANNELS


def is_lazy(cells: Iterable[Cell]) -> bool:
    """Whether any of the cells was answered by a lazy channel."""
    return any(cell.origin is not None and cell.origin.channel in LAZY_CHANNELS for cell in cells)


def lazy_warning(votes: str | Path) -> str:
    """Say what such votes do not tell."""
    return (
        f"{votes}: members of later rows are asked only where earlier ones left an answer open, so these "
        "votes say little of how good they are; learn weights from votes without --lazy"
    )


def lazy_remarks(cells: Iterable[Cell], votes: str | Path) -> tuple[str, ...]:
    """The warning where any of the cells was answered by a lazy channel."""
    return (lazy_warning(votes),) if is_lazy(cells) else ()
