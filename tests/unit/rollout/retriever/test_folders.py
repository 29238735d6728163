# SPDX-License-Identifier: Apache-2.0
"""Folders that are not whole, and disks without room: nothing of them reaches the repository."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from support.retriever_rollout import made
from support.retrievers import Encoder
from support.serving_files import Files, files_in

from quorum.deployment import Deployment
from quorum.files import hash_file
from quorum.retrieval.manifest import (
    KEYPHRASES_FILE,
    ManifestError,
    read_retriever,
    write_manifest,
)
from quorum.rollout.channels import Rollout, RolloutError


def _without_vectors(folder: Path) -> None:
    (folder / "vectors.npy").unlink()


def _other_encoder(folder: Path) -> None:
    Encoder(7).write(folder)


def _cut_off(folder: Path) -> None:
    whole = (folder / "vectors.npy").read_bytes()
    (folder / "vectors.npy").write_bytes(whole[: len(whole) // 2])


def _edited(**fields: object) -> object:
    def edit(folder: Path) -> None:
        path = folder / "retriever.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")

    return edit


def _fewer_keyphrases(folder: Path) -> None:
    """As an indexing program with a fault would write it, with the right hashes."""
    table = pq.read_table(folder / KEYPHRASES_FILE).slice(1)
    pq.write_table(table, folder / KEYPHRASES_FILE)
    found = read_retriever(folder)
    files = {**found.files, KEYPHRASES_FILE: hash_file(folder / KEYPHRASES_FILE)}
    write_manifest(folder, msgspec.structs.replace(found, files=files))


def _naming(name: str, manifest: str = "retriever.json") -> Callable[[Path], None]:
    """As a stranger would write it, who wants a file of the repository replaced."""

    def edit(folder: Path) -> None:
        # Where the name leads to, and where its last part does, is a file with the hash that is stated.
        for path in (folder / name, folder / Path(name).name):
            if not path.exists():
                path.write_text("{}", "utf-8")
        text = json.loads((folder / manifest).read_text("utf-8"))
        text["files"][name] = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
        (folder / manifest).write_text(json.dumps(text), "utf-8")
        if manifest == "student.json":
            stated = read_retriever(folder)
            files = {**stated.files, manifest: hash_file(folder / manifest)}
            write_manifest(folder, msgspec.structs.replace(stated, files=files))

    return edit


def _linked(name: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        (folder / name).rename(folder.with_name(f"elsewhere {name}"))
        (folder / name).symlink_to(folder.with_name(f"elsewhere {name}"))

    return link


def _pipe(folder: Path) -> None:
    (folder / "retriever.json").unlink()
    os.mkfifo(folder / "retriever.json")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_without_vectors, r"vectors\.npy is missing"),
        (_other_encoder, r"encoder\.onnx is not the file that was written with it"),
        (_cut_off, r"vectors\.npy is not the file"),
        (_edited(dims=4), "8 dimensions, retriever.json says 4 of 4"),
        (_edited(dims=3), "the index has 3 dimensions, the encoder 8, 4"),
        (_edited(student="sha256:0"), "the index is of the encoder sha256:0"),
        (_edited(keyphrases=9), "4 vectors of 8 dimensions, retriever.json says 9"),
        (_fewer_keyphrases, "3 keyphrases for 4 vectors"),
        (lambda folder: (folder / "retriever.json").unlink(), r"retriever\.json is missing"),
        (_naming("../state.json"), r"names '\.\./state\.json', which is no file that"),
        (_naming("model.py"), r"names 'model\.py', which is no file that"),
        (_naming(""), "names '', which is no file that"),
        (_naming(".."), r"names '\.\.', which is no file that"),
        (_naming("../state.json", "student.json"), r"names '\.\./state\.json', which is no file that"),
        (_linked("vectors.npy"), r"vectors\.npy is no regular file"),
        (_linked("retriever.json"), r"retriever\.json is no regular file"),
        (_linked("student.json"), r"student\.json is no regular file"),
        (_pipe, r"retriever\.json is no regular file"),
    ],
)
def test_a_folder_that_is_not_whole_never_reaches_the_repository(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path, damage: object, says: str
) -> None:
    rollout.publish(made(tmp_path / "1"))
    before, answers = files_in(spec.repository_path), dict(server.answers)
    folder = made(tmp_path / "2", 2)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(ManifestError, match=says):
        rollout.publish(folder)
    assert (files_in(spec.repository_path), server.answers) == (before, answers)


def test_a_source_that_changes_while_it_is_copied_is_not_published(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout.publish(made(tmp_path / "1"))
    before, folder = files_in(spec.repository_path), made(tmp_path / "2", 2)
    copy = shutil.copyfile

    def changing(source: Path, target: Path) -> object:
        if source.name == "encoder.onnx":
            Encoder(9).write(folder)
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", changing)
    with pytest.raises(RolloutError, match=r"undone: .*encoder\.onnx is not the file"):
        rollout.publish(folder)
    assert files_in(spec.repository_path) == before


def test_no_room_on_the_disk_leaves_everything_as_it_was(
    spec: Deployment, server: Files, rollout: Rollout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reasons = made(tmp_path / "1"), []
    before, answers, room, sync = files_in(spec.repository_path), dict(server.answers), [0], os.fsync

    def fsync(handle: int) -> None:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= 1
        sync(handle)

    for writes in itertools.count(0, 2):
        room[0] = writes
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            rollout.publish(folder)
            break
        except RolloutError as error:
            reasons.append(str(error))
        finally:
            monkeypatch.undo()
        Rollout(spec, server, server.probe).promote(1)
        assert (files_in(spec.repository_path), server.answers) == (before, answers), writes
    assert len(reasons) > 5
    assert all("No space left" in reason for reason in reasons)
