# SPDX-License-Identifier: Apache-2.0
"""A change killed before any file operation leaves what a server starts from and the next command mends."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment

from quorum.decision.weights import Parameters, Weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository.configs import graph_of, parse_config
from quorum.repository.render import plan_render, render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.recover import quarantine, recover_offline
from quorum_contract import CANARY, STABLE, VOTE

MEMBERS = ("alpha", "beta", "gamma")
OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "open"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


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
            versions = self.store.versions_listed()
            for version in versions:
                self.store.weights(version)
            self.versions = versions
        else:
            self.answers[model] = self.store.pins()[model]

    def runs(self, model: str, config: str) -> bool:
        return graph_of(parse_config(config)) == graph_of(self.store.config(model))

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


def killed_before(operation: int, repository: Path, act: Callable[[], Any]) -> bool:
    """Do it in a process that dies right before so many file operations; whether it died."""
    child = os.fork()
    if child == 0:
        left = operation

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event not in OPERATIONS or str(repository) not in str(arguments[0]):
                return
            if event == "open" and not (arguments[2] or 0) & WRITING:
                return
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            act()
        except RolloutError:
            pass
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0


@pytest.mark.parametrize("change", CHANGES)
def test_killed_before_any_file_operation(spec: Deployment, tmp_path: Path, change: str) -> None:
    before, operations = Store(spec.repository_path).pins(), 0
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
        assert {c: server.probe(c) for c in before} == Store(repository).pins(), "it starts as it lies"
        pins = dict(before)
        for event in list(rollout.history.events())[events:]:
            if event.outcome == "done" and event.action in ("promote", "canary", "rollback"):
                pins[CANARY if event.action == "canary" else STABLE] = event.version
        offline = tmp_path / "offline"
        shutil.copytree(repository, offline)
        recover_offline(offline)
        assert quarantine(offline) == []
        for folder in (repository, offline):
            next_one = rollout_on(spec, folder)
            next_one.publish(weights(5.0))
            assert next_one.store.pins() == pins
            assert Server(Store(folder)).answers == pins
            assert plan_render(spec, folder).is_clean
            hidden = {p.name for p in folder.rglob(".*")} - {".gitkeep", ".rollout.lock"}
            assert hidden == set()
            assert not (folder / "rollout.pending.json").exists()
        shutil.rmtree(offline)
        shutil.rmtree(repository)
        operations += 1
    assert operations >= 8
