# SPDX-License-Identifier: Apache-2.0
"""Rollouts against a server that can be told to fail; the same on a real one is in ``tests/e2e``."""

from __future__ import annotations

import fcntl
from dataclasses import replace

import pytest
from support.loading_server import Server, disk, weights

from quorum.decision import weights as weights_file
from quorum.decision.trial import check_decisions
from quorum.decision.weights import Parameters, Weights, WeightsError
from quorum.deployment import Deployment, load_deployment
from quorum.repository.render import difference, render
from quorum.rollout.channels import Rollout, RolloutError
from quorum.server.control import ControlError
from quorum_contract import CANARY, STABLE


def test_the_way_of_new_weights(spec: Deployment, server: Server, rollout: Rollout) -> None:
    assert rollout.publish(weights(spec)).version == 2
    assert server.state() == ([1, 2], {STABLE: 1, CANARY: 1})
    assert rollout.canary(2).before == 1
    assert server.state() == ([1, 2], {STABLE: 1, CANARY: 2})
    assert rollout.promote(2).before == 1
    assert rollout.promote(2).already
    assert rollout.publish(weights(spec, 3.0)).version == 3
    assert rollout.promote(3).before == 2
    assert rollout.rollback().version == 2
    assert rollout.rollback().version == 1
    with pytest.raises(RolloutError, match="nothing to go back to"):
        rollout.rollback()
    assert difference(spec).is_clean
    actions = [(e.action, e.version, e.outcome) for e in rollout.history.events()]
    assert actions == [
        ("render", 1, "done"),
        ("publish", 2, "done"), ("canary", 2, "done"), ("promote", 2, "done"), ("publish", 3, "done"),
        ("promote", 3, "done"), ("rollback", 2, "done"), ("rollback", 1, "done"),
    ]  # fmt: skip


@pytest.mark.parametrize("heavy", [1e308, float("nan"), float("inf")])
def test_weights_that_do_not_decide_are_refused_though_every_member_abstains(
    spec: Deployment, server: Server, rollout: Rollout, monkeypatch: pytest.MonkeyPatch, heavy: float
) -> None:
    # As if the check of the numbers let them pass; the probe here is one whose members all abstain.
    monkeypatch.setattr(weights_file, "_check_parameters", lambda *_: None)
    bad = replace(weights(spec), default=Parameters((heavy,) * 3))
    before, state = disk(spec), server.state()
    with pytest.raises(WeightsError, match="default decides no votes right"):
        rollout.publish(bad)
    assert disk(spec) == before
    assert server.state() == state


def test_a_canary_is_another_version_than_that_of_stable(spec: Deployment, rollout: Rollout) -> None:
    with pytest.raises(RolloutError, match=r"1 is what 'quorum' answers with.*publish one first"):
        rollout.canary(1, 0.5)
    assert rollout.publish(weights(spec)).version == 2
    before = disk(spec)
    with pytest.raises(RolloutError, match=r"1 is what 'quorum' answers with.*name one of 2;.*canary off"):
        rollout.canary(1, 0.5)
    assert disk(spec) == before


