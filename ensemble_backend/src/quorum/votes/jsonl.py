# SPDX-License-Identifier: Apache-2.0
"""Parse and write votes tables as JSON lines; errors name the line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TextIO

import numpy as np

from quorum.decision.hashed_json import unique
from quorum.votes.schema import (
    CELL_COLUMNS,
    COLUMN_SUFFIXES,
    ORIGIN_COLUMNS,
    SCHEMA_VERSION,
    SCORES_COLUMN,
    UNVERSIONED,
    USAGE_COLUMN,
    VERSION_FIELD,
    Cell,
    Usage,
    VotesError,
    check_version,
    read_origin,
    read_scores,
    read_usage,
)
from quorum_contract import Spent

_FIELDS = frozenset({*CELL_COLUMNS, *ORIGIN_COLUMNS, SCORES_COLUMN, USAGE_COLUMN, VERSION_FIELD, "votes"})
_PLAIN = json.JSONDecoder()
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


class Row(NamedTuple):
    """A cell, the members in the order of its values, and its line or row in the file, from 1.

    ``extra`` has the fields of a line that are no part of a cell.
    """

    number: int
    members: tuple[str, ...]
    cell: Cell
    extra: Mapping[str, Any] = NO_FIELDS


def read_lines(path: Path) -> Iterator[str]:
    """Read the lines of a file; raises VotesError if it is unreadable, or no text in UTF-8."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    # Spreadsheets and editors may write a byte order mark.
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise VotesError(
                        f"{path}: is no text in UTF-8 ({error.reason} on line {number}); a votes table is a "
                        f"file of JSON lines, unless its name ends in {', '.join(COLUMN_SUFFIXES)}"
                    ) from error
                yield text.rstrip("\r\n")
    except OSError as error:
        raise VotesError(f"{path}: cannot be read: {error}") from error


def parse_rows(lines: Iterable[str], source: str, identified: bool = True) -> Iterator[Row]:
    """Parse lines of JSON; empty ones are skipped.

    Args:
        lines: One row each.
        source: Names the file in errors.
        identified: Rows are cells of one table. If not, they are looked up by their title, which they need:
            the product may be missing, and each row has members and values of its own, read as text.

    Raises:
        VotesError: A line that is not JSON, is incomplete, has a value of the wrong type, a newer schema
            version, or other members than the first line.
    """
    members: tuple[str, ...] = ()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            # A recorded answer may hold half a character, as an LLM may write one; its member abstains.
            row = load_json(line, _DECODER, surrogates=not identified)
            votes = _votes(row)
            members = (members if identified else ()) or tuple(votes)
            cell = _cell(row, votes, members) if identified else _recorded(row, votes)
        except (ValueError, RecursionError) as error:
            raise VotesError(f"{source}, line {number}: {error}") from error
        yield Row(number, members, cell, {name: row[name] for name in row.keys() - _FIELDS} or NO_FIELDS)


def load_json(text: str, decoder: json.JSONDecoder = _PLAIN, surrogates: bool = False) -> Any:
    """Parse JSON from a file of a user; ``surrogates``: lone ones may pass.

    Raises ValueError: not JSON, nested too deeply, too long a number, or a text that UTF-8 cannot hold.
    """
    try:
        value = decoder.decode(text)
        if not surrogates and _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error}); is it cut off?") from error
    except UnicodeEncodeError as error:
        near = error.object[max(error.start - 20, 0) : error.end]
        raise ValueError(f"{near!r} holds a lone surrogate, which no UTF-8 can; remove it") from error
    except RecursionError as error:
        raise ValueError("nested too deeply; a row holds texts, and lists or objects of them") from error
    except ValueError as error:
        # Of a number that is too long, Python goes on to name a setting of its own.
        text, setting, _ = str(error).partition("; use sys.")
        raise ValueError(f"not JSON: {text}" if setting else text) from error
    return value


