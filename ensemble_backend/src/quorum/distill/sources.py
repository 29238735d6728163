# SPDX-License-Identifier: Apache-2.0
"""Read what a student learns besides judged pairs: clicks, search relevance, items and keyphrases.

Rows of clicks and of search relevance are JSON lines with ``item``, ``keyphrase`` and their numbers; the text
of the item is that of the judged pairs, of the items' file, or the row's own ``text``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from quorum.bulk.listings import read_listings
from quorum.retrieval.judged import check_counts
from quorum.tune.data import Problems
from quorum_contract.errors import QuorumError


class SourceError(QuorumError, ValueError):
    """A file of clicks, relevance, items or keyphrases cannot be used; the message names file and rows."""

    code = "DISTILL_SOURCE_INVALID"


class Clicks(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``--clicks``; other columns are not read.

    Attributes:
        item: Id.
        keyphrase: As a buyer typed it.
        clicks: On the item, after a search for the keyphrase.
        impressions: How often it was shown then, above 0: what was never shown says nothing.
        position: Mean rank at which it was shown, from 1.
        text: Of the item; "": as elsewhere.
    """

    item: str
    keyphrase: str
    clicks: float
    impressions: float
    position: float
    text: str = ""

    def __post_init__(self) -> None:
        """Refuse, as ValueError, numbers that no counting gives."""
        check_counts(self.clicks, self.impressions, self.position)
        if not self.impressions > 0:
            raise ValueError("impressions are 0: what was never shown says nothing; leave the row out")
        if not math.isfinite(self.clicks + self.impressions + self.position):
            raise ValueError("a number is not finite")


class Relevance(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``--relevance``; other columns are not read.

    Attributes:
        item: Id.
        keyphrase: As a buyer types it.
        relevance: Score of the search engine, from 0, of any scale.
        text: Of the item; "": as elsewhere.
    """

    item: str
    keyphrase: str
    relevance: float
    text: str = ""

    def __post_init__(self) -> None:
        """Refuse, as ValueError, a score that is none."""
        if not 0 <= self.relevance < float("inf"):
            raise ValueError(f"relevance is {self.relevance:g}; scores are numbers from 0")


Row = TypeVar("Row", Clicks, Relevance)
_FIX = "fix these rows, or leave them out of the file"


def read_rows(path: Path, kind: type[Row], texts: Mapping[str, str]) -> list[Row]:
    """Read a file of clicks or relevance.

    Args:
        path: JSON lines.
        kind: Of its rows.
        texts: Item -> text, of those known; the text of a row wins.

    Returns:
        Rows, each with its item's text.

    Raises:
        SourceError: It cannot be read.
        TrainingDataError: Rows that mean nothing, or whose item has no text.
    """
    decoder, problems, found = msgspec.json.Decoder(kind), Problems(path, _FIX), list[Row]()
    for number, line in _lines(path):
        try:
            row = decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            problems.add(number, str(error))
            continue
        text = row.text or texts.get(row.item, "")
        if not text.strip() or not row.keyphrase.strip():
            empty = "keyphrase is empty" if text.strip() else f"item {row.item!r:.80} has no text anywhere"
            problems.add(number, f"{empty}; name it in `text`, or in a file of --items")
            continue
        found.append(msgspec.structs.replace(row, text=text))
    problems.refuse()
    return found


def read_items(path: Path) -> dict[str, str]:
    """Item -> text of a file of listings; raises ListingsError for one that cannot be read."""
    return {listing.product: listing.text for listing in read_listings(path, can_name=False)}


def read_keyphrases(path: Path) -> list[str]:
    """Keyphrases of a file: JSON lines with ``keyphrase``, else one in each line; each once.

    Raises:
        SourceError: It cannot be read, or holds none.
        TrainingDataError: Lines without a keyphrase.
    """
    found: dict[str, None] = {}
    problems = Problems(path, _FIX)
    for number, line in _lines(path):
        try:
            text = line.decode("utf-8")
            if path.suffix == ".jsonl":
                text = msgspec.json.decode(line)["keyphrase"]
            found[text.strip()] = None
        except (ValueError, msgspec.MsgspecError, LookupError, TypeError, AttributeError, RecursionError):
            problems.add(number, 'is no {"keyphrase": "..."}' if path.suffix == ".jsonl" else "is not UTF-8")
    problems.refuse()
    found.pop("", None)
    if not found:
        raise SourceError(f"{path}: holds no keyphrase; write one in each line")
    return list(found)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; name another file") from error
