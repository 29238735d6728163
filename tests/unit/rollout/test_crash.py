# SPDX-License-Identifier: Apache-2.0
"""A change killed before any file operation leaves what a server starts from and the next command fixes."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import deployment
from support.deployment import Served, write_deployment
from support.killing import killed_before
from tritonclient.grpc.model_config_pb2 import ModelConfig

from quorum.decision.weights import Parameters, Weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository import configs
from quorum.repository.configs import graph_of, parse_config
from quorum.repository.history import History
from quorum.repository.render import difference, render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.journal import Journal, Pending
from quorum.rollout.offline import quarantine, recover_offline, reset_weights
from quorum_contract import CANARY, STABLE, VOTE

MEMBERS = ("alpha", "beta", "gamma")
STRIDE = 1 if os.environ.get("QUORUM_LONG") else 3
"""Operations from one kill to the next; changes begin at different ones, as they go by the same steps."""


class Server:
    """Starts from the files as Triton does, all or nothing, and loads from them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.answers: dict[str, int] = {}
        for model in (VOTE, STABLE, CANARY):
            self.load(model)

    def ping(self) -> None:
        pass

    def load(self, model: str) -> None:
        if model == VOTE:
            versions = Served(self.store.path).versions
            for version in versions:
                self.store.weights(version)
            self.versions = versions
        else:
            self.answers[model] = Served(self.store.path).pins[model]

    def runs(self, model: str, config: ModelConfig) -> bool:
        text = self.store.read_config(model)
        return text is not None and graph_of(config) == graph_of(parse_config(text))

    def pinned(self, channel: str) -> int:
        return self.answers[channel]

    def is_ready(self, model: str, version: str = "") -> bool:
        return model != VOTE or int(version) in self.versions

    def probe(self, channel: str) -> int:
        if self.answers[channel] not in self.versions:
            raise RolloutError(f"{channel} is not available")
        return self.answers[channel]

    def failing(self, channel: str) -> int:
        """As if the new version made the channel answer wrongly."""
        return self.probe(channel) if len(self.versions) < 4 else -1


