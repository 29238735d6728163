# SPDX-License-Identifier: Apache-2.0
"""A change of a retriever killed before any file operation: a server starts, the next command mends it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment
from support.killing import killed_before
from support.retrievers import Encoder, write_version
from support.serving_files import Files, files_in, parse_once

from quorum.deployment import Deployment, load_deployment
from quorum.repository.history import History
from quorum.repository.render import difference, render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout
from quorum.rollout.offline import quarantine, recover_offline
from quorum.rollout.retriever import RetrieverKind
from quorum_contract import RECOMMEND, RETRIEVER

STRIDE = 1 if os.environ.get("QUORUM_LONG") else 9
"""Operations from one kill to the next; odd, as each way of going on has every second operation."""
KEYPHRASES: dict[str, list[str]] = {"red shoes": [], "blue jacket": []}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory: cases are about files that a process leaves, not about a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_once(monkeypatch)


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path / "deployment", {"alpha": {}, "beta": {}}))
    render(spec)
    for seed in (1, 2, 3):
        write_version(tmp_path / f"of {seed}", KEYPHRASES, Encoder(seed))
    return spec


def rollout_on(spec: Deployment, repository: Path, failing: bool = False) -> Rollout:
    server = Files(Store(repository))

    def wrong(channel: str) -> int:
        """As if the new version answered, and another one than is pinned."""
        return -1 if len(server.versions[RETRIEVER]) > 1 or failing else server.probe(channel)

    return Rollout(spec, server, wrong if failing else server.probe, repository, kind=RetrieverKind)


CHANGES: dict[str, tuple[int, Callable[[Rollout, Path], Any]]] = {
    "first publish": (0, lambda rollout, made: rollout.publish(made)),
    "failing first publish": (0, lambda rollout, made: rollout.publish(made)),
    "publish": (1, lambda rollout, made: rollout.publish(made)),
}
"""Change -> versions that are published before, and what does it; others go as those of weights do."""


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_killed_before_any_file_operation(spec: Deployment, tmp_path: Path, change: str) -> None:
    published, act = CHANGES[change]
    for seed in range(1, published + 1):
        rollout_on(spec, spec.repository_path).publish(tmp_path / f"of {seed}")
    before, made = files_in(spec.repository_path), tmp_path / "of 3"
    logged = len(list(History(spec.repository_path).events()))
    # One that fails goes as far as one that does not before it is taken back.
    operations = 17 if "failing" in change else 0
    while True:
        repository = tmp_path / f"killed-{operations}"
        shutil.copytree(spec.repository_path, repository)
        rollout = rollout_on(spec, repository, failing="failing" in change)
        if not killed_before(operations, repository, lambda rollout=rollout: act(rollout, made)):
            break
        started, state = Files(Store(repository)), Store(repository).state()
        assert state.retriever is None or RECOMMEND in started.answers, "a start loads what the state names"
        votes = {channel: started.probe(channel) for channel in started.answers}
        done = [e for e in list(rollout.history.events())[logged:] if e.outcome == "done"]
        if operations % 2:
            recover_offline(spec, repository)
            assert quarantine(spec, repository) == []
        else:
            # The server that runs, or one that started from what the killed process left.
            Rollout(spec, started, started.probe, repository).promote(1)
        if not done:
            assert files_in(repository) == before, operations
        else:
            assert rollout_on(spec, repository).store.state() == Store(repository).state()
            assert difference(spec, repository).is_clean
        hidden = {path.name for path in repository.rglob(".*")} - {".gitkeep", ".rollout.lock"}
        assert hidden == set()
        assert len(votes) >= 2
        expected = {RECOMMEND} & {*Files(Store(repository)).answers}
        assert expected == ({RECOMMEND} if published or done else set())
        shutil.rmtree(repository)
        operations += STRIDE
    assert operations >= (24 if "failing" in change else 8)


@pytest.mark.slow
def test_leaving_out_the_last_version_is_killed_before_any_file_operation(
    spec: Deployment, tmp_path: Path
) -> None:
    rollout_on(spec, spec.repository_path).publish(tmp_path / "of 1")
    (spec.repository_path / RETRIEVER / "1" / "vectors.npy").write_bytes(b"damaged")
    operations = 0
    while True:
        repository = tmp_path / f"killed-{operations}"
        shutil.copytree(spec.repository_path, repository)
        if not killed_before(operations, repository, lambda folder=repository: quarantine(spec, folder)):
            break
        recover_offline(spec, repository)
        assert difference(spec, repository).write == {}
        quarantine(spec, repository)
        assert Store(repository).state().retriever is None
        assert RECOMMEND not in Files(Store(repository)).answers
        assert difference(spec, repository).is_clean
        assert rollout_on(spec, repository).publish(tmp_path / "of 2").version == 2
        shutil.rmtree(repository)
        operations += STRIDE
    assert operations >= 8
