# SPDX-License-Identifier: Apache-2.0
"""Read pairs of item and keyphrase from CSV, JSON lines or Parquet; what cannot be asked is named by line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quorum.bulk.inputs.cursors import cursor_over
from quorum.bulk.inputs.describe import describe
from quorum.bulk.inputs.formats.cursor import Flaw
from quorum.bulk.inputs.options import InputOptions
from quorum.bulk.inputs.records import ListingsError
from quorum.retrieval.judged import SIGNALS, check_counts
from quorum.tasks.catalogue import Catalogue
from quorum_contract.checks import (
    MAX_ATTRIBUTE_BYTES,
    check_name,
    encode,
    encode_category,
    encode_text,
    is_blank,
)
from quorum_contract.errors import InvalidRequest, QuorumError
from quorum_contract.fields import one_line

TEXT = "text"
_NAMED = 20
_MAX_ITEM_BYTES = 1 << 20

_Row = Mapping[str, Any] | str
"""The fields of a row, or what is wrong with it."""


class PairsError(QuorumError, ValueError):
    """A file of pairs cannot be read, or has rows that cannot be asked; names file, line and fix."""

    code = "PAIRS_INVALID"


@dataclass(frozen=True, slots=True)
class Pair:
    """One row.

    Attributes:
        line: Its line in the file, its row in Parquet, from 1.
        item: Id of the item.
        text: Its text.
        keyphrase: On one line.
        category: Of the item; may be empty.
        gold: A person's answer, one of the question's values; None: the pair was not judged.
        signals: Those of :data:`quorum.retrieval.judged.SIGNALS` that the row has.
    """

    line: int
    item: str
    text: str
    keyphrase: str
    category: str = ""
    gold: str | None = None
    signals: tuple[float | None, ...] = (None,) * len(SIGNALS)


_LACKS = "has no "


class Broken(NamedTuple):
    """A row that cannot be asked."""

    line: int
    reason: str


class Pairs(NamedTuple):
    """The rows of a file, and those that cannot be asked."""

    good: list[Pair]
    broken: list[Broken]


def read_pairs(
    path: Path,
    catalogue: Catalogue,
    text: Sequence[str] = (TEXT,),
    *,
    limit: int | None = None,
    max_bad: int = 0,
) -> Pairs:
    """Read and check a file of pairs.

    Columns: ``item``, ``keyphrase``, those of ``text``, and if present ``category``, ``gold`` and signals.
    The columns of a text are joined by spaces; white space in a keyphrase becomes one space.

    Args:
        path: The file; see :func:`quorum.bulk.inputs.describe.describe`.
        catalogue: With a default question, whose values gold is one of.
        text: Columns that the item's text is made of.
        limit: Stop after so many good rows; None: read all.
        max_bad: So many rows may be broken.

    Raises:
        PairsError: It cannot be read, lacks a column, or has more broken rows.
    """
    good: list[Pair] = []
    broken: list[Broken] = []
    # Item -> text, category and line of its first row.
    items: dict[str, tuple[str, str, int]] = {}
    seen: dict[tuple[str, str], int] = {}
    for line, row in _rows(path):
        if limit is not None and len(good) >= limit:
            break
        try:
            if isinstance(row, str):
                raise InvalidRequest(row)
            pair = _pair(line, row, catalogue, text)
            _check_known(pair, items, seen)
        except (InvalidRequest, KeyError) as error:
            reason = f"{_LACKS}{error.args[0]!r}" if isinstance(error, KeyError) else str(error)
            broken.append(Broken(line, reason))
        else:
            good.append(pair)
    if len(broken) > max_bad:
        raise PairsError(_named(path, broken, len(good), max_bad))
    if not good:
        raise PairsError(f"{path}: no pairs; a row needs item, keyphrase and {', '.join(text)}")
    return Pairs(good, broken)


def _named(path: Path, broken: Sequence[Broken], good: int, max_bad: int) -> str:
    reasons = {reason for _, reason in broken}
    if not good and len(broken) > 1 and len(reasons) == 1 and broken[0].reason.startswith(_LACKS):
        return f"{path}: every row {reasons.pop()}; see `quorum judge --help` for the columns"
    lines = [f"{path}:{line}: {reason}" for line, reason in broken[:_NAMED]]
    more = [f"and {len(broken) - _NAMED} more"] if len(broken) > _NAMED else []
    advice = (
        f"{path}: {len(broken)} of {len(broken) + good} rows cannot be asked, {max_bad} may; fix them, or"
        f" leave them out with --max-bad {len(broken)}"
    )
    return "\n".join([*lines, *more, advice])


def _pair(line: int, row: Mapping[str, Any], catalogue: Catalogue, text: Sequence[str]) -> Pair:
    item, words = _text(row, "item"), " ".join(filter(str.strip, (_text(row, name) for name in text)))
    keyphrase = one_line(_text(row, "keyphrase"))
    category = _text(row, "category") if row.get("category") is not None else ""
    for name, value in (("item", item), (" and ".join(text), words), ("keyphrase", keyphrase)):
        if is_blank(value):
            raise InvalidRequest(f"{name} is empty")
    encode(item, "item", _MAX_ITEM_BYTES)
    encode_text(words)
    encode_category(category)
    encode(keyphrase, "keyphrase", MAX_ATTRIBUTE_BYTES)
    check_name(keyphrase, "keyphrase")
    if not catalogue.is_by_default(keyphrase):
        raise InvalidRequest(f"keyphrase: {keyphrase!r} is an attribute of the catalogue; rename that")
    signals = tuple(_number(row, name) for name in SIGNALS)
    try:
        check_counts(*signals[:3])
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    return Pair(line, item, words, keyphrase, category, _gold(row, catalogue), signals)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is {value!r:.80}; give a text")
    return value


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, float) and math.isnan(value):
        # How tables spell a number that is missing.
        return None
    if not math.isfinite(number):
        raise InvalidRequest(f"{name} is {value!r:.80}; give a number")
    return number


def _gold(row: Mapping[str, Any], catalogue: Catalogue) -> str | None:
    """One of the question's values; a number is spelled as whole where it is."""
    raw, asked = row.get("gold"), catalogue.default
    if raw is None or raw == "" or (isinstance(raw, float) and math.isnan(raw)) or asked is None:
        return None
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    value = None if isinstance(raw, bool) else asked.named("gold").normalise(str(raw))
    if value is None:
        raise InvalidRequest(f"gold is {raw!r:.80}; give one of {', '.join(asked.values)}")
    return value


def _check_known(
    pair: Pair, items: dict[str, tuple[str, str, int]], seen: dict[tuple[str, str], int]
) -> None:
    """Refuse an item with two texts, and a pair that stands twice."""
    text, category, first = items.setdefault(pair.item, (pair.text, pair.category, pair.line))
    if (text, category) != (pair.text, pair.category):
        raise InvalidRequest(f"item {pair.item!r:.80} has another text or category than on line {first}")
    first = seen.setdefault((pair.item, pair.keyphrase), pair.line)
    if first != pair.line:
        raise InvalidRequest(f"item and keyphrase stood on line {first} already")


def _rows(path: Path) -> Iterator[tuple[int, _Row]]:
    try:
        with cursor_over(describe(str(path), str(path), InputOptions())) as cursor:
            for row in cursor:
                yield cursor.at, row.reason if isinstance(row, Flaw) else row
    except ListingsError as error:
        raise PairsError(str(error)) from error
