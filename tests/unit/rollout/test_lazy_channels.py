# SPDX-License-Identifier: Apache-2.0
"""Lazy channels are pinned with their namesakes: both change, or neither does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.deployment import write_deployment
from support.loading_server import Crash, disk, weights
from support.serving_files import Files

from quorum.decision.weights import Weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository.configs import parse_config
from quorum.repository.render import difference, render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.journal import Journal
from quorum.rollout.offline import quarantine, recover_offline, reset_weights
from quorum.server.control import ControlError
from quorum_contract import CANARY, LAZY, LAZY_CANARY, STABLE


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}}, lazy={}))
    render(spec)
    return spec


@pytest.fixture
def server(spec: Deployment) -> Files:
    return Files(Store(spec.repository_path))


@pytest.fixture
def rollout(spec: Deployment, server: Files) -> Rollout:
    return Rollout(spec, server, server.probe)


def first_row(spec: Deployment, channel: str) -> list[str]:
    text = (spec.repository_path / channel / "config.pbtxt").read_text("utf-8")
    steps = [step.model_name for step in parse_config(text).ensemble_scheduling.step]
    return steps[1 : steps.index("quorum_vote")]


def heavy(spec: Deployment) -> Weights:
    """Weights by which alpha alone decides."""
    return weights(spec, 5.0)


def test_both_channels_of_a_pin_change_together(spec: Deployment, server: Files, rollout: Rollout) -> None:
    assert server.answers == {STABLE: 1, CANARY: 1, LAZY: 1, LAZY_CANARY: 1}
    rollout.publish(heavy(spec))
    assert server.answers == {STABLE: 1, CANARY: 1, LAZY: 1, LAZY_CANARY: 1}
    rollout.canary(2, 0.5)
    assert server.answers == {STABLE: 1, CANARY: 2, LAZY: 1, LAZY_CANARY: 2}
    assert first_row(spec, LAZY_CANARY) == ["alpha"]
    assert first_row(spec, LAZY) == ["alpha", "beta"]
    rollout.promote(2)
    assert server.answers == {STABLE: 2, CANARY: 2, LAZY: 2, LAZY_CANARY: 2}
    assert first_row(spec, LAZY) == ["alpha"]
    rollout.rollback()
    assert server.answers == {STABLE: 1, CANARY: 2, LAZY: 1, LAZY_CANARY: 2}
    rollout.end_canary()
    assert server.answers == {STABLE: 1, CANARY: 1, LAZY: 1, LAZY_CANARY: 1}
    assert first_row(spec, LAZY) == first_row(spec, LAZY_CANARY) == ["alpha", "beta"]
    rollout.retire(2)
    assert difference(spec).is_clean


@pytest.mark.parametrize("what", [LAZY, f"probe {LAZY}"])
def test_a_lazy_channel_that_fails_undoes_the_change(
    spec: Deployment, server: Files, rollout: Rollout, what: str
) -> None:
    rollout.publish(heavy(spec))
    before, answers = disk(spec), dict(server.answers)
    server.failures[what] = [ControlError("it fails")]
    with pytest.raises(RolloutError, match=r"promote 2 was undone: it fails; serving as before: quorum 1"):
        rollout.promote(2)
    assert disk(spec) == before
    assert server.answers == answers


def test_a_change_that_reached_one_channel_only_is_made_whole(
    spec: Deployment, server: Files, rollout: Rollout
) -> None:
    rollout.publish(heavy(spec))
    rollout.promote(2)
    server.answers[LAZY] = 1
    assert not rollout.promote(2).already
    assert server.answers[LAZY] == 2
    assert rollout.promote(2).already


@pytest.mark.parametrize("recover", [recover_offline, None])
def test_a_killed_promotion_leaves_no_channel_behind(
    spec: Deployment, server: Files, rollout: Rollout, recover: Callable[[Deployment], object] | None
) -> None:
    rollout.publish(heavy(spec))
    before = disk(spec)
    server.failures[LAZY] = [Crash()]
    journal = Journal.undo
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        # A killed process undoes nothing itself.
        patch.setattr(Journal, "undo", lambda *_: (_ for _ in ()).throw(Crash()))
        rollout.promote(2)
    assert Journal.undo is journal
    assert disk(spec) != before
    if recover is not None:
        recover(spec)
        server = Files(Store(spec.repository_path))
    else:
        rollout.settle()
    assert disk(spec) == before
    assert server.answers == {STABLE: 1, CANARY: 1, LAZY: 1, LAZY_CANARY: 1}


def test_a_damaged_version_is_left_out_of_both_channels(spec: Deployment, rollout: Rollout) -> None:
    rollout.publish(heavy(spec))
    rollout.promote(2)
    store = Store(spec.repository_path)
    store.weights_path(2).write_text("{", encoding="utf-8")
    (found,) = quarantine(spec)
    assert found.moved == {STABLE: 1}
    assert Files(store).answers == {STABLE: 1, CANARY: 1, LAZY: 1, LAZY_CANARY: 1}
    assert first_row(spec, LAZY) == ["alpha", "beta"]
    assert difference(spec).names == []


def test_from_a_version_that_serves_from_memory_alone_there_is_a_way_back(
    spec: Deployment, server: Files, rollout: Rollout
) -> None:
    rollout.publish(heavy(spec))
    rollout.promote(2)
    Store(spec.repository_path).weights_path(2).write_text("{", encoding="utf-8")
    rollout.rollback()
    assert server.answers == {STABLE: 1, CANARY: 1, LAZY: 1, LAZY_CANARY: 1}


def test_a_reset_resets_both_channels(spec: Deployment, rollout: Rollout) -> None:
    rollout.publish(heavy(spec))
    rollout.promote(2)
    version = reset_weights(spec)
    store = Store(spec.repository_path)
    assert Files(store).answers == dict.fromkeys((STABLE, CANARY, LAZY, LAZY_CANARY), version)
    assert first_row(spec, LAZY) == ["alpha", "beta"]
    assert difference(spec).is_clean
