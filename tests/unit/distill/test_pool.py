# SPDX-License-Identifier: Apache-2.0
"""Judged pairs of several days as one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from quorum.distill.pool import Pooled, pool, refuse_too_few
from quorum.retrieval.judged import JudgedError, JudgedPair, gather
from quorum.retrieval.judged_files import read_judged, write_judged


def pair(item: int, label: float, keyphrase: str = "k", text: str = "t") -> JudgedPair:
    return JudgedPair(item=f"i{item}", text=text, keyphrase=keyphrase, label=label, value="3", confidence=0.9)


def labels(path: Path) -> dict[tuple[str, str], float]:
    found = read_judged(path)
    return {
        (found.items[item], found.keyphrases[keyphrase]): float(label)
        for item, keyphrase, label in zip(found.item_of, found.keyphrase_of, found.labels, strict=True)
    }


def test_the_new_days_judgement_of_a_pair_counts(tmp_path: Path) -> None:
    one, two, out = (tmp_path / f"{name}.parquet" for name in ("1", "2", "all"))
    write_judged(one, [pair(1, 0.0), pair(2, 0.0)], {"day": 1})
    write_judged(two, [pair(2, 1.0), pair(3, 1.0)], {"day": 2})
    assert pool(one, two, gather([]), out) == Pooled(pairs=3, replaced=1)
    assert labels(out) == {("i1", "k"): 0.0, ("i2", "k"): 1.0, ("i3", "k"): 1.0}
    assert read_judged(out).provenance["day"] == 2
    assert pool(None, two, gather([]), out) == Pooled(pairs=2)


def test_an_item_with_another_text_begins_anew(tmp_path: Path) -> None:
    one, two, out = (tmp_path / f"{name}.parquet" for name in ("1", "2", "all"))
    write_judged(one, [pair(1, 0.0, "a"), pair(1, 0.0, "b"), pair(2, 0.0)], {})
    write_judged(two, [pair(1, 1.0, "a", "new"), pair(1, 1.0, "c", "new")], {})
    assert pool(one, two, gather([]), out) == Pooled(pairs=3, replaced=1, changed=1)
    assert labels(out) == {("i2", "k"): 0.0, ("i1", "a"): 1.0, ("i1", "c"): 1.0}


def test_held_out_keyphrases_are_left_out_in_any_form(tmp_path: Path) -> None:
    one, two, out = (tmp_path / f"{name}.jsonl" for name in ("1", "2", "all"))
    write_judged(one, [pair(1, 0.0, "Red Shoes!")], {})
    write_judged(two, [pair(1, 1.0, "red shoe"), pair(1, 1.0, "blue")], {})
    assert pool(one, two, gather([pair(9, 0.0, "red shoes")]), out) == Pooled(pairs=1, held_out=2)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    day = tmp_path / "day.jsonl"
    write_judged(day, [pair(1, 0.0)], {})
    day.write_text(day.read_text("utf-8") + "{", "utf-8")
    with pytest.raises(JudgedError, match=r"day.jsonl: line 3"):
        pool(None, day, gather([]), tmp_path / "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()


@pytest.mark.parametrize(
    ("names", "earlier", "why"),
    [
        (("a0", "A1"), (), "all 2 keyphrases of day.csv are held out"),
        (
            [f"a{n}" for n in range(3)] + [f"b{n}" for n in range(9)],
            (),
            "3 of 12 .* has 9 others, and 10 are",
        ),
        ([f"b{n}" for n in range(9)], ["c", "b1"], ""),
    ],
)
def test_too_few_keyphrases_are_refused_before_they_are_judged(
    tmp_path: Path, names: Sequence[str], earlier: Sequence[str], why: str
) -> None:
    before = tmp_path / "before.jsonl" if earlier else None
    if before:
        write_judged(before, [pair(1, 1.0, name) for name in earlier], {})
    held_out = gather(pair(1, 1.0, f"a{n}") for n in range(5))
    if not why:
        refuse_too_few(Path("day.csv"), {*names}, before, held_out)
        return
    with pytest.raises(JudgedError, match=why):
        refuse_too_few(Path("day.csv"), {*names}, before, held_out)