@pytest.mark.parametrize("action", ["canary", "promote", "rollback"])
def test_a_version_that_does_not_decide_is_not_pinned(
    spec: Deployment, server: Server, rollout: Rollout, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(weights_file, "_check_parameters", lambda *_: None)
    monkeypatch.setattr("quorum.rollout.weights.check_decisions", lambda _: None)
    rollout.publish(replace(weights(spec), default=Parameters((1e308,) * 3)))
    if action == "rollback":
        rollout.promote(2)
        rollout.promote(rollout.publish(weights(spec)).version)
    monkeypatch.setattr("quorum.rollout.weights.check_decisions", check_decisions)
    before, state = disk(spec), server.state()
    act = {"canary": lambda: rollout.canary(2), "promote": lambda: rollout.promote(2)}.get(
        action, rollout.rollback
    )
    with pytest.raises(RolloutError, match=rf"no {action} of version 2: default decides no votes right"):
        act()
    assert disk(spec) == before
    assert server.state() == state


def test_without_a_server_nothing_is_touched(spec: Deployment, server: Server, rollout: Rollout) -> None:
    before = disk(spec)
    server.down = True
    for action in (lambda: rollout.publish(weights(spec)), lambda: rollout.promote(1)):
        with pytest.raises(ControlError, match="no server"):
            action()
    assert disk(spec) == before
    assert [e.action for e in rollout.history.events()] == ["render"]


def test_weights_that_do_not_fit_never_reach_the_disk(spec: Deployment, rollout: Rollout) -> None:
    before = disk(spec)
    with pytest.raises(WeightsError, match="members"):
        rollout.publish(Weights("majority", ("alpha", "gamma", "beta"), Parameters((1.0,) * 3)))
    assert disk(spec) == before


def test_a_second_publisher_is_refused_and_may_come_again(spec: Deployment, rollout: Rollout) -> None:
    before = disk(spec)
    with (spec.repository_path / ".rollout.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RolloutError, match=r"another rollout.*try again"):
            rollout.publish(weights(spec))
        assert disk(spec) == before
    assert rollout.publish(weights(spec)).version == 2


def test_a_channel_that_is_broken_does_not_keep_the_other_from_moving(
    spec: Deployment, server: Server, rollout: Rollout
) -> None:
    """In an outage of one channel, the other must be able to go back."""
    rollout.publish(weights(spec))
    rollout.promote(2)
    server.failures[f"probe {CANARY}"] = [ControlError("canary is down")] * 9
    assert rollout.rollback().version == 1
    assert server.answers[STABLE] == 1


def test_evidence_about_versions_that_are_gone_changes_nothing(
    spec: Deployment, server: Server, rollout: Rollout
) -> None:
    for heavy in (2.0, 3.0):
        rollout.publish(weights(spec, heavy))
    rollout.canary(2)
    # Somebody else was quicker, after the comparison of 1 with 3.
    with pytest.raises(RolloutError, match="'quorum_canary' was changed from version 3 meanwhile"):
        rollout.end_canary(of=3)
    rollout.promote(2)
    with pytest.raises(RolloutError, match="'quorum' was changed from version 1 meanwhile"):
        rollout.promote(3, over=1)
    assert server.state()[1] == {STABLE: 2, CANARY: 2}
    assert rollout.promote(3, over=2).before == 2
    assert rollout.end_canary(of=2).version == 3


def test_versions_in_use_are_not_retired(spec: Deployment, server: Server, rollout: Rollout) -> None:
    rollout.publish(weights(spec))
    rollout.promote(2)
    for version in (1, 2):
        with pytest.raises(RolloutError, match="cannot be retired"):
            rollout.retire(version)
    rollout.end_canary()
    rollout.retire(1)
    assert server.state() == ([2], {STABLE: 2, CANARY: 2})
    assert rollout.publish(weights(spec, 3.0)).version == 3
    with pytest.raises(RolloutError, match=r"version 1 is not loaded.*quorum publish .*/1/weights\.json"):
        rollout.promote(1)


def test_a_dry_run_changes_nothing(spec: Deployment, server: Server, rollout: Rollout) -> None:
    rollout.publish(weights(spec))
    before, state = disk(spec), server.state()
    dry = Rollout(spec, server, server.probe, dry_run=True)
    assert (dry.publish(weights(spec, 3.0)).version, dry.promote(2).planned) == (3, True)
    assert (disk(spec), server.state()) == (before, state)
    with pytest.raises(RolloutError, match="no version 7"):
        dry.canary(7)


def test_a_dry_run_changes_no_byte(rollout: Rollout, server: Server, spec: Deployment) -> None:
    rollout.publish(weights(spec))
    root = spec.repository_path
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    dry = Rollout(spec, server, server.probe, dry_run=True)
    assert dry.publish(weights(spec, 5.0)).planned
    assert dry.promote(2).planned
    assert dry.canary(2).planned
    assert dry.retire(2).planned
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_only_so_many_versions_stay_loaded_and_none_that_is_needed(
    spec: Deployment, server: Server, rollout: Rollout
) -> None:
    """A hundred publishes must not leave a hundred processes."""
    for heavy in (2.0, 3.0):
        rollout.promote(rollout.publish(weights(spec, heavy)).version)
    rollout.canary(1)
    retired = [rollout.publish(weights(spec, heavy)).retired for heavy in (4.0, 5.0, 6.0, 7.0)]
    assert retired == [(), (), (4,), (5,)]
    assert server.versions == [1, 2, 3, 6, 7]
    assert list(list(rollout.history.events())[-1].retired) == [5]
    assert rollout.rollback().version == 2
    assert rollout.publish(weights(spec, 4.0)).version == 8
    assert difference(spec).is_clean


def test_a_repository_that_is_not_what_the_server_runs_is_left_alone(
    spec: Deployment, server: Server, rollout: Rollout
) -> None:
    before = disk(spec)
    text = spec.path.read_text("utf-8")
    spec.path.write_text(text.replace("gate: {}", "gate: {max_in_flight: 7}"), encoding="utf-8")
    changed = load_deployment(spec.path)
    with pytest.raises(RolloutError, match=r"differs from .*deploy.yaml \(quorum_gate/config.pbtxt\)"):
        Rollout(changed, server, server.probe).publish(weights(spec))
    assert disk(spec) == before
    render(changed)
    rendered = disk(spec)
    with pytest.raises(RolloutError, match=r"rendered anew.*\(quorum_gate\).*: restart the server"):
        Rollout(changed, server, server.probe).publish(weights(spec))
    assert disk(spec) == rendered
