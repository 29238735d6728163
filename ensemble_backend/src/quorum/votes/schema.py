# SPDX-License-Identifier: Apache-2.0
"""Define the schema of a votes table: the columns of a cell, their version, and the file formats."""

from __future__ import annotations

import shlex
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from quorum.decision.cell import NOT_APPLICABLE
from quorum.decision.patterns import MAX_MEMBERS
from quorum_contract import Spent
from quorum_contract.errors import QuorumError
from quorum_contract.scores import valid_score

SCHEMA_VERSION = 2
"""Written into every row of JSON lines and into the metadata of a file of columns; see docs/adr/0061."""
VERSION_FIELD = "schema_version"
UNVERSIONED = 1
"""The version of rows and files that state none."""
TEXT_COLUMNS = ("product", "category", "title", "attribute")
CELL_COLUMNS = (*TEXT_COLUMNS, "gold")
ORIGIN_COLUMNS = ("channel", "weights_version", "latency_ms", "fallback_from")
SCORES_COLUMN = "scores"
USAGE_COLUMN = "usage"
RESERVED = frozenset({*CELL_COLUMNS, *ORIGIN_COLUMNS, SCORES_COLUMN, USAGE_COLUMN, VERSION_FIELD})
"""Columns that are no member's."""

LINE_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIX = ".parquet"
ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")
COLUMN_SUFFIXES = (PARQUET_SUFFIX, *ARROW_SUFFIXES)
SCORE_NEEDED = (
    "a score is the natural logarithm of a probability, a number up to 0, or null where none is known"
)
ENDINGS = "JSON lines end in .jsonl or .ndjson, Parquet in .parquet, Arrow in .arrow, .feather or .ipc"


Usage = tuple[Spent | None, ...]
"""What each member took; None: not recorded. Empty: of none it is."""


class VotesError(QuorumError, ValueError):
    """A votes table cannot be used; the message names the file, the line or row, and the fix."""

    code = "VOTES_INVALID"


@dataclass(frozen=True, slots=True)
class Origin:
    """The server's answer that a cell's votes came with; None where it was not recorded.

    Attributes:
        channel: The channel that answered.
        weights_version: The version of the weights that decided.
        latency_ms: Time from question to answer.
        fallback_from: The channel that was asked first and failed.
    """

    channel: str | None = None
    weights_version: int | None = None
    latency_ms: float | None = None
    fallback_from: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One product x attribute: the votes and, if labelled, the acceptable answers.

    Attributes:
        product: Identifier of the product; its cells stay together in resampling and cross-validation.
        category: May be empty.
        title: The product's text; may be empty.
        attribute: Attribute name.
        values: One per member; None: the member abstained.
        gold: Acceptable answers, the preferred one first; empty: no gold.
        origin: The server's answer; None: not recorded.
        scores: One per member: log-probability of the vote by its member, in nats, rounded to float32; None:
            not known. Empty: none is known.
        usage: One per member: its share of what the member's answer took, so that the rows of an answer add
            up to it; None: not recorded. Empty: none is.
    """

    product: str
    category: str
    title: str
    attribute: str
    values: tuple[str | None, ...]
    gold: tuple[str, ...] = ()
    origin: Origin | None = None
    scores: tuple[float | None, ...] = ()
    usage: Usage = ()

    def is_right(self, value: str | None) -> bool:
        """Whether an answer is acceptable; "n/a" only if it is the preferred gold answer."""
        if value == NOT_APPLICABLE:
            return self.gold[:1] == (NOT_APPLICABLE,)
        return value is not None and value in self.gold

    def of_members(self, places: Sequence[int]) -> Cell:
        """The cell with the votes at these places only, in their order."""
        scores = known_scores([self.scores[i] for i in places]) if self.scores else ()
        usage = known_usage([self.usage[i] for i in places]) if self.usage else ()
        return replace(self, values=tuple(self.values[i] for i in places), scores=scores, usage=usage)


def how_to_keep_one(*tables: Path | str) -> str:
    """What to do about a cell that stands twice in these tables."""
    names = " ".join(shlex.quote(str(table)) for table in tables)
    return f"keep one of the two: `quorum votes merge {names} --prefer first --out FILE`"


def known_scores(scores: Iterable[float | None]) -> tuple[float | None, ...]:
    """The scores of a cell, empty if none is known."""
    found = tuple(scores)
    return found if any(score is not None for score in found) else ()


def known_usage(usage: Iterable[Spent | None]) -> Usage:
    """The usage of a cell, empty if none is recorded."""
    found = tuple(usage)
    return found if any(spent is not None for spent in found) else ()


def is_columnar(path: Path) -> bool:
    """Whether a path has the suffix of Parquet or Arrow; every other file is read as JSON lines."""
    return path.suffix in COLUMN_SUFFIXES


def check_members(members: Sequence[str], path: Path | None = None) -> None:
    """Refuse, by VotesError, members that a pattern, or names that this file's columns, cannot hold."""
    source = f"{path}: " if path else ""
    taken = sorted(RESERVED.intersection(members)) if path and is_columnar(path) else []
    if taken:
        raise VotesError(f"{source}{taken} are columns with another meaning; give these members other names")
    if not members or len(set(members)) != len(members) or len(members) > MAX_MEMBERS:
        raise VotesError(
            f"{source}members must be 1 to {MAX_MEMBERS} distinct columns, not {list(members)}; name them"
        )


