# SPDX-License-Identifier: Apache-2.0
"""Judged pairs: how relevant a keyphrase is to an item, by a judge.

A row is one item and one keyphrase. ``label`` is the expected grade under the judge's calibrated confidence.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from quorum_contract.errors import QuorumError

RELEVANT = 0.5
"""Labels and gold from here on count as relevant."""

Index = npt.NDArray[np.int32]
Shares = npt.NDArray[np.float32]


class JudgedError(QuorumError, ValueError):
    """A file of judged pairs cannot be read or used; the message names file and row, and the fix."""

    code = "JUDGED_INVALID"


def check_counts(clicks: float | None, impressions: float | None, position: float | None) -> None:
    """Raise ValueError for numbers that no counting gives; None: not known."""
    for name, number in (("clicks", clicks), ("impressions", impressions)):
        if number is not None and number < 0:
            raise ValueError(f"{name} are {number:g}; give a number from 0")
    if clicks is not None and impressions is not None and clicks > impressions:
        raise ValueError(f"clicks are {clicks:g} of {impressions:g} impressions; at most all can be clicked")
    if position is not None and position < 1:
        raise ValueError(f"position is {position:g}, and ranks begin at 1")


class JudgedPair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row.

    Attributes:
        item: Id of the item.
        text: Its text.
        category: Its (leaf) category; may be empty.
        keyphrase: As a buyer types it.
        label: Expected grade over the highest grade, in [0, 1].
        value: The grade that the judge decided for.
        confidence: Of that decision, in [0, 1].
        disagreement: Share of the answering members that named another grade, in [0, 1].
        gold: A person's grade over the highest grade, in [0, 1]; None: it was not graded.
        clicks: Clicks on the item after a search for the keyphrase; None: not known.
        impressions: How often the item was shown for it; None: not known.
        position: Mean rank at which it was shown, from 1; None: not known.
        relevance: Score of the search engine, any scale; None: not known.
    """

    item: str
    text: str
    keyphrase: str
    label: float
    value: str
    confidence: float
    disagreement: float = 0.0
    category: str = ""
    gold: float | None = None
    clicks: float | None = None
    impressions: float | None = None
    position: float | None = None
    relevance: float | None = None

    def __post_init__(self) -> None:
        """Refuse, as ValueError, a pair that means nothing."""
        for name in ("item", "text", "keyphrase"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty")
        for name in ("label", "confidence", "disagreement", "gold"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}, and lies in [0, 1]")
        for name in ("clicks", "impressions", "position", "relevance"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} is {number}")
        check_counts(self.clicks, self.impressions, self.position)


@dataclass(frozen=True, slots=True)
class Judged:
    """Judged pairs as arrays; P pairs, I items, K keyphrases.

    Attributes:
        items: (I,) ids, in the order of first appearance.
        texts: (I,) text of each item.
        categories: (I,) category of each item.
        keyphrases: (K,) distinct keyphrases.
        item_of: (P,) int32, index into ``items``.
        keyphrase_of: (P,) int32, index into ``keyphrases``.
        labels: (P,) float32 in [0, 1].
        confidences: (P,) float32 in [0, 1].
        disagreements: (P,) float32 in [0, 1].
        gold: (P,) float32 in [0, 1]; NaN without.
        signals: ``clicks``, ``impressions``, ``position``, ``relevance`` -> (P,) float32; NaN where unknown.
        provenance: What judged: weights version and hash, hash of the question, grades, members, inputs.
    """

    items: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[str, ...]
    keyphrases: tuple[str, ...]
    item_of: Index
    keyphrase_of: Index
    labels: Shares
    confidences: Shares
    disagreements: Shares
    gold: Shares
    signals: Mapping[str, Shares] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.labels)

    def taking(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Judged:
        """The pairs of these rows; items and keyphrases keep their numbers."""
        return Judged(
            self.items,
            self.texts,
            self.categories,
            self.keyphrases,
            self.item_of[rows],
            self.keyphrase_of[rows],
            self.labels[rows],
            self.confidences[rows],
            self.disagreements[rows],
            self.gold[rows],
            {name: values[rows] for name, values in self.signals.items()},
            self.provenance,
        )


SIGNALS = ("clicks", "impressions", "position", "relevance")


def gather(pairs: Iterable[JudgedPair], provenance: Mapping[str, Any] | None = None) -> Judged:
    """Put pairs into arrays; each takes 44 bytes, besides the texts.

    Raises:
        JudgedError: A pair stands twice, or an item has two texts.
    """
    columns = _Columns()
    for row, pair in enumerate(pairs, 1):
        columns.add(row, pair)
    item_of, keyphrase_of = (np.array(column, np.int32) for column in (columns.item_of, columns.keyphrase_of))
    _refuse_twice(columns, item_of, keyphrase_of)
    label, confidence, disagreement, gold, *signals = (np.array(c, np.float32) for c in columns.numbers)
    return Judged(
        tuple(columns.items),
        tuple(columns.texts),
        tuple(columns.categories),
        tuple(columns.keyphrases),
        item_of,
        keyphrase_of,
        label,
        confidence,
        disagreement,
        gold,
        signals=dict(zip(SIGNALS, signals, strict=True)),
        provenance=dict(provenance or {}),
    )


class _Columns:
    """Pairs, as they come: numbers in arrays, each text once."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}
        self.keyphrases: dict[str, int] = {}
        self.texts: list[str] = []
        self.categories: list[str] = []
        self.item_of, self.keyphrase_of = array("i"), array("i")
        self.numbers = tuple(array("f") for _ in range(4 + len(SIGNALS)))

    def add(self, row: int, pair: JudgedPair) -> None:
        item = self.items.setdefault(pair.item, len(self.items))
        if item == len(self.texts):
            self.texts.append(pair.text)
            self.categories.append(pair.category)
        elif self.texts[item] != pair.text:
            raise JudgedError(
                f"row {row}: item {pair.item!r:.80} has another text than in an earlier row; give one of them"
                " another id, or both the same text"
            )
        self.item_of.append(item)
        self.keyphrase_of.append(self.keyphrases.setdefault(pair.keyphrase, len(self.keyphrases)))
        unknown = (pair.gold, *(getattr(pair, name) for name in SIGNALS))
        values = (
            pair.label,
            pair.confidence,
            pair.disagreement,
            *(math.nan if n is None else n for n in unknown),
        )
        for column, value in zip(self.numbers, values, strict=True):
            column.append(value)


def _refuse_twice(columns: _Columns, item_of: Index, keyphrase_of: Index) -> None:
    """Raise JudgedError for the first row whose pair an earlier one has."""
    _, first = np.unique(item_of.astype(np.int64) << 32 | keyphrase_of, return_index=True)
    if len(first) == len(item_of):
        return
    again = np.ones(len(item_of), np.bool_)
    again[first] = False
    row = int(np.flatnonzero(again)[0])
    item, keyphrase = (
        [*names][of[row]] for names, of in ((columns.items, item_of), (columns.keyphrases, keyphrase_of))
    )
    raise JudgedError(
        f"row {row + 1}: item {item!r:.80} and keyphrase {keyphrase!r:.80} stand twice; keep one of them"
    )


def check_question(path: Path, provenance: Mapping[str, Any], wanted: str | None, whose: str) -> None:
    """Refuse pairs that were judged by another question: labels of two questions do not mix.

    Args:
        path: Of the pairs.
        provenance: Theirs; where it does not name the question, nothing is refused.
        wanted: Hash of the question; None: not known.
        whose: Whose that is, in words.

    Raises:
        JudgedError: They were.
    """
    stated = asked_hash(provenance)
    if wanted is not None and stated is not None and stated != wanted:
        raise JudgedError(
            f"{path}: judged by another question, or other values or grades, than {whose}; labels of two"
            " questions do not mix: judge these pairs again"
        )


def asked_hash(provenance: Mapping[str, Any]) -> str | None:
    """Hash of the question that pairs were judged by; None: it is not stated."""
    question = provenance.get("question")
    return question.get("hash") if isinstance(question, Mapping) else None
