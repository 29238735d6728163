# SPDX-License-Identifier: Apache-2.0
"""Pool judged pairs of several days, row by row: memory grows with the new day alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from quorum.distill.split import MIN_QUERIES, keys_of, same_key
from quorum.retrieval.judged import Judged, JudgedError, JudgedPair
from quorum.retrieval.judged_files import open_judged, write_judged


@dataclass(slots=True)
class Pooled:
    """What became of the pairs.

    Attributes:
        pairs: Written.
        replaced: Of earlier days, whose pair the new day judged again.
        changed: Of earlier days, whose item has another text now: they were judged by the old one.
        held_out: Of keyphrases that are held out, in any form.
    """

    pairs: int = 0
    replaced: int = 0
    changed: int = 0
    held_out: int = 0


def refuse_too_few(day: Path, keyphrases: set[str], before: Path | None, held_out: Judged) -> None:
    """Refuse, before they are judged, pairs that leave too few keyphrases to learn.

    Args:
        day: File of the pairs that are to be judged, for messages.
        keyphrases: Theirs.
        before: Judged pairs of earlier days; None: there were none.
        held_out: Pairs of keyphrases that no student learns.

    Raises:
        JudgedError: Too few, or a file cannot be read.
    """
    secret, new = keys_of(held_out), {same_key(keyphrase) for keyphrase in keyphrases}
    old = {same_key(pair.keyphrase) for pair in open_judged(before)[1]} if before else set()
    count = len((new | old) - secret)
    if count >= MIN_QUERIES:
        return
    held = len(new & secret)
    share = f"all {held}" if held == len(new) else f"{held} of {len(new)}"
    earlier = f" and {before}" if before else ""
    raise JudgedError(
        f"{share} keyphrases of {day} are held out; {day}{earlier} has {count} others, and {MIN_QUERIES} are"
        " needed to train on: give pairs of more keyphrases that are not held out"
    )


def pool(before: Path | None, day: Path, held_out: Judged, out: Path) -> Pooled:
    """Write the judged pairs of both files that a student may learn; the newest judgement of a pair counts.

    Args:
        before: Judged pairs of earlier days; None: there were none.
        day: Those of the new one, whose provenance ``out`` gets.
        held_out: Pairs of keyphrases that no student learns.
        out: The file.

    Raises:
        JudgedError: A file cannot be read.
        OSError: ``out`` cannot be written.
    """
    secret, found = keys_of(held_out), Pooled()
    provenance, rows = open_judged(day)
    judged_now: set[tuple[str, str]] = set()
    texts: dict[str, str] = {}
    for pair in rows:
        judged_now.add((pair.item, pair.keyphrase))
        texts[pair.item] = pair.text

    def old() -> Iterator[JudgedPair]:
        if before is None:
            return
        for pair in open_judged(before)[1]:
            if (pair.item, pair.keyphrase) in judged_now:
                found.replaced += 1
            elif texts.get(pair.item, pair.text) != pair.text:
                found.changed += 1
            else:
                yield pair

    def learnable() -> Iterator[JudgedPair]:
        for pair in chain(old(), open_judged(day)[1]):
            if same_key(pair.keyphrase) in secret:
                found.held_out += 1
            else:
                yield pair

    found.pairs = write_judged(out, learnable(), provenance)
    return found
