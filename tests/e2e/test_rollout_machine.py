# SPDX-License-Identifier: Apache-2.0
"""Any order of changes, damage and deaths on a real server: channels answer with what was promoted last.

The same few examples every time; ``QUORUM_LONG=1`` runs many, and others every time.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import crashing
from support.deployment import Live, plain_triton, running
from support.rollout import MEMBERS, rollout_of, trusting, write_split
from support.traces import session_processes

from quorum.decision.weights import Weights
from quorum.repository.render import difference, put_state
from quorum.repository.store import Store
from quorum.rollout.channels import RolloutError
from quorum.rollout.offline import quarantine, recover_offline
from quorum.server.probe import probe_channel
from quorum.server.reload import revive
from quorum_contract import CANARY, CHANNELS, GATE, STABLE, VOTE

LONG = bool(os.environ.get("QUORUM_LONG"))
EXAMPLES, STEPS = (20, 25) if LONG else (3, 8)
PATIENCE_S = 30.0


class World:
    """One deployment for all examples; its server lives on from one to the next unless the example failed."""

    def __init__(self, folder: Path) -> None:
        self.deploy = write_split(folder, rollout={"keep_versions": 3})
        self._servers = ExitStack()
        self.live: Live = self._servers.enter_context(running(self.deploy))
        self.store: Store = rollout_of(self.live).store
        self._clean = folder / "clean"
        shutil.copytree(self.store.path, self._clean)

    def reset(self) -> None:
        """A repository as it was rendered first; no server is needed for that, and one that runs follows."""
        if not self.live.server.pid:
            shutil.rmtree(self.store.path)
            shutil.copytree(self._clean, self.store.path)
            self.start()
            return
        # First a vote that holds version 1 and whatever a channel asks, then channels that ask version 1.
        clean, state = Store(self._clean).state(), self.store.state()
        shutil.copytree(self._clean / VOTE / "1", self.store.weights_path(1).parent, dirs_exist_ok=True)
        both = state.listing([1, *state.versions])
        moved = both.listing(both.versions, clean.pins)
        for models, old, new in (((VOTE,), state, both), (CHANNELS, both, moved), ((VOTE,), moved, clean)):
            put_state(self.live.spec, self.store, models, old, new)
            for model in models:
                self.live.control.load(model)
        for version in self.store.versions_on_disk():
            if version != 1:
                shutil.rmtree(self.store.weights_path(version).parent)
        (self.store.path / "rollout.jsonl").unlink(missing_ok=True)

    def start(self) -> None:
        self.live = self._servers.enter_context(plain_triton(self.deploy))

    def kill(self) -> None:
        if self.live.server.pid:
            os.kill(self.live.server.pid, signal.SIGKILL)
        self._servers.close()


class Machine(RuleBasedStateMachine):
    """What was done, beside what the server answers."""

    world: ClassVar[World]
    steps: ClassVar[list[int]]

    def __init__(self) -> None:
        super().__init__()
        self.pins = {STABLE: 1, CANARY: 1}
        self.stack: list[int] = []
        self.published: dict[int, Weights] = {}
        self.damaged: dict[int, str] = {}
        self.begun = False

    @property
    def live(self) -> Live:
        return self.world.live

    @property
    def store(self) -> Store:
        return self.world.store

    @initialize()
    def begin(self) -> None:
        self.world.reset()
        self.steps.append(0)
        self.begun = True

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            self.world.kill()
        elif self.damaged:
            self.mend()

    def stuck(self) -> bool:
        """A channel is pinned to a damaged version."""
        return any(v in self.damaged for v in self.pins.values())

    @rule(member=st.sampled_from(MEMBERS))
    def publish(self, member: str) -> None:
        weights = trusting(self.live.spec.catalogue().hashes, member)
        rollout = rollout_of(self.live)
        if self.stuck():
            with pytest.raises(RolloutError, match="damaged on disk and serves from memory"):
                rollout.publish(weights)
            return
        version = rollout.publish(weights).version
        assert version not in self.published
        self.published[version] = weights
        assert not set(self.damaged) & set(self.store.state().versions)

    @precondition(lambda self: self.published)
    @rule(pick=st.integers(0, 99))
    def publish_again(self, pick: int) -> None:
        weights = self.published[sorted(self.published)[pick % len(self.published)]]
        loaded = [v for v in self.store.state().versions if v not in self.damaged]
        if self.stuck():
            return
        change = rollout_of(self.live).publish(weights)
        assert change.already == any(self.published.get(version) == weights for version in loaded)
        self.published[change.version] = weights

    @rule(channel=st.sampled_from([STABLE, CANARY]), version=st.integers(1, 9))
    def pin(self, channel: str, version: int) -> None:
        rollout = rollout_of(self.live)
        act = rollout.promote if channel == STABLE else rollout.canary
        if channel == CANARY and version == self.pins[STABLE]:
            with pytest.raises(RolloutError, match="a canary tries another version"):
                act(version)
        elif version in self.store.state().versions and version not in self.damaged:
            before = self.pins[channel]
            act(version)
            if channel == STABLE and before != version:
                self.stack.append(before)
            self.pins[channel] = version
        else:
            with pytest.raises(RolloutError, match=r"damaged|not loaded|no version"):
                act(version)

    @rule()
    def roll_back(self) -> None:
        rollout = rollout_of(self.live)
        try:
            self.pins[STABLE] = rollout.rollback().version
        except RolloutError as error:
            assert any(words in str(error) for words in ("nothing to go back", "not loaded", "damaged"))  # noqa: PT017

    @rule(version=st.integers(1, 9))
    def retire(self, version: int) -> None:
        rollout = rollout_of(self.live)
        if version not in self.store.versions_on_disk() or version in self.pins.values() or self.stuck():
            if version in self.store.state().versions:
                with pytest.raises(RolloutError):
                    rollout.retire(version)
        else:
            rollout.retire(version)
            assert version not in self.store.state().versions

    @rule(version=st.integers(1, 9), kind=st.sampled_from(["cut", "gone", "other"]))
    def corrupt(self, version: int, kind: str) -> None:
        path = self.store.weights_path(version)
        if not path.exists() or version in self.damaged:
            return
        self.damaged[version] = text = path.read_text("utf-8")
        match kind:
            case "cut":
                path.write_text(text[: len(text) // 2], encoding="utf-8")
            case "gone":
                path.unlink()
            case _:
                path.write_text(text.replace("0.5", "0.6"), encoding="utf-8")
                if path.read_text("utf-8") == text:
                    path.write_text("", encoding="utf-8")

    @precondition(lambda self: self.damaged)
    @rule()
    def mend(self) -> None:
        for version, text in self.damaged.items():
            self.store.weights_path(version).write_text(text, encoding="utf-8")
        self.damaged.clear()

    @rule(model=st.sampled_from([VOTE, GATE, MEMBERS[0]]))
    def kill_a_process_and_revive_it(self, model: str) -> None:
        if model == VOTE and any(v in self.damaged for v in self.store.state().versions):
            return
        for pid in session_processes(self.live.server.pid or 0):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
            if "triton_python_backend_stub" in line and f"\0{model}_" in line:
                os.kill(pid, signal.SIGKILL)
        revive(self.live.control, self.store, model)

    @precondition(lambda self: not self.damaged)
    @rule(step=st.sampled_from(crashing.STEPS["publish"]), restart=st.booleans())
    def kill_a_publisher(self, step: str, restart: bool) -> None:
        """At any step; the next command, on the same or on a fresh server, takes back what was not done."""
        weights, listed = trusting(self.live.spec.catalogue().hashes, MEMBERS[0]), self.store.state().versions
        key = self.live.endpoint.admin_key
        process = crashing.start(self.world.deploy, self.live.url, key, "publish", weights, step)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        if restart:
            self.restart(plainly=True)
        assert rollout_of(self.live).promote(self.pins[STABLE]).already
        left = set(self.store.state().versions)
        if step in ("after log", "after clear"):
            (new,) = left - set(listed)
            self.published[new] = weights
        else:
            assert left == set(listed)

    @rule(plainly=st.booleans())
    def restart(self, plainly: bool) -> None:
        """The server is killed; another starts, with or without what ``quorum up`` undoes first."""
        self.world.kill()
        if not plainly or self.stuck():
            assert recover_offline(self.live.spec) is None
            left_out = quarantine(self.live.spec)
            for found in left_out:
                assert found.version in self.damaged
                assert set(found.moved.values()) <= {1, *self.stack, self.pins[STABLE]}, "nobody promoted it"
                self.pins.update(found.moved)
            if self.stuck():
                self.mend()
        self.world.start()

    @invariant()
    def stable_answers_with_what_was_promoted_last(self) -> None:
        if not self.begun:
            return
        self.steps[-1] += 1
        for channel, version in self.pins.items():
            assert self.store.state().pins[channel] == version
            assert probe_channel(self.live.spec, self.live.url, channel) == version
        found = difference(self.live.spec, self.store.path)
        assert not found.write
        assert not found.remove
        assert len(self.store.state().versions) <= 4


@pytest.mark.timeout(3600)
def test_any_order_of_changes_damage_and_deaths(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    start = time.monotonic()
    Machine.world, Machine.steps = World(tmp_path), []
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=not LONG,
                database=None,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        Machine.world.kill()
    took = f"{time.monotonic() - start:.0f} s"
    record_property("machine", f"{len(Machine.steps)} examples, {sum(Machine.steps)} steps, {took}")
