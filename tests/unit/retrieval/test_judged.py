# SPDX-License-Identifier: Apache-2.0
"""A file of judged pairs that cannot be used says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorum.retrieval.judged import JudgedError, JudgedPair, check_new, gather


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
