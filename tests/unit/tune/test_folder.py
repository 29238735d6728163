# SPDX-License-Identifier: Apache-2.0
"""The folder of a tuned member: whole, or as it was, whenever a run dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorum.tune.folder import reserved, whole_folder
from quorum.tune.loop import TrainingError


def fill(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(text, encoding="utf-8")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_replaces_the_old_one(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", "old")
    with reserved(out, force=True), whole_folder(out) as fresh:
        fill(fresh, "new")
    assert (out / "card.json").read_text("utf-8") == "new"
    assert names(tmp_path) == ["out"]


def test_the_old_folder_is_put_back_where_it_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = fill(tmp_path / "out", "old"), Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.name.startswith(".out-"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="No space left"), whole_folder(out) as fresh:
        fill(fresh, "new")
    assert (out / "card.json").read_text("utf-8") == "old"
    assert names(tmp_path) == ["out"]


def test_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    # The first process of a machine has number 1; none has a number this large.
    for name in (".out-4194305-x", ".other-4194305-x", ".out-1-x"):
        fill(tmp_path / name, "unfinished")
    with reserved(tmp_path / "out"):
        pass
    assert names(tmp_path) == [".other-4194305-x", ".out-1-x"]


def test_a_folder_that_a_killed_run_moved_aside_is_put_back(tmp_path: Path) -> None:
    fill(tmp_path / ".out.old", "old")
    with reserved(tmp_path / "out", force=True):
        pass
    assert names(tmp_path) == ["out"]
    fill(tmp_path / ".out.old", "replaced")
    with reserved(tmp_path / "out", force=True):
        pass
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "card.json").read_text("utf-8") == "old"


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with reserved(out):
        with pytest.raises(TrainingError, match="another run writes to it"), reserved(out):
            pass
        with reserved(tmp_path / "other"):
            pass
    with reserved(out):
        pass
    assert names(tmp_path) == []