CHANGES: dict[str, Callable[[Rollout, Weights], Any]] = {
    "publish": lambda rollout, weights: rollout.publish(weights),
    "promote": lambda rollout, _: rollout.promote(3),
    "canary": lambda rollout, _: rollout.canary(3),
    "rollback": lambda rollout, _: rollout.rollback(),
    "retire": lambda rollout, _: rollout.retire(3),
    "failing publish": lambda rollout, weights: rollout.publish(weights),
}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory: cases are about files that a process leaves, not about a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def parse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse equal configurations once: it is what takes most of the time."""
    parsed = functools.cache(configs.parse_config)
    for module in (configs, deployment, sys.modules[__name__]):
        monkeypatch.setattr(module, "parse_config", parsed)


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path, {name: {} for name in MEMBERS}))
    render(spec)
    rollout = rollout_on(spec, spec.repository_path)
    for heavy in (2.0, 3.0):
        rollout.publish(weights(heavy))
    rollout.promote(2)
    return spec


def weights(heavy: float) -> Weights:
    return Weights("majority", MEMBERS, Parameters((heavy, 1.0, 1.0)))


def rollout_on(spec: Deployment, repository: Path, failing: bool = False) -> Rollout:
    server = Server(Store(repository))
    return Rollout(spec, server, server.failing if failing else server.probe, repository)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_killed_before_any_file_operation(spec: Deployment, tmp_path: Path, change: str) -> None:
    before, operations = Store(spec.repository_path).state().pins, [*CHANGES].index(change) % STRIDE
    while True:
        repository = tmp_path / f"killed-{operations}"
        shutil.copytree(spec.repository_path, repository)
        rollout = rollout_on(spec, repository, failing=change == "failing publish")
        events = len(list(rollout.history.events()))
        if not killed_before(
            operations, repository, lambda rollout=rollout: CHANGES[change](rollout, weights(9.0))
        ):
            break
        server = Server(Store(repository))
        assert {c: server.probe(c) for c in before} == Served(repository).pins, "it starts as it lies"
        pins = dict(before)
        for event in list(rollout.history.events())[events:]:
            if event.outcome == "done" and event.action in ("promote", "canary", "rollback"):
                pins[CANARY if event.action == "canary" else STABLE] = event.version
        offline = tmp_path / "offline"
        shutil.copytree(repository, offline)
        recover_offline(spec, offline)
        assert quarantine(spec, offline) == []
        for folder in (repository, offline):
            next_one = rollout_on(spec, folder)
            next_one.publish(weights(5.0))
            assert next_one.store.state().pins == pins
            assert Server(Store(folder)).answers == pins
            assert difference(spec, folder).is_clean
            hidden = {p.name for p in folder.rglob(".*")} - {".gitkeep", ".rollout.lock"}
            assert hidden == set()
            assert not (folder / "rollout.pending.json").exists()
        shutil.rmtree(offline)
        shutil.rmtree(repository)
        operations += STRIDE
    assert operations >= 8


def damage(spec: Deployment, repository: Path) -> None:
    """The version that the stable channel answers with cannot be read any more."""
    Store(repository).weights_path(2).write_text("{", encoding="utf-8")
    assert Store(repository).state().pins[STABLE] == 2


OFFLINE: dict[str, tuple[Callable[[Deployment, Path], Any], Callable[[Deployment, Path], Any]]] = {
    "quarantine": (damage, quarantine),
    "reset": (lambda spec, repository: None, reset_weights),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", OFFLINE)
def test_a_change_without_a_server_is_killed_before_any_file_operation(
    spec: Deployment, tmp_path: Path, change: str
) -> None:
    prepare, act = OFFLINE[change]
    prepare(spec, spec.repository_path)
    before, operations = Store(spec.repository_path).state(), [*OFFLINE].index(change) % STRIDE
    while True:
        repository = tmp_path / f"killed-{operations}"
        shutil.copytree(spec.repository_path, repository)
        if not killed_before(operations, repository, lambda folder=repository: act(spec, folder)):
            break
        served, store = Served(repository), Store(repository)
        assert {*served.pins.values()} <= {*served.versions} <= {*store.versions_on_disk()}
        logged = store.state() != before and History(repository).last().action == change  # type: ignore[union-attr]
        recover_offline(spec, repository)
        assert (store.state() != before) == logged
        assert difference(spec, repository).write == {}
        act(spec, repository)
        after = store.state()
        assert after.pins == ({STABLE: 1, CANARY: 1} if change == "quarantine" else after.pins)
        assert {*after.pins.values()} & {*before.pins.values()} == ({1} if change == "quarantine" else set())
        assert difference(spec, repository).is_clean
        assert not (repository / "rollout.pending.json").exists()
        shutil.rmtree(repository)
        operations += STRIDE
    assert operations >= 8


def test_a_server_is_not_given_what_another_deployment_says(spec: Deployment) -> None:
    """A change is interrupted, then deploy.yaml is changed: only a start may take the change back."""
    rollout = rollout_on(spec, spec.repository_path)
    old = rollout.store.state()
    new = old.pinned(STABLE, 3)
    pending = Pending("now", "promote", 3, 2, "", models=(STABLE,), old=old, new=new)
    journal = Journal(spec, rollout.store, rollout.history)
    journal.begin(pending)
    journal.apply(pending)
    text = spec.path.read_text("utf-8")
    spec.path.write_text(text.replace("name: gamma", "name: delta"), encoding="utf-8")
    changed = load_deployment(spec.path)
    with pytest.raises(
        RolloutError, match=r"promote 3 was interrupted, and .*deploy\.yaml was changed since"
    ):
        rollout_on(changed, spec.repository_path).promote(3)
    assert rollout.store.state() == new
    assert recover_offline(changed) == pending
    assert rollout.store.state() == old
    assert "quorum/config.pbtxt" not in difference(changed).write
    assert "delta/config.pbtxt" in difference(changed).write
