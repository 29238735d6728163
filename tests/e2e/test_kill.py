# SPDX-License-Identifier: Apache-2.0
"""A rollout killed at any step leaves a repository that a fresh server serves the last promoted version from.

By default a publish is killed where it leaves something else behind than a step before. ``QUORUM_LONG=1``
kills it and every other change at each step, also while it is taken back, and 50 changes at random; and lets
two publishers meet. tests/unit/rollout/test_crash.py kills every change before every file operation, without
a server.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import crashing
from support.deployment import Live, Served, plain_triton, running
from support.rollout import rollout_of, trusting, write_split

from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.repository.history import Event, History
from quorum.repository.render import difference
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.offline import quarantine, recover_offline
from quorum.rollout.weights import WeightsKind
from quorum.server.probe import probe_channel
from quorum_contract import CANARY, STABLE

LONG = bool(os.environ.get("QUORUM_LONG"))
STEPS = (
    crashing.STEPS
    if LONG
    else {"publish": ["after note", "before rename", "after state", "after configuration", "before log"]}
)
KILLS = 50
long_form = pytest.mark.skipif(not LONG, reason="a long form: set QUORUM_LONG=1")


class World:
    """A deployment whose server is killed and started anew on the repository as it lies."""

    def __init__(self, folder: Path) -> None:
        self.deploy = write_split(folder)
        self._servers = ExitStack()
        self.live: Live = self._servers.enter_context(running(self.deploy))
        self.store = Store(self.live.server.repository)
        for _ in range(2):
            self.rollout.promote(self.rollout.publish(self.weights()).version)

    @property
    def rollout(self) -> Rollout:
        return rollout_of(self.live)

    def weights(self) -> Weights:
        return trusting(self.live.spec.catalogue().hashes, "beta")

    def start(self, action: str, argument: Any, step: str = "") -> Any:
        key = self.live.endpoint.admin_key
        return crashing.start(self.deploy, self.live.url, key, action, argument, step)

    def restart(self) -> None:
        """The server dies too; Triton alone starts, nothing is mended before."""
        os.kill(self.live.server.pid or 0, signal.SIGKILL)
        self.close()
        self.live = self._servers.enter_context(plain_triton(self.deploy))

    def close(self) -> None:
        self._servers.close()

    def answers(self, channel: str) -> int:
        return probe_channel(self.live.spec, self.live.url, channel)

    def check_recovery(self, before: dict[str, int], events: int) -> None:
        """After a change was killed: every way of going on leads to what was promoted last."""
        pins, done = dict(before), [e for e in self.events()[events:] if e.outcome == "done"]
        for event in done:
            if event.action in ("promote", "canary", "rollback"):
                pins[CANARY if event.action == "canary" else STABLE] = event.version
        started = Served(self.store.path).pins
        self.restart()
        for channel, pinned in started.items():
            assert self.answers(channel) == pinned, "Triton by itself serves what it finds"
        self.check_offline(pins)
        published = self.rollout.publish(self.weights()).version
        assert self.store.state().pins == pins
        assert {channel: self.answers(channel) for channel in pins} == pins
        assert published in self.store.state().versions
        self.check_tidy(self.store.path)

    def check_offline(self, pins: dict[str, int]) -> None:
        """As `quorum up` does before it starts."""
        copy = self.deploy.parent / "copy"
        shutil.copytree(self.store.path, copy)
        recover_offline(self.live.spec, copy)
        assert quarantine(self.live.spec, copy) == []
        assert Store(copy).state().pins == pins
        self.check_tidy(copy)
        shutil.rmtree(copy)

    def check_tidy(self, repository: Path) -> None:
        """Nothing begun is left, nothing is half there, and the repository is what the spec says."""
        litter = [p for p in repository.rglob(".*") if p.name not in (".gitkeep", ".rollout.lock")]
        assert litter == []
        assert not (repository / "rollout.pending.json").exists()
        assert difference(load_deployment(self.deploy), repository).is_clean
        assert WeightsKind(self.live.spec, Store(repository)).damaged() == {}

    def events(self) -> list[Event]:
        return list(History(self.store.path).events())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("kill"))
    yield world
    world.close()


@pytest.mark.parametrize(
    ("action", "step"), [(action, step) for action, steps in STEPS.items() for step in steps]
)
def test_killed_at_a_named_step(world: World, action: str, step: str) -> None:
    argument = world.weights() if "publish" in action else prepare(world, action)
    before, events = world.store.state().pins, len(world.events())
    process = world.start(action, argument, step)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, "this step was not reached"
    world.check_recovery(before, events)


def prepare(world: World, action: str) -> int:
    """Something to promote, to retire or to go back to."""
    rollout = world.rollout
    version = rollout.publish(world.weights()).version
    if action == "rollback":
        rollout.promote(version)
    return version


@long_form
@pytest.mark.timeout(60 * KILLS)
def test_killed_at_random(world: World, record_property: Callable[[str, object], None]) -> None:
    draw, finished, struck = random.Random(7), 0, 0
    for _ in range(2):  # the first starts what starts the others
        world.restart()
        process = world.start("both", world.weights())
        assert process.begun.wait(60)
        start = time.monotonic()
        process.join(60)
        assert process.exitcode == 0
        duration = time.monotonic() - start
    for _ in range(KILLS):
        before, events = world.store.state().pins, len(world.events())
        process = world.start("both", world.weights())
        assert process.begun.wait(60)
        process.join(draw.uniform(0, duration))
        process.kill()
        process.join(60)
        finished += len(world.events()) - events
        struck += (world.store.path / "rollout.pending.json").exists()
        world.check_recovery(before, events)
    record_property(
        "kills",
        f"{KILLS} within {duration:.2f} s: {struck} amid a change, {finished} changes logged before",
    )
    assert struck > KILLS // 5, "most of them hit nothing"


@long_form
def test_of_two_publishers_at_once_one_waits_or_is_refused(world: World) -> None:
    events = len(world.events())
    both = [world.start("publish", world.weights()) for _ in range(2)]
    for process in both:
        process.join(60)
    done = [e.version for e in world.events()[events:] if e.outcome == "done"]
    assert len(done) == len(set(done)) == [p.exitcode for p in both].count(0) >= 1
    assert set(done) <= set(world.store.state().versions)
    with pytest.raises(RolloutError, match="no version 999"):
        world.rollout.promote(999)
    world.check_tidy(world.store.path)
