# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from quorum.files import locked, replacing, scratch_folder, write_atomic


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


@pytest.mark.parametrize("name", ["votes", "votes.", ".votes", "a.b.", "votes.jsonl"])
def test_a_passing_name_has_the_suffix_of_the_file(tmp_path: Path, name: str) -> None:
    with replacing(tmp_path / name) as passing:
        assert passing.suffix == (tmp_path / name).suffix


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, tmp_path, Path("/dev/null"), Path(f"/dev/fd/{os.pipe()[1]}")):
        with pytest.raises(OSError, match=r"no regular file|Is a directory") as refused:
            write_atomic(path, "text")
        assert refused.value.filename == str(path)
    assert pipe.is_fifo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe"]


def test_an_error_of_writing_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Too large") as large, replacing(tmp_path / "x"):
        raise OSError(errno.EFBIG, "Too large")
    assert large.value.filename == str(tmp_path / "x")
    with pytest.raises(BrokenPipeError) as other, replacing(tmp_path / "x"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert other.value.filename is None


def test_a_lock_is_on_the_file_that_replaced_another(tmp_path: Path) -> None:
    path, absent = tmp_path / "w.json", tmp_path / "absent"
    path.write_text("one", encoding="utf-8")
    with locked(path, absent, path):
        with pytest.raises(BlockingIOError, match=r"another process: .*w\.json"), locked(path):
            pass
        write_atomic(path, "two")
        with locked(path):
            pass
    with locked(path):
        pass


def test_scratch_of_dead_processes_is_removed_and_that_of_others_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    pid = int(dead.stdout)
    (tmp_path / f"quorum-x-{pid}-abc").mkdir()
    (tmp_path / f"quorum-x-{pid}-abc" / "cells").touch()
    (tmp_path / f"quorum-x-{pid}-file").touch()
    (tmp_path / f"quorum-x-{os.getppid()}-abc").mkdir()
    (tmp_path / f"quorum-y-{pid}-abc").mkdir()
    kept = {f"quorum-x-{pid}-file", f"quorum-x-{os.getppid()}-abc", f"quorum-y-{pid}-abc"}
    with scratch_folder("quorum-x-") as folder, scratch_folder("quorum-x-"):
        assert folder.is_dir()
        assert folder.name.startswith(f"quorum-x-{os.getpid()}-")
    assert {p.name for p in tmp_path.iterdir()} == kept
    with pytest.raises(KeyboardInterrupt), scratch_folder("quorum-x-"):
        raise KeyboardInterrupt
    assert {p.name for p in tmp_path.iterdir()} == kept


def test_scratch_that_is_locked_in_another_container_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("quorum-x-") as folder:
        monkeypatch.setattr("quorum.files._lives", lambda _: False)
        with scratch_folder("quorum-x-"):
            assert folder.is_dir()