def check_wanted(members: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse, by VotesError, votes of other members than those wanted; the order may differ."""
    if sorted(members) != sorted(wanted):
        raise VotesError(
            f"these are votes of {', '.join(members)}, wanted are votes of {', '.join(wanted)}: "
            f"{how_to_fit(members, wanted)}"
        )


def how_to_fit(members: Sequence[str], wanted: Sequence[str]) -> str:
    """Name the commands that make votes of ``members`` votes of those wanted."""
    extra = [name for name in members if name not in wanted]
    missing = [name for name in wanted if name not in members]
    if len(missing) == len(wanted):
        return (
            "these are votes of another deployment; name it by --deploy, or work in a folder without "
            "deploy.yaml (renamed members: `quorum votes rename VOTES OLD=NEW --out RENAMED`)"
        )
    steps = []
    if extra:
        names = shlex.join(extra)
        steps.append(f"leave out {', '.join(extra)}: `quorum votes drop VOTES {names} --out FEWER`")
    if missing:
        asked = " ".join(f"--only {shlex.quote(name)}" for name in missing)
        votes = "FEWER" if extra else "VOTES"
        steps.append(f"ask {', '.join(missing)}: `quorum extract LISTINGS {asked} --votes {votes}`")
    return "; then ".join(steps)


def check_version(version: object) -> int:
    """The version of a row or file, ``None`` being 1; raises VotesError if this code does not read it."""
    if version is None:
        return UNVERSIONED
    if isinstance(version, bool) or not isinstance(version, int) or version < UNVERSIONED:
        raise VotesError(f"`{VERSION_FIELD}` is {version!r}; a number from 1 to {SCHEMA_VERSION} is needed")
    if version > SCHEMA_VERSION:
        raise VotesError(
            f"`{VERSION_FIELD}` is {version}, this quorum reads up to {SCHEMA_VERSION}; upgrade quorum, or "
            "write the table again with this one"
        )
    return version


def read_origin(row: Mapping[str, Any], version: int) -> Origin | None:
    """Return the origin of a row, None where it states none.

    Version 1 had no such columns, so a value of another type under such a name is left out there;
    in version 2 it raises VotesError.
    """
    known: dict[str, Any] = {}
    for name, (wanted, kind) in _ORIGIN.items():
        value = row.get(name)
        # NaN: how pandas writes a number that is missing; the others of its column are floats.
        if value is None or value != value:
            continue
        whole = isinstance(value, float) and value.is_integer()
        try:
            known[name] = msgspec.convert(int(value) if whole else value, kind)
        except msgspec.ValidationError as error:
            if version > UNVERSIONED:
                raise VotesError(f"`{name}` is {value!r}; {wanted} or null is needed") from error
    return Origin(**known) if known else None


def read_scores(
    row: Mapping[str, Any], votes: Mapping[str, object], version: int
) -> tuple[float | None, ...]:
    """Return the scores of a row's ``votes``, in their order; empty where it states none.

    A score of a member without a vote is left out. What version 1 has under this name is left out if it does
    not fit, as in :func:`read_origin`; in version 2 it raises VotesError.
    """
    stated = row.get(SCORES_COLUMN)
    if stated is None:
        return ()
    try:
        if not isinstance(stated, dict):
            raise VotesError(f"`scores` is {stated!r}; an object of member: number is needed, or null")
        unknown = sorted(stated.keys() - votes.keys())
        if unknown:
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            raise VotesError(f"`scores` names {unknown[:_NAMED]}{more}; the members are {list(votes)}")
        scores = {name: _score(score, name) for name, score in stated.items()}
    except VotesError:
        if version > UNVERSIONED:
            raise
        return ()
    return known_scores(None if vote is None else scores.get(name) for name, vote in votes.items())


def read_usage(stated: object, members: Iterable[str]) -> Usage:
    """Return the usage of a row, in the order of ``members``; empty where it states none.

    Raises:
        VotesError: It is no object of member: figures, or a figure is no number from 0.
    """
    if stated is None:
        return ()
    try:
        known = msgspec.convert(stated, dict[str, _Figures | None])
    except msgspec.ValidationError as error:
        figures = ", ".join(Spent._fields)
        raise VotesError(
            f"`usage` is {stated!r:.80}; an object of member: figures ({figures}) is needed ({error})"
        ) from error
    return known_usage(own.spent if (own := known.get(name)) else None for name in members)


_Figure = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]


class _Figures(msgspec.Struct):
    """What a line says that a member took; figures that it leaves out are not known."""

    calls: _Figure | None = None
    prompt_tokens: _Figure | None = None
    answer_tokens: _Figure | None = None
    cached_tokens: _Figure | None = None
    seconds: _Figure | None = None
    cost: _Figure | None = None

    @property
    def spent(self) -> Spent | None:
        """The figures; None without a number of calls."""
        if self.calls is None:
            return None
        rest = (self.prompt_tokens, self.answer_tokens, self.cached_tokens, self.seconds, self.cost)
        return Spent(self.calls, *rest)


def _score(number: object, member: str) -> float | None:
    if number is None:
        return None
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or (score := valid_score(number)) is None
    ):
        raise VotesError(f"scores[{member!r}] is {number!r}; {SCORE_NEEDED}")
    (rounded,) = _FLOAT32.unpack(_FLOAT32.pack(score))
    return float(rounded)


_FLOAT32 = struct.Struct("<f")
_NAMED = 5
_MOST = sys.float_info.max
_ORIGIN: Mapping[str, tuple[str, Any]] = {
    "channel": ("a text", str),
    "weights_version": ("a whole number", Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]),
    "latency_ms": ("a number", Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)]),
    "fallback_from": ("a text", str),
}
