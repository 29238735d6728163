# SPDX-License-Identifier: Apache-2.0
"""A file of judged pairs that cannot be used says what to do."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import pytest

from quorum.retrieval.judged import JudgedError, JudgedPair, gather
from quorum.retrieval.judged_files import check_new, read_judged, write_judged


def pair(item: str, text: str, keyphrase: str) -> JudgedPair:
    return JudgedPair(item=item, text=text, keyphrase=keyphrase, label=1.0, value="1", confidence=1.0)


def test_rows_that_contradict_each_other_are_named_with_the_fix() -> None:
    first = pair("a", "red shoe", "shoe")
    with pytest.raises(
        JudgedError, match=r"row 2: item 'a' has another text .*; give one of them another id"
    ):
        gather([first, pair("a", "blue shoe", "boot")])
    with pytest.raises(
        JudgedError, match="row 2: item 'a' and keyphrase 'shoe' stand twice; keep one of them"
    ):
        gather([first, first])


def test_only_a_new_file_of_a_known_ending_is_begun(tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.touch()
    with pytest.raises(JudgedError, match=r"there\.jsonl: exists already; name another file, or remove it"):
        check_new(there)
    with pytest.raises(JudgedError, match=r"choose one of these endings"):
        check_new(tmp_path / "new.csv")
    check_new(tmp_path / "new.parquet")
    assert not (tmp_path / "new.parquet").exists()


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({"clicks": 3, "impressions": 2}, "clicks are 3 of 2 impressions"),
        ({"clicks": -1}, "clicks are -1"),
        ({"impressions": -2}, "impressions are -2"),
        ({"position": 0.5}, "ranks begin at 1"),
        ({"clicks": math.inf}, "clicks is inf"),
    ],
)
def test_numbers_that_no_counting_gives_are_refused(counts: dict[str, float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        JudgedPair(item="a", text="t", keyphrase="k", label=1, value="1", confidence=1, **counts)


@pytest.mark.parametrize("rows", [1, 5000])
def test_the_row_of_a_pair_that_stands_twice_is_found(rows: int) -> None:
    pairs = [pair(f"i{n}", "t", f"k{n % 7}") for n in range(rows)]
    with pytest.raises(JudgedError, match=rf"row {rows + 1}: item 'i0' and keyphrase 'k0' stand twice"):
        gather([*pairs, pairs[0], *pairs[:1]])


def test_a_parquet_file_whose_texts_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "judged.parquet"
    write_judged(path, [pair("a", "zzzz", "shoe")], {})
    path.write_bytes(path.read_bytes().replace(b"zzzz", b"z\xff\xfez"))
    with pytest.raises(JudgedError, match=r"judged\.parquet: row 1: "):
        read_judged(path)


def test_a_file_of_many_pairs_takes_little_memory(tmp_path: Path) -> None:
    """What is kept of a pair, besides its texts: 44 bytes, and not a Python object for each number."""
    pairs = [pair(f"i{n % 500}", "t", f"k{n // 500}") for n in range(20_000)]
    tracemalloc.start()
    found = gather(iter(pairs))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 20_000
    assert kept < 60 * 20_000
    assert peak < 150 * 20_000
