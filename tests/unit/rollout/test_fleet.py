# SPDX-License-Identifier: Apache-2.0
"""Several servers change together: with repositories of their own, or one that they share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.deployment import write_deployment
from support.loading_server import Crash, Server, weights

from quorum.deployment import Deployment, load_deployment
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.fleet import Fleet, SharedRepository
from quorum.rollout.journal import Journal
from quorum.server.control import ControlError
from quorum_client import Overloaded
from quorum_contract import CANARY, STABLE, VOTE


class Two:
    """Two servers with repositories of their own, as one fleet."""

    def __init__(self, tmp_path: Path) -> None:
        self.servers: list[Server] = []
        self.rollouts: dict[str, Rollout] = {}
        for name in ("east", "west"):
            folder = tmp_path / name
            folder.mkdir()
            self.spec = load_deployment(write_deployment(folder, {"alpha": {}, "beta": {}, "gamma": {}}))
            render(self.spec)
            server = Server(Store(self.spec.repository_path))
            self.servers.append(server)
            self.rollouts[name] = Rollout(self.spec, server, server.probe)
        self.fleet = Fleet(self.rollouts)
        for heavy in (2.0, 3.0):
            self.fleet.promote(self.fleet.publish(weights(self.spec, heavy)).version)

    def pins(self) -> list[int]:
        return [server.answers[STABLE] for server in self.servers]


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


def test_an_attribute_is_kept_on_a_fleet_only_if_all_decide_it_alike(two: Two) -> None:
    new = weights(two.spec, 7.0)
    kept = two.fleet.publish(new, keep=("brand",))
    assert {server.store.weights(kept.version).content_hash for server in two.servers} == {
        two.rollouts["east"].kind.keeping(new, ["brand"]).content_hash
    }
    two.rollouts["west"].promote(2)
    with pytest.raises(RolloutError, match="--keep would publish different ones; promote one version"):
        two.fleet.publish(weights(two.spec, 8.0), keep=("brand",))
    assert two.fleet.publish(weights(two.spec, 8.0)).version == kept.version + 1


def test_a_fleet_changes_together_and_goes_back_together(two: Two) -> None:
    assert two.pins() == [3, 3]
    assert two.fleet.rollback().version == 2
    assert two.pins() == [2, 2]
    assert two.fleet.retire(3).version == 3
    assert two.fleet.publish(weights(two.spec, 2.0)).already


def test_the_server_that_fails_goes_back_and_stops_the_rest(two: Two) -> None:
    two.fleet.rollback()
    two.servers[1].failures = {STABLE: [ControlError("full")]}
    with pytest.raises(RolloutError, match=r"stopped at west.*Done on east.*promote 2"):
        two.fleet.promote(3)
    assert two.pins() == [3, 2]
    with pytest.raises(RolloutError, match=r"east from 3 to 2.*west from 2 to 1.*promote N"):
        two.fleet.rollback()
    assert two.pins() == [3, 2]
    two.fleet.promote(3)
    assert two.pins() == [3, 3]


@pytest.mark.parametrize("command", ["publish", "canary", "promote", "rollback", "retire", "end_canary"])
def test_all_servers_are_checked_before_the_first_is_changed(two: Two, command: str) -> None:
    arguments = {"publish": (weights(two.spec, 5.0),), "canary": (2,), "promote": (2,), "retire": (2,)}
    if command in ("retire", "end_canary"):
        two.fleet.canary(2) if command == "end_canary" else two.fleet.end_canary()
    before = [server.state() for server in two.servers]
    events = [len(list(rollout.history.events())) for rollout in two.rollouts.values()]
    two.servers[1].down = True
    with pytest.raises(RolloutError, match="nothing was changed, as west would not take it: no server answ"):
        getattr(two.fleet, command)(*arguments.get(command, ()))
    assert [server.state() for server in two.servers] == before
    assert [len(list(rollout.history.events())) for rollout in two.rollouts.values()] == events
    two.servers[1].down = False
    getattr(two.fleet, command)(*arguments.get(command, ()))
    assert two.servers[0].state() == two.servers[1].state() != before[0]


def test_a_canary_that_failed_half_way_is_not_advised_to_go_live(two: Two) -> None:
    two.fleet.canary(2)
    two.servers[1].failures = {CANARY: [ControlError("full")]}
    with pytest.raises(RolloutError, match=r"the same command again, or go back by `quorum canary 2`$"):
        two.fleet.canary(1)
    two.fleet.canary(1)
    two.fleet.end_canary()
    two.servers[1].failures = {CANARY: [ControlError("full")]}
    with pytest.raises(RolloutError, match=r"the same command again, or go back by `quorum canary off`$"):
        two.fleet.canary(1)
    two.servers[1].failures = {STABLE: [ControlError("full")]}
    with pytest.raises(RolloutError, match=r"run `quorum promote 2`, or go back by `quorum promote 3`$"):
        two.fleet.rollback()
    two.fleet.promote(2)
    assert two.pins() == [2, 2]


@pytest.mark.parametrize("command", ["publish", "rollback"])
def test_what_was_interrupted_on_one_server_is_taken_back_before_the_fleet_is_compared(
    two: Two, command: str
) -> None:
    east = two.rollouts["east"]
    two.servers[0].failures = {VOTE: [Crash()], STABLE: [Crash()]}
    undo, Journal.undo = Journal.undo, lambda *_: None  # type: ignore[method-assign,assignment]
    try:
        with pytest.raises(Crash):
            east.publish(weights(two.spec, 7.0)) if command == "publish" else east.promote(1)
    finally:
        Journal.undo = undo  # type: ignore[method-assign]
    two.servers[0].failures = {}
    assert east._journal.path.exists()
    if command == "publish":
        assert two.fleet.publish(weights(two.spec, 9.0)).version == 4
    else:
        assert two.fleet.rollback().version == 2
    assert two.servers[0].state() == two.servers[1].state()


def test_servers_that_share_a_repository_are_all_put_back_past_one_that_is_gone(
    spec: Deployment, server: Server
) -> None:
    others = [Server(server.store) for _ in range(2)]
    names = {"a": server, "b": others[0], "c": others[1]}
    shared = SharedRepository({name: (s, s.probe) for name, s in names.items()})
    rollout = Rollout(spec, shared, shared.probe)
    rollout.publish(weights(spec))
    # All load it; then the first one goes away.
    server.failures = {STABLE: [None, ControlError("gone")], f"probe {STABLE}": [ControlError("gone")]}
    with pytest.raises(RolloutError, match="a: gone"):
        rollout.promote(2)
    assert [s.answers[STABLE] for s in others] == [1, 1]
    # New weights go no further than the first that fails.
    server.failures = {STABLE: [ControlError("full")]}
    loads: list[str] = []
    others[1].load = loads.append  # type: ignore[method-assign]
    shared = SharedRepository({name: (s, s.probe) for name, s in names.items()})
    with pytest.raises(RolloutError, match="a: full"):
        shared.load(STABLE)
    assert loads == []


def test_a_retirement_that_failed_half_way_can_be_run_again(two: Two) -> None:
    two.fleet.end_canary()
    two.servers[1].failures = {VOTE: [ControlError("full")]}
    with pytest.raises(RolloutError, match="stopped at west"):
        two.fleet.retire(2)
    two.fleet.retire(2)
    assert [server.versions for server in two.servers] == [[1, 3], [1, 3]]


def full(*_: object) -> int:
    raise Overloaded("the gate is full")


def test_under_a_full_gate_what_the_server_loaded_counts(
    spec: Deployment, server: Server, rollout: Rollout
) -> None:
    """In an overload above all one wants to go back."""
    rollout.promote(rollout.publish(weights(spec)).version)
    shared = SharedRepository({"east": (server, full), "west": (server, full)})
    busy = Rollout(spec, shared, shared.probe)
    assert busy.rollback().version == 1
    assert server.answers[STABLE] == 1
    server.failures = {STABLE: [ControlError("no memory left")]}
    with pytest.raises(RolloutError, match=r"undone: east: no memory left; serving as before: quorum 1"):
        busy.promote(2)
    server.versions.remove(2)
    with pytest.raises(RolloutError, match="the gate is full"):
        busy.canary(2)