class LinesSink:
    """Writes cells as JSON lines, each of them on disk at once unless ``buffered``."""

    def __init__(self, path: Path, buffered: bool = False) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", buffering=-1 if buffered else 1)

    def write(self, cell: Cell, members: Sequence[str], extra: Mapping[str, Any] = NO_FIELDS) -> None:
        """Write one line; ``extra`` are fields that are no part of a cell."""
        row: dict[str, Any] = {VERSION_FIELD: SCHEMA_VERSION}
        row |= {name: getattr(cell, name) for name in CELL_COLUMNS}
        row["votes"] = dict(zip(members, cell.values, strict=True))
        if cell.scores:
            row[SCORES_COLUMN] = dict(zip(members, map(_shortest, cell.scores), strict=True))
        if cell.usage:
            row[USAGE_COLUMN] = {
                name: _figures(spent) for name, spent in zip(members, cell.usage, strict=True)
            }
        if cell.origin is not None:
            row |= {
                name: value for name in ORIGIN_COLUMNS if (value := getattr(cell.origin, name)) is not None
            }
        row |= extra
        try:
            self._file.write(_ENCODER.encode(row) + "\n")
        except ValueError as error:
            raise VotesError(
                f"product {cell.product!r}, attribute {cell.attribute!r}: a field holds a number that is too "
                f"large for JSON ({error}); write it as text"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _figures(spent: Spent | None) -> dict[str, float] | None:
    """The figures that are known, with six digits."""
    if spent is None:
        return None
    return {name: float(f"{x:.6g}") for name, x in spent._asdict().items() if x is not None}


def _shortest(score: float | None) -> float | None:
    """The shortest number that is the same float32."""
    return None if score is None or score != score else float(str(np.float32(score)))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value; write null where a member gave no vote")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=unique)


def _votes(row: object) -> Mapping[str, object]:
    if not isinstance(row, dict):
        raise VotesError(f"a JSON object is needed, not {type(row).__name__}")
    votes = row.get("votes")
    if not isinstance(votes, dict) or not votes:
        raise VotesError("`votes` must be an object of member: value (null for an abstention)")
    return votes


def _recorded(row: Mapping[str, Any], votes: Mapping[str, object]) -> Cell:
    """The votes of a row that is looked up by its title."""
    version = check_version(row.get(VERSION_FIELD))
    if row.get("title") is None:
        raise VotesError("no `title`; rows are looked up by their text")
    values = tuple(None if value is None else str(value) for value in votes.values())
    category, title = _text(row, "category", optional=True), _text(row, "title")
    scores, usage = read_scores(row, votes, version), _usage(row, votes, version)
    return Cell(
        str(row.get("product") or ""), category, title, _text(row, "attribute"), values,
        scores=scores, usage=usage,
    )  # fmt: skip


def _cell(row: Mapping[str, Any], votes: Mapping[str, object], members: tuple[str, ...]) -> Cell:
    version = check_version(row.get(VERSION_FIELD))
    unknown, missing = sorted(votes.keys() - set(members)), sorted(set(members) - votes.keys())
    if unknown or missing:
        raise VotesError(
            f"members differ from the first line: unknown {unknown}, missing {missing}; every line needs "
            "every member, null where it gave no vote"
        )
    values = tuple(_value(votes[name], f"votes[{name!r}]") for name in members)
    gold = row.get("gold") or []
    if not isinstance(gold, list):
        raise VotesError(f"`gold` must be a list of acceptable values, not {gold!r}")
    accepted = tuple(_value(value, "gold") for value in gold)
    if None in accepted:
        raise VotesError("`gold` holds null; leave gold out where there is none")
    return Cell(
        product=_text(row, "product"),
        category=_text(row, "category", optional=True),
        title=_text(row, "title", optional=True),
        attribute=_text(row, "attribute"),
        values=values,
        gold=tuple(value for value in accepted if value is not None),
        origin=read_origin(row, version),
        scores=read_scores(row, {name: votes[name] for name in members}, version),
        usage=_usage(row, members, version),
    )


def _usage(row: Mapping[str, Any], members: Iterable[str], version: int) -> Usage:
    """The usage of a row; what version 1 has under this name is left out if it does not fit."""
    try:
        return read_usage(row.get(USAGE_COLUMN), members)
    except VotesError:
        if version > UNVERSIONED:
            raise
        return ()


def _value(value: object, where: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise VotesError(f"{where} is {value!r}; a non-empty text is needed, or null for an abstention")


def _text(row: Mapping[str, Any], key: str, optional: bool = False) -> str:
    value = row.get(key)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not (value or optional):
        raise VotesError(f"`{key}` is {value!r}; a{'' if optional else ' non-empty'} text is needed")
    return value
