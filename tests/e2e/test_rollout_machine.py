# SPDX-License-Identifier: Apache-2.0
"""Any order of changes, damage and deaths on a real server: channels answer with what was promoted last.

``QUORUM_LONG=1`` runs it, with other examples every time.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.deployment import Live, plain_triton, running
from support.rollout import MEMBERS, rollout_of, trusting, write_split
from support.traces import session_processes

from quorum.contract import CANARY, GATE, STABLE, VOTE
from quorum.repository.render import plan_render
from quorum.rollout.channels import RolloutError
from quorum.rollout.recover import quarantine, recover_offline
from quorum.server.health import dead_models, revive
from quorum.server.probe import probe_channel
from quorum.weights import Weights

LONG = bool(os.environ.get("QUORUM_LONG"))
EXAMPLES, STEPS = 40, 25


class Machine(RuleBasedStateMachine):
    """What was done, beside what the server answers."""

    def __init__(self) -> None:
        super().__init__()
        self.servers = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="quorum-machine-"))
        self.pins = {STABLE: 1, CANARY: 1}
        self.stack: list[int] = []
        self.published: dict[int, Weights] = {}
        self.damaged: dict[int, str] = {}
        self.live: Live

    @initialize()
    def begin(self) -> None:
        self.deploy = write_split(self.folder, rollout={"keep_versions": 3})
        self.live = self.servers.enter_context(running(self.deploy))
        self.store = rollout_of(self.live).store

    def teardown(self) -> None:
        if hasattr(self, "live") and self.live.server.pid:
            os.kill(self.live.server.pid, signal.SIGKILL)
        self.servers.close()
        shutil.rmtree(self.folder)

    def stuck(self) -> bool:
        """A channel is pinned to a damaged version."""
        return any(v in self.damaged for v in self.pins.values())

    @rule(member=st.sampled_from(MEMBERS))
    def publish(self, member: str) -> None:
        weights = trusting(self.live.spec.catalogue().hash, member)
        rollout = rollout_of(self.live)
        if self.stuck():
            with pytest.raises(RolloutError, match="damaged on disk and serves from memory"):
                rollout.publish(weights)
            return
        version = rollout.publish(weights).version
        assert version not in self.published
        self.published[version] = weights
        assert not set(self.damaged) & set(self.store.versions_listed())

    @precondition(lambda self: self.published)
    @rule(pick=st.integers(0, 99))
    def publish_again(self, pick: int) -> None:
        weights = self.published[sorted(self.published)[pick % len(self.published)]]
        loaded = [v for v in self.store.versions_listed() if v not in self.damaged]
        if self.stuck():
            return
        change = rollout_of(self.live).publish(weights)
        assert change.already == any(self.published.get(version) == weights for version in loaded)
        self.published[change.version] = weights

    @rule(channel=st.sampled_from([STABLE, CANARY]), version=st.integers(1, 9))
    def pin(self, channel: str, version: int) -> None:
        rollout = rollout_of(self.live)
        act = rollout.promote if channel == STABLE else rollout.canary
        if version in self.store.versions_listed() and version not in self.damaged:
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
            if version in self.store.versions_listed():
                with pytest.raises(RolloutError):
                    rollout.retire(version)
        else:
            rollout.retire(version)
            assert version not in self.store.versions_listed()

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
        if model == VOTE and any(v in self.damaged for v in self.store.versions_listed()):
            return
        for pid in session_processes(self.live.server.pid or 0):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
            if "triton_python_backend_stub" in line and f"\0{model}_" in line:
                os.kill(pid, signal.SIGKILL)
                break
        listed = self.store.versions_listed()
        while model not in dead_models(self.live.spec, self.live.url, listed):
            pass
        revive(self.live.control, self.store, model)

    @rule(plainly=st.booleans())
    def restart(self, plainly: bool) -> None:
        """The server is killed; another starts, with or without what ``quorum up`` mends first."""
        os.kill(self.live.server.pid or 0, signal.SIGKILL)
        self.servers.close()
        if not plainly or self.stuck():
            path = self.store.path
            assert recover_offline(path) is None
            left_out = quarantine(path)
            for found in left_out:
                assert found.version in self.damaged
                assert set(found.moved.values()) <= {1, *self.stack, self.pins[STABLE]}, "nobody promoted it"
                self.pins.update(found.moved)
            if self.stuck():
                self.mend()
        self.live = self.servers.enter_context(plain_triton(self.deploy))

    @invariant()
    def stable_answers_with_what_was_promoted_last(self) -> None:
        if not hasattr(self, "live"):
            return
        for channel, version in self.pins.items():
            assert self.store.pins()[channel] == version
            assert probe_channel(self.live.spec, self.live.url, channel) == version
        plan = plan_render(self.live.spec, self.store.path)
        assert not plan.write
        assert not plan.remove
        assert len(self.store.versions_listed()) <= 4


Machine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, derandomize=False, print_blob=True
)
TestMachine = pytest.mark.timeout(3600)(Machine.TestCase)
TestMachine = pytest.mark.skipif(not LONG, reason="a long form: set QUORUM_LONG=1")(TestMachine)
