# SPDX-License-Identifier: Apache-2.0
"""Work on votes tables: describe, merge, leave members out, rename them, normalise values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quorum.bulk.callbacks import Progress, ignore
from quorum.deployment.schema import Deployment
from quorum.records import Record
from quorum.review.spellings import Spelling
from quorum.votes import VotesError, read_members, unit_of
from quorum.votes.merge import Prefer, merge
from quorum.votes.rewrite import rewrite
from quorum.votes.summary import summarise

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class MemberVotes(Record):
    """What one member answered; the shares are nan of nothing.

    Attributes:
        answered: Share of the cells that it answered, "n/a" included.
        not_applicable: Share of its answers that are "n/a".
        scored: Share of its answers with a score.
    """

    member: str
    answered: float
    not_applicable: float
    scored: float


@dataclass(frozen=True, slots=True)
class VotesInfo(Record):
    """A votes table in numbers.

    Attributes:
        file: The table.
        cells: Number of its cells: product x attribute.
        products: Number of distinct products.
        attributes: Attribute -> cells.
        labels: Cells with gold.
        members: What each member answered.
        duplicates: Rows of a cell that an earlier row has; learning takes no table with such, and
            :func:`merge_votes` of it alone keeps one of each.
        first_duplicates: Numbers of lines or rows, (earlier, later), of the first ones.
        unit: What these numbers count: "line" or "row".
    """

    file: Path
    cells: int
    products: int
    attributes: Mapping[str, int]
    labels: int
    members: tuple[MemberVotes, ...]
    duplicates: int
    first_duplicates: tuple[tuple[int, int], ...]
    unit: str


@dataclass(frozen=True, slots=True)
class VotesWritten(Record):
    """A table that a command wrote.

    Attributes:
        out: The file.
        cells: Number of its cells.
        members: Its members.
    """

    out: Path
    cells: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VotesMerged(VotesWritten):
    """A merged table.

    Attributes:
        shared: Cells that were in more than one table.
        conflicts: Votes, gold, titles and categories that differed; decided by ``prefer``.
        duplicates: Rows of a single table whose cell an earlier row has; ``prefer`` decided which row stays.
        without: Member -> cells on which no table has a vote of it; it abstains there.
    """

    shared: int
    conflicts: int
    duplicates: int
    without: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class VotesNormalised(VotesWritten):
    """A table with values as the catalogue spells them.

    Attributes:
        respelled: Votes that got another spelling.
        to_not_applicable: Votes that became "n/a".
        outside: Votes that are no value of a closed attribute; as in serving, their members abstain there.
        gold: Cells whose gold changed.
        examples: (attribute, before, after, votes) of the most frequent changes; after is None for outside.
    """

    respelled: int
    to_not_applicable: int
    outside: int
    gold: int
    examples: tuple[tuple[str, str, str | None, int], ...]


def votes_info(votes: str | Path, *, progress: Progress = ignore) -> VotesInfo:
    """Count cells, labels, and what each member answered, in memory that does not grow with the votes.

    Raises:
        VotesError: The table cannot be read; duplicates are counted, not refused.
    """
    path = Path(votes)
    found = summarise(path, progress)
    counts = zip(found.members, found.answered, found.not_applicable, found.scored, strict=True)
    return VotesInfo(
        file=path,
        cells=found.cells,
        products=found.products,
        attributes=dict(sorted(found.attributes.items())),
        labels=found.labels,
        members=tuple(
            MemberVotes(name, answered / found.cells, _share(blank, answered), _share(scored, answered))
            for name, answered, blank, scored in ((name, int(a), int(n), int(s)) for name, a, n, s in counts)
        ),
        duplicates=found.duplicates,
        first_duplicates=tuple(found.first_duplicates),
        unit=unit_of(path),
    )


def merge_votes(
    votes: Sequence[str | Path], out: str | Path, *, prefer: Prefer | None = None, progress: Progress = ignore
) -> VotesMerged:
    """Merge votes tables of other cells, other members, or both.

    Args:
        votes: Two tables or more; or one, with ``prefer``, to keep one row of each of its cells.
        out: File to write; it appears when it is complete.
        prefer: Whose vote, gold, title or category stays where tables differ, or which row of a single
            table: "first" or "last"; None: such a difference is refused.
        progress: Called with the numbers of finished and of all steps.

    Raises:
        VotesError: A table cannot be read, one of several holds a cell twice, or one differs from
            another without ``prefer``.
    """
    if not votes or (len(votes) == 1 and prefer is None):
        raise VotesError(
            "name two votes tables or more to merge; or one with --prefer first, to keep one row of each cell"
        )
    merged = merge([Path(name) for name in votes], Path(out), prefer, progress=progress)
    return VotesMerged(
        Path(out),
        merged.cells,
        merged.members,
        merged.shared,
        merged.conflicts,
        merged.duplicates,
        merged.without,
    )


def drop_members(
    votes: str | Path, members: Sequence[str], out: str | Path, *, progress: Progress = ignore
) -> VotesWritten:
    """Write a table without the votes and scores of some members.

    Raises:
        VotesError: The table cannot be read, has no such member, or no other.
    """
    recorded = read_members(votes)
    _check_known(recorded, members)
    kept = [name for name in recorded if name not in members]
    if not kept:
        raise VotesError(f"{votes}: all members would be dropped; keep at least one of {list(recorded)}")
    places = [recorded.index(name) for name in kept]
    cells = rewrite(Path(votes), Path(out), kept, lambda cell: cell.of_members(places), progress)
    return VotesWritten(Path(out), cells, tuple(kept))


def rename_members(
    votes: str | Path, names: Mapping[str, str], out: str | Path, *, progress: Progress = ignore
) -> VotesWritten:
    """Write a table with other names of members; ``names`` maps old to new ones, which may be exchanged.

    Raises:
        VotesError: The table cannot be read, has no such member, or two members would have one name.
    """
    recorded = read_members(votes)
    _check_known(recorded, list(names))
    renamed = tuple(names.get(name, name) for name in recorded)
    twice = sorted({name for name in renamed if renamed.count(name) > 1 or not name})
    if twice:
        raise VotesError(f"members {twice} would be named twice, or not at all; choose other names")
    cells = rewrite(Path(votes), Path(out), renamed, lambda cell: cell, progress)
    return VotesWritten(Path(out), cells, renamed)


def normalise_votes(
    votes: str | Path, deployment: Deployment, out: str | Path, *, progress: Progress = ignore
) -> VotesNormalised:
    """Write a table with votes and gold as the deployment's catalogue spells them, as serving does.

    "Red" becomes "red", "N/A" becomes "n/a". A vote that is no value of a closed attribute becomes an
    abstention, as in serving; gold outside a closed value set stays.

    Raises:
        VotesError: The table cannot be read.
    """
    spelling = Spelling(deployment.catalogue())
    members = read_members(votes)
    cells = rewrite(Path(votes), Path(out), members, spelling.cell, progress)
    return VotesNormalised(
        Path(out),
        cells,
        members,
        respelled=spelling.respelled,
        to_not_applicable=spelling.to_not_applicable,
        outside=spelling.outside,
        gold=spelling.gold,
        examples=tuple((*change, count) for change, count in spelling.changes.most_common(_EXAMPLES)),
    )


def _check_known(recorded: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in recorded]
    if unknown or not names:
        raise VotesError(f"no members {unknown} in the table; its members are: {', '.join(recorded)}")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
