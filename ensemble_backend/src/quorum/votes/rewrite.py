# SPDX-License-Identifier: Apache-2.0
"""Write a votes table again row by row: with fewer members, other names, or changed cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from quorum.files import check_replaceable
from quorum.votes.read import count_rows, read_rows
from quorum.votes.schema import Cell, VotesError, check_members
from quorum.votes.write import check_target, replacing_votes

Progress = Callable[[int, int], None]
_STEP = 1 << 10


def rewrite(
    source: Path, target: Path, members: Sequence[str], change: Callable[[Cell], Cell], progress: Progress
) -> int:
    """Write each row of a table after a change, in the format of the target; it appears when it is complete.

    Memory holds a batch of rows, whatever the size of the table. Fields of lines that are no part of a cell
    stay.

    Args:
        source: The table.
        target: Replaced if it exists, unless it is the source.
        members: Members of the changed cells.
        change: Cell -> cell.
        progress: Called with the numbers of written and of all rows.

    Returns:
        The number of rows.

    Raises:
        VotesError: As :func:`quorum.votes.read_votes` but for duplicates, or the target cannot hold the rows.
    """
    check_output(target, [source])
    check_members(members, target)
    total, number = count_rows(source), 0
    progress(0, total)
    with replacing_votes(target) as writer:
        for number, row in enumerate(read_rows(source), start=1):
            writer.write(change(row.cell), members, row.extra)
            if number % _STEP == 0:
                progress(number, total)
        if not number:
            raise VotesError(f"{source}: no votes; a line or row per product and attribute is needed")
    progress(number, number)
    return number


def check_output(target: Path, sources: Sequence[Path]) -> None:
    """Refuse, by VotesError, a target that is one of the sources, or has the ending of no format.

    Raises OSError for a target that is no regular file.
    """
    check_replaceable(target)
    check_target(target)
    for source in sources:
        if target.resolve() == source.resolve() or (target.exists() and target.samefile(source)):
            raise VotesError(f"{target}: is an input of this command; name another file with --out")
