# SPDX-License-Identifier: Apache-2.0
"""Split judged pairs by keyphrase, and refuse pairs that stand on both sides."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.retrieval.filters import normal_form
from quorum.retrieval.judged import Judged, JudgedError

MIN_QUERIES = 10
"""Keyphrases to train on, at least; fewer say nothing of new ones."""
MIN_HELD_OUT = 3
MAX_HELD_OUT = 500
_CHECK_SHARE = 0.1
"""Of the keyphrases that are left, those by which the epoch is chosen."""
_EXAMPLES = 5

Mask = npt.NDArray[np.bool_]


class Split(NamedTuple):
    """Pairs, by keyphrase: no keyphrase has pairs in two parts.

    Attributes:
        train: Learned.
        check: The epoch is chosen by them.
        held_out: The figures are of them; nothing else is.
    """

    train: Judged
    check: Judged
    held_out: Judged

    @property
    def secret(self) -> frozenset[str]:
        """Keyphrases that training may not see in any form, by :func:`same_key`."""
        return frozenset(keys_of(self.check) | keys_of(self.held_out))


def same_key(keyphrase: str) -> str:
    """What is equal for keyphrases that are the same for a buyer, as in an index: a plural would leak."""
    return normal_form(keyphrase)


def keys_of(judged: Judged) -> set[str]:
    """:func:`same_key` of the keyphrases that have pairs."""
    return {same_key(judged.keyphrases[number]) for number in np.unique(judged.keyphrase_of)}


def split_by_keyphrase(path: Path, judged: Judged, share: float, seed: int) -> Split:
    """Hold out a share of the keyphrases, with all their pairs.

    Args:
        path: Of the pairs, for messages.
        judged: The pairs.
        share: Wanted, above 0 and below 1.
        seed: Of the draw.

    Raises:
        JudgedError: Too few keyphrases.
    """
    keys = sorted(keys_of(judged))
    held = min(MAX_HELD_OUT, max(MIN_HELD_OUT, round(share * len(keys))))
    if len(keys) - held < MIN_QUERIES:
        raise JudgedError(
            f"{path}: {len(keys)} different keyphrases; {held} are held out, and {MIN_QUERIES} are needed to"
            " train on: judge pairs of more keyphrases"
        )
    random.Random(f"held out {seed}").shuffle(keys)
    chosen = _pairs_of(judged, set(keys[:held]))
    rest = judged.taking(~chosen)
    return Split(*with_check(rest, seed), judged.taking(chosen))


def split_from_file(path: Path, judged: Judged, other: Path, held_out: Judged, seed: int) -> Split:
    """Take the held-out pairs of a file of their own.

    Args:
        path: Of the pairs to train on, for messages.
        judged: These pairs.
        other: Of the pairs held out.
        held_out: Those.
        seed: Of the draw of keyphrases by which the epoch is chosen.

    Raises:
        JudgedError: A keyphrase, or a pair, stands in both; or too few keyphrases.
    """
    refuse_leaks(path, judged, other, held_out)
    count = len(keys_of(judged))
    if count < MIN_QUERIES:
        raise JudgedError(
            f"{path}: {count} different keyphrases, {MIN_QUERIES} are needed to train on: judge pairs of more"
        )
    return Split(*with_check(judged, seed), held_out)


def refuse_leaks(path: Path, judged: Judged, other: Path, held_out: Judged) -> None:
    """Raise JudgedError where a keyphrase, or a pair of item and keyphrase, stands in both files."""
    rows: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    for row, (item, keyphrase) in enumerate(_named(held_out), 1):
        rows.setdefault(same_key(keyphrase), row)
        pairs[item, same_key(keyphrase)] = row
    found = [
        (row, item, keyphrase)
        for row, (item, keyphrase) in enumerate(_named(judged), 1)
        if same_key(keyphrase) in rows
    ]
    if not found:
        return
    shown = "\n".join(
        f"  row {row}: item {item!r:.40}, keyphrase {keyphrase!r:.60}: "
        + (
            f"the same pair is row {pairs[item, same_key(keyphrase)]} of {other.name}"
            if (item, same_key(keyphrase)) in pairs
            else f"the keyphrase is in row {rows[same_key(keyphrase)]} of {other.name}"
        )
        for row, item, keyphrase in found[:_EXAMPLES]
    )
    more = f"\n  and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
    raise JudgedError(
        f"{path}: {len(found)} pairs are of keyphrases that {other} holds out, so that its figures would"
        f" say nothing; leave these pairs out of one of the files:\n{shown}{more}"
    )


def _named(judged: Judged) -> list[tuple[str, str]]:
    pairs = zip(judged.item_of.tolist(), judged.keyphrase_of.tolist(), strict=True)
    return [(judged.items[item], judged.keyphrases[keyphrase]) for item, keyphrase in pairs]


def with_check(judged: Judged, seed: int) -> tuple[Judged, Judged]:
    """Pairs to train on, and those of a few other keyphrases."""
    keys = sorted(keys_of(judged))
    random.Random(f"check {seed}").shuffle(keys)
    chosen = _pairs_of(judged, set(keys[: max(2, round(_CHECK_SHARE * len(keys)))]))
    return judged.taking(~chosen), judged.taking(chosen)


def _pairs_of(judged: Judged, keys: set[str]) -> Mask:
    inside = np.array([same_key(keyphrase) in keys for keyphrase in judged.keyphrases], np.bool_)
    found: Mask = inside[judged.keyphrase_of]
    return found
