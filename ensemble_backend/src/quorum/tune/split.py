# SPDX-License-Identifier: Apache-2.0
"""Hold out rows for judging, so that no near duplicate of them is trained on."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from quorum.tune.data import TrainingDataError, TrainingRow
from quorum_contract.fields import split_fields

SHARE = 0.1
"""Share of the products that is held out."""
MAX_HELD_OUT = 1000
"""Most rows that are held out: enough to see a difference of two points."""
SIMILAR = 0.8
"""Texts whose sets of words have at least this Jaccard similarity count as near duplicates."""
_WORD = re.compile(r"\w+")


class Split(NamedTuple):
    """Rows to train on, and rows held out.

    ``left_out`` are neither: rows of a group that is larger than what is held out.
    """

    train: tuple[TrainingRow, ...]
    held_out: tuple[TrainingRow, ...]
    left_out: tuple[TrainingRow, ...] = ()


def split(rows: Sequence[TrainingRow], seed: int, share: float = SHARE, at_most: int = MAX_HELD_OUT) -> Split:
    """Hold out about ``share`` of the rows.

    Stay together: near duplicates (:data:`SIMILAR`), rows of one product, and, of texts with several named
    fields, rows with the same first field, such as all products that were judged for one query. Where every
    group is too large, a part of the smallest one is held out, and its other rows are left out.

    Args:
        rows: At least two.
        seed: Of the draw.
        share: Wanted, above 0 and below 1.
        at_most: Rows.

    Raises:
        TrainingDataError: Fewer than two rows, or all of them belong together.
    """
    groups = group_near_duplicates([row.text for row in rows], [row.product for row in rows])
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    if len(members) < 2:
        raise TrainingDataError(
            f"{len(rows)} rows are near duplicates of one text, so that none can be held out; add other rows"
        )
    wanted = min(at_most, max(1, round(share * len(rows))))
    order = sorted(members)
    random.Random(f"held out {seed}").shuffle(order)
    held: set[int] = set()
    for group in order:
        # A large group that does not fit is trained on.
        if len(held) < wanted and len(held) + len(members[group]) <= max(wanted * 1.2, 1):
            held.update(members[group])
    unused: set[int] = set()
    if not held:
        smallest = min(members.values(), key=len)
        held = set(random.Random(f"cut {seed}").sample(smallest, min(wanted, len(smallest))))
        unused = set(smallest) - held
    kept_apart = held | unused
    train = tuple(row for place, row in enumerate(rows) if place not in kept_apart)
    held_out, left_out = (tuple(rows[place] for place in sorted(places)) for places in (held, unused))
    return Split(train, held_out, left_out)


def group_near_duplicates(texts: Sequence[str], names: Sequence[str] = ()) -> list[int]:
    """Number the group of each text: near duplicates, equal names and equal first fields share one.

    Candidates come from the rarest words of each text, which two similar texts must share (prefix filter of
    Chaudhuri et al., "A primitive operator for similarity joins", ICDE 2006); so time is nearly linear.

    Args:
        texts: (n,).
        names: (n,) of products; (): none.

    Returns:
        (n,) numbers of groups.
    """
    words = [frozenset(_WORD.findall(text.casefold())) or frozenset({text}) for text in texts]
    counts = Counter(word for found in words for word in found)
    groups = _Groups(len(texts))
    for keys in (names, [_first_field(text) for text in texts]):
        _join_equal(groups, keys)
    by_words: dict[frozenset[str], int] = {}
    by_prefix: dict[str, list[int]] = defaultdict(list)
    for place, found in enumerate(words):
        if (same := by_words.setdefault(found, place)) != place:
            groups.join(same, place)
            continue
        rarest = sorted(found, key=lambda word: (counts[word], word))
        prefix = rarest[: len(found) - math.ceil(SIMILAR * len(found)) + 1]
        for other in {other for word in prefix for other in by_prefix[word]}:
            if _is_similar(found, words[other]):
                groups.join(other, place)
        for word in prefix:
            by_prefix[word].append(place)
    return [groups.find(place) for place in range(len(texts))]


def _join_equal(groups: _Groups, keys: Iterable[str | None]) -> None:
    first: dict[str, int] = {}
    for place, key in enumerate(keys):
        if key is not None:
            groups.join(first.setdefault(key, place), place)


def _first_field(text: str) -> str | None:
    fields = split_fields(text)
    return next(iter(fields.values())).casefold() if len(fields) > 1 else None


def _is_similar(a: frozenset[str], b: frozenset[str]) -> bool:
    shared = len(a & b)
    return shared >= SIMILAR * (len(a) + len(b) - shared)


class _Groups:
    """Disjoint sets of places."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def find(self, place: int) -> int:
        """The representative of a place."""
        while self._parents[place] != place:
            self._parents[place] = self._parents[self._parents[place]]
            place = self._parents[place]
        return place

    def join(self, a: int, b: int) -> None:
        """Make one set of two."""
        a, b = self.find(a), self.find(b)
        self._parents[max(a, b)] = min(a, b)
