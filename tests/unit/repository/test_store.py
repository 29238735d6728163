# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment

from quorum.decision.weights import Parameters, Weights, WeightsError, equal_weights
from quorum.deployment import load_deployment
from quorum.repository.render import render
from quorum.repository.state import RepositoryError
from quorum.repository.store import Store
from quorum_contract import VOTE


class Crash(BaseException):
    """Stands for the power going out."""


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Let the ``step``-th change of the disk not happen; how many changes were tried."""
    tried = 0

    def guard(real: Any) -> Any:
        def call(*arguments: Any, **how: Any) -> Any:
            nonlocal tried
            tried += 1
            if tried >= step:
                raise Crash
            return real(*arguments, **how)

        return call

    for name in ("rename", "replace", "mkdir", "chmod", "unlink"):
        monkeypatch.setattr(Path, name, guard(getattr(Path, name)))
    monkeypatch.setattr(os, "fsync", guard(os.fsync))
    return lambda: tried


@pytest.fixture
def store(tmp_path: Path) -> Store:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))
    render(spec)
    return Store(spec.repository_path)


WEIGHTS = equal_weights(["alpha", "beta"])


@pytest.mark.parametrize("step", range(1, 9))
def test_a_version_is_there_complete_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patch:
        tried = crash_at(patch, step)
        try:
            store.add_version(2, WEIGHTS)
            crashed = False
        except Crash:
            crashed = True
    assert crashed == (tried() >= step)
    if 2 in store.versions_on_disk():
        assert store.weights(2) == WEIGHTS
    else:
        assert crashed
        store.add_version(2, WEIGHTS)
        assert store.weights(2) == WEIGHTS


@pytest.mark.parametrize("step", range(1, 7))
def test_a_configuration_is_the_old_or_the_new_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    old = store.read_config("quorum")
    new = (old or "").replace("quorum", "quorum")[:-1] + "\n# new\n"
    with monkeypatch.context() as patch:
        crash_at(patch, step)
        with suppress(Crash):
            store.write_config("quorum", new)
    assert store.read_config("quorum") in (old, new)


@pytest.mark.parametrize("step", range(1, 7))
def test_a_state_is_the_old_or_the_new_one(store: Store, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    old = store.state()
    store.add_version(2, WEIGHTS)
    new = old.listing([1, 2], {"quorum": 2})
    with monkeypatch.context() as patch:
        crash_at(patch, step)
        with suppress(Crash):
            store.write_state(new)
    assert store.state() in (old, new)


@pytest.mark.parametrize("step", range(1, 4))
def test_a_version_is_removed_as_a_whole(store: Store, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    store.add_version(2, WEIGHTS)
    with monkeypatch.context() as patch:
        crash_at(patch, step)
        with suppress(Crash):
            store.remove_version(2)
    assert 2 not in store.versions_on_disk() or store.weights(2) == WEIGHTS


def test_a_folder_is_on_the_disk_before_it_gets_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = [], os.fsync

    def fsync(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), store.versions_on_disk("other")))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    store.add_folder("other", 1, lambda folder: (folder / "content").touch())
    (staging, before), (folder, after) = synced
    assert (staging.parent, before) == (store.path, [])
    assert (folder, after) == (store.path / "other", [1])


def test_versions_are_never_overwritten(store: Store) -> None:
    store.add_version(2, WEIGHTS)
    with pytest.raises(RepositoryError, match="2 exists"):
        store.add_version(2, equal_weights(["alpha"]))
    assert store.weights(2) == WEIGHTS
    assert not list(store.path.glob(".publish-*"))


def test_weights_that_cannot_be_written_leave_nothing(store: Store) -> None:
    broken = Weights("majority", ("alpha", "beta"), Parameters((1.0, 1.0)), settings={"a": object()})
    with pytest.raises(WeightsError):
        store.add_version(2, broken)
    assert store.versions_on_disk() == [1]
    assert not list(store.path.glob(".publish-*"))


def test_only_numbered_folders_are_versions(store: Store) -> None:
    for name in ("10", "9", "x1", "1.5", ".hidden"):
        (store.path / VOTE / name).mkdir()
    (store.path / VOTE / "7").write_text("a file", encoding="utf-8")
    assert store.versions_on_disk() == [1, 9, 10]
    assert store.next_version(store.state().versions) == 11


def test_an_unrendered_repository_is_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "nowhere")
    assert (store.versions_on_disk(), store.state_path.exists(), store.next_version([])) == ([], False, 1)
    with pytest.raises(RepositoryError, match=r"nowhere/state\.json is missing: run `quorum render`"):
        store.state()
    assert store.read_config("quorum") is None
    with pytest.raises(WeightsError, match=r"weights\.json"):
        store.weights(1)
    store.remove_version(1)
