# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from quorum.files import replacing, write_atomic


def test_files_are_replaced_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, "one", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    write_atomic(path, "two")
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_text("utf-8") == "two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_stream_is_seen_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text("old\n", encoding="utf-8")
    with replacing(path, mode=0o640) as passing:
        assert (passing.parent, passing.suffix) == (tmp_path, ".jsonl")
        assert passing.stat().st_mode & 0o077 == 0, "until it is complete, only for its owner"
        passing.write_text("new\n", encoding="utf-8")
        assert path.read_text("utf-8") == "old\n"
    assert path.read_text("utf-8") == "new\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_stream_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text("old\n", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), replacing(path) as passing:
        passing.write_text("ne", encoding="utf-8")
        raise KeyboardInterrupt
    assert path.read_text("utf-8") == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_of_the_old_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text("old\n", encoding="utf-8")
    path.chmod(0o604)
    with replacing(path) as passing:
        passing.write_text("new\n", encoding="utf-8")
    assert path.read_text("utf-8") == "new\n"
    assert path.stat().st_mode & 0o777 == 0o604


def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        with replacing(tmp_path / "new") as passing:
            passing.write_text("new\n", encoding="utf-8")
        assert os.umask(0o027) == 0o027, "the mask is as before"
    finally:
        os.umask(mask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    file, link = tmp_path / "there" / "votes.jsonl", tmp_path / "votes.jsonl"
    file.parent.mkdir()
    file.write_text("old\n", encoding="utf-8")
    link.symlink_to(file)
    with replacing(link) as passing:
        assert passing.parent == file.parent, "on the file system of the file itself"
        passing.write_text("new\n", encoding="utf-8")
    assert link.is_symlink()
    assert file.read_text("utf-8") == "new\n"
    assert list(file.parent.iterdir()) == [file]
