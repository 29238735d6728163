# SPDX-License-Identifier: Apache-2.0
"""Rollouts against a server that can be told to fail; the same on a real one is in ``tests/e2e``."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from support.deployment import Served, write_deployment
from tritonclient.grpc.model_config_pb2 import ModelConfig

from quorum.decision import weights as weights_file
from quorum.decision.kept import kept_attributes
from quorum.decision.trial import check_decisions
from quorum.decision.weights import Parameters, Weights, WeightsError
from quorum.deployment import Deployment, load_deployment
from quorum.operations.rollout import publish
from quorum.repository.configs import graph_of, parse_config
from quorum.repository.render import difference, render
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.fleet import Fleet, SharedRepository
from quorum.rollout.journal import Journal, Pending
from quorum.rollout.offline import recover_offline
from quorum.server.control import ControlError
from quorum_client import Overloaded
from quorum_contract import CANARY, STABLE, VOTE


class Crash(BaseException):
    """The process is killed here."""


class Server:
    """Keeps what it loaded, as Triton does: files count only once they are loaded."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failures: dict[str, list[BaseException | None]] = {}
        self.answers: dict[str, int] = {}
        self.down = False
        self.graphs = {
            folder.name: graph_of(parse_config((folder / "config.pbtxt").read_text("utf-8")))
            for folder in store.path.glob("*")
            if folder.is_dir()
        }
        for model in (VOTE, STABLE, CANARY):
            self.load(model)

    def ping(self) -> None:
        if self.down:
            raise ControlError("no server answers")

    def load(self, model: str) -> None:
        self.ping()
        failure = self.failures[model].pop(0) if self.failures.get(model) else None
        if failure:
            raise failure
        if model == VOTE:
            versions = Served(self.store.path).versions
            for version in versions:
                self.store.weights(version)
            self.versions = versions
        else:
            self.answers[model] = Served(self.store.path).pins[model]

    def runs(self, model: str, config: ModelConfig) -> bool:
        self.ping()
        return graph_of(config) == self.graphs[model]

    def pinned(self, channel: str) -> int:
        return self.answers[channel]

    def is_ready(self, model: str, version: str = "") -> bool:
        if model != VOTE:
            return not self.down and self.answers[model] in self.versions
        return not self.down and int(version) in self.versions

    def probe(self, channel: str) -> int:
        self.ping()
        failure = self.failures[f"probe {channel}"].pop(0) if self.failures.get(f"probe {channel}") else None
        if failure:
            raise failure
        if self.answers[channel] not in self.versions:
            raise ControlError(f"{channel} is not available")
        return self.answers[channel]

    def state(self) -> tuple[list[int], dict[str, int]]:
        return self.versions, dict(self.answers)


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}}))
    render(spec)
    return spec


@pytest.fixture
def server(spec: Deployment) -> Server:
    return Server(Store(spec.repository_path))


@pytest.fixture
def rollout(spec: Deployment, server: Server) -> Rollout:
    return Rollout(spec, server, server.probe)


def weights(spec: Deployment, heavy: float = 2.0) -> Weights:
    return Weights(
        "majority",
        ("alpha", "beta", "gamma"),
        Parameters((heavy, 1.0, 1.0)),
        catalogue=spec.catalogue().hashes,
    )


def disk(spec: Deployment) -> dict[str, bytes]:
    skip = ("rollout.jsonl", ".rollout.lock")
    files = (p for p in spec.repository_path.rglob("*") if p.is_file() and p.name not in skip)
    return {str(p.relative_to(spec.repository_path)): p.read_bytes() for p in files}


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


def test_a_load_that_fails_is_undone_and_a_retry_works(
    spec: Deployment, server: Server, rollout: Rollout
) -> None:
    before, state = disk(spec), server.state()
    server.failures[VOTE] = [ControlError("out of memory")]
    with pytest.raises(RolloutError, match="out of memory"):
        rollout.publish(weights(spec))
    assert disk(spec) == before
    assert server.state() == state
    assert rollout.publish(weights(spec)).version == 2
    before, state = disk(spec), server.state()
    server.failures[STABLE] = [ControlError("no")]
    with pytest.raises(RolloutError, match=r"undone.*no"):
        rollout.promote(2)
    assert disk(spec) == before
    assert server.state() == state
    assert rollout.promote(2).version == 2
    assert [e.outcome.split(":")[0] for e in rollout.history.events()] == [
        "done",
        "undone",
        "done",
        "undone",
        "done",
    ]


def test_an_undo_that_fails_too_still_leaves_the_files_as_before(
    spec: Deployment, server: Server, rollout: Rollout
) -> None:
    before = disk(spec)
    server.failures[VOTE] = [ControlError("one"), ControlError("two")]
    with pytest.raises(RolloutError, match="one"):
        rollout.publish(weights(spec))
    assert disk(spec) == before
    assert rollout.history.last().outcome == "undone: one"  # type: ignore[union-attr]


def test_a_channel_that_answers_with_another_version_is_put_back(
    spec: Deployment, server: Server, rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout.publish(weights(spec))
    before, state = disk(spec), server.state()
    stuck = Rollout(spec, server, lambda _: 1)
    with pytest.raises(RolloutError, match=r"answered with version 1"):
        stuck.promote(2)
    assert disk(spec) == before
    assert server.state() == state


def test_a_version_that_does_not_become_ready_is_not_published(
    spec: Deployment, server: Server, rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = disk(spec)
    monkeypatch.setattr(server, "is_ready", lambda *_: False)
    with pytest.raises(RolloutError, match="not ready"):
        rollout.publish(weights(spec))
    assert disk(spec) == before


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
    rollout.canary(2)
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


@pytest.mark.parametrize("where", [VOTE, f"probe {STABLE}"])
def test_what_a_killed_process_left_is_taken_back_by_the_next(
    spec: Deployment, server: Server, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before = disk(spec)
    killed = Rollout(spec, server, server.probe)
    # A channel is asked once before the change and once after it.
    server.failures[where] = [Crash()] if where == VOTE else [None, Crash()]
    monkeypatch.setattr(killed._journal, "undo", lambda *_: None)
    with pytest.raises(Crash):
        killed.publish(weights(spec))
    assert disk(spec) != before
    if where == VOTE:
        assert recover_offline(spec)
        assert disk(spec) == before
    else:
        assert Rollout(spec, server, server.probe).promote(1).already
        assert disk(spec) == before
    assert recover_offline(spec) is None
    assert Rollout(spec, server, server.probe).publish(weights(spec)).version == 2
    assert "interrupted" in list(Rollout(spec, server, server.probe).history.events())[1].outcome


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


def test_a_canary_that_failed_half_way_is_not_advised_to_go_live(two: Two) -> None:
    two.fleet.canary(2)
    two.servers[1].failures = {CANARY: [ControlError("full")]}
    with pytest.raises(RolloutError, match=r"the same command again, or go back by `quorum canary 2`$"):
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
    two.fleet.canary(3)
    two.servers[1].failures = {VOTE: [ControlError("full")]}
    with pytest.raises(RolloutError, match="stopped at west"):
        two.fleet.retire(2)
    two.fleet.retire(2)
    assert [server.versions for server in two.servers] == [[1, 3], [1, 3]]


def test_an_interrupted_promotion_is_taken_back_before_rolling_back(
    rollout: Rollout, server: Server, spec: Deployment
) -> None:
    for heavy in (2.0, 3.0):
        rollout.promote(rollout.publish(weights(spec, heavy)).version)
    history = rollout.history.path.read_bytes()
    rollout.promote(2)
    # As if the process had died between the change and its log.
    rollout.history.path.write_bytes(history)
    new = rollout.store.state()
    old = new.pinned(STABLE, 3)
    rollout._journal.begin(Pending("now", "promote", 2, 3, "", models=(STABLE,), old=old, new=new))
    with pytest.raises(RolloutError, match="without --dry-run"):
        Rollout(spec, server, server.probe, dry_run=True).promote(3)
    assert rollout.rollback().version == 2
    assert [event.outcome[:6] for event in rollout.history.events()][-2:] == ["undone", "done"]


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


def test_weights_that_are_worse_on_held_out_votes_need_a_reason(tmp_path: Path) -> None:
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}})
    cells = [
        {
            "product": f"p{i}",
            "category": "",
            "title": f"product {i}",
            "attribute": "color",
            "gold": ["red"],
            "votes": {"alpha": "red", "beta": "blue" if i % 3 else "red", "gamma": "green"},
        }
        for i in range(60)
    ]
    (tmp_path / "heldout.jsonl").write_text("\n".join(map(json.dumps, cells)) + "\n", encoding="utf-8")
    deploy.write_text(deploy.read_text("utf-8") + "\nrollout: {heldout: heldout.jsonl}\n", encoding="utf-8")
    spec = load_deployment(deploy)
    render(spec)
    server = Server(Store(spec.repository_path))
    rollout = Rollout(spec, server, server.probe)
    good = weights(spec)
    bad = Weights("majority", good.members, Parameters((0.1, 5.0, 0.1)), catalogue=good.catalogue)
    done = rollout.publish(good)
    assert done.comparison is not None
    assert done.comparison.new == 1.0
    rollout.promote(done.version)
    with pytest.raises(RolloutError, match=r"33\.3% right against 100\.0%.*--force"):
        rollout.publish(bad)
    assert rollout.store.state().versions == (1, 2)
    assert rollout.publish(bad, "a rehearsal").version == 3
    assert list(rollout.history.events())[-1].reason == "a rehearsal"


def test_held_out_votes_are_judged_as_served_not_as_spelled(tmp_path: Path) -> None:
    attributes = {"color": {"values": ["red", "blue"]}}
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}}, attributes=attributes)
    votes = {"alpha": "Red", "beta": "blue", "gamma": "mauve"}
    rows = [{"product": f"p{i}", "attribute": "color", "gold": ["red"], "votes": votes} for i in range(40)]
    (tmp_path / "heldout.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    deploy.write_text(deploy.read_text("utf-8") + "\nrollout: {heldout: heldout.jsonl}\n", encoding="utf-8")
    spec = load_deployment(deploy)
    render(spec)
    server = Server(Store(spec.repository_path))
    rollout = Rollout(spec, server, server.probe)
    # "mauve" is outside the closed set: gamma abstains, whatever it weighs.
    new = replace(weights(spec), default=Parameters((2.0, 1.0, 9.0)))
    good = rollout.kind.compare(new)
    assert good is not None
    assert (good.new, good.remark) == (1.0, "80 votes count as deploy.yaml spells values, not as recorded")
    with pytest.raises(RolloutError, match=r"0\.0% right.*; 80 votes count as deploy\.yaml"):
        rollout.publish(replace(new, default=Parameters((0.1, 1.0, 9.0))))


@pytest.fixture
def guarded(tmp_path: Path) -> Rollout:
    """With held-out votes by which alpha is always right on "color", and beta on "brand"."""
    deploy = write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}})
    rows = [
        {"product": f"p{i}", "category": "", "title": "", "attribute": name, "gold": ["x"], "votes": votes}
        for i in range(40)
        for name, votes in (
            ("color", {"alpha": "x", "beta": "y", "gamma": "x"}),
            ("brand", {"alpha": "y" if i % 2 else "x", "beta": "x", "gamma": "x"}),
            ("size", {"alpha": "x", "beta": "y", "gamma": "z"}),
        )
    ]
    (tmp_path / "heldout.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    rules = "rollout: {heldout: heldout.jsonl, guard: per_attribute}"
    deploy.write_text(deploy.read_text("utf-8") + f"\n{rules}\n", encoding="utf-8")
    spec = load_deployment(deploy)
    render(spec)
    server = Server(Store(spec.repository_path))
    return Rollout(spec, server, server.probe)


def test_weights_that_are_worse_on_one_attribute_are_refused_or_keep_it(guarded: Rollout) -> None:
    spec = guarded._spec
    # Alpha decides alone: better on "size" than majority's first member is not, worse on "brand".
    alone = replace(weights(spec, 9.0), attributes={"size": Parameters((1.0, 1.0, 1.0))})
    with pytest.raises(RolloutError) as refused:
        guarded.publish(alone)
    said = str(refused.value)
    assert said.startswith("not published: worse than the running version on brand (-50.0 points [")
    assert "rollout.guard is per_attribute" in said
    assert "`--keep brand`" in said
    assert guarded.store.state().versions == (1,)
    kept = guarded.publish(alone, keep=("brand",))
    assert (kept.version, kept.kept, kept.not_calibrated) == (2, ("brand",), ())
    assert kept.comparison is not None
    assert kept.comparison.warning == ""
    stored = guarded.store.weights(2)
    assert stored.parameters("brand").weights == (1.0, 1.0, 1.0)
    assert stored.parameters("color") == alone.default
    assert kept_attributes(stored) == ("brand",)
    assert guarded.publish(alone, keep=("brand",)).already
    forced = guarded.publish(alone, "a rehearsal")
    assert forced.comparison is not None
    assert forced.comparison.warning.startswith("worse than the running version on brand")
    with pytest.raises(RolloutError, match=r"no attribute 'brnd', 'colr' to keep; there are: brand, color"):
        guarded.publish(alone, keep=("brnd", "brand", "colr"))


def test_what_the_catalogue_changed_is_told_of_the_attributes_that_are_not_kept(
    guarded: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorum.operations.rollout.connect", lambda *_: nullcontext(Fleet({"": guarded})))
    spec, hashes = guarded._spec, guarded._spec.catalogue().hashes
    older = replace(weights(spec), catalogue=hashes | {"color": "sha256:c", "size": "sha256:s"})
    assert publish(spec, older, force="a rehearsal").catalogue.changed == ("color", "size")
    change = publish(spec, older, keep=["color", "color"], force="a rehearsal")
    assert change.kept == ("color",)
    assert change.catalogue.changed == ("size",)
    assert guarded.store.weights(change.version).catalogue_change(hashes) == change.catalogue


def test_without_that_guard_an_attribute_that_is_worse_is_only_named(guarded: Rollout) -> None:
    rules = guarded._spec.rollout.model_copy(update={"guard": "overall", "margin": 0.2})
    spec = guarded._spec.model_copy(update={"rollout": rules})
    found = Rollout(spec, guarded._server, guarded._probe).publish(weights(spec, 9.0)).comparison
    assert found is not None
    assert found.warning.startswith("worse than the running version on brand (-50.0 points [")
    assert "majority" not in found.compared


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


def test_a_publish_that_fails_keeps_what_it_would_have_unloaded(
    spec: Deployment, server: Server, rollout: Rollout
) -> None:
    for heavy in (2.0, 3.0, 4.0, 5.0):
        rollout.publish(weights(spec, heavy))
    before, state = disk(spec), server.state()
    server.failures = {VOTE: [ControlError("no memory left")]}
    with pytest.raises(RolloutError, match="undone: no memory left"):
        rollout.publish(weights(spec, 6.0))
    assert (disk(spec), server.state()) == (before, state)
    assert rollout.publish(weights(spec, 6.0)).retired == (2,)


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


def test_what_could_not_be_taken_back_on_the_server_is_said(server: Server, rollout: Rollout) -> None:
    rollout.publish(weights(rollout._spec))
    server.failures = {STABLE: [None, ControlError("gone")], f"probe {STABLE}": [ControlError("odd")]}
    with pytest.raises(RolloutError, match=r"undone: odd. On disk.*quorum 1.*answered with version 2"):
        rollout.promote(2)


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


def test_no_room_on_the_disk_leaves_everything_as_it_was(
    spec: Deployment, server: Server, rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout.publish(weights(spec, 3.0))
    before, state, room = disk(spec), server.state(), [0]
    reasons: list[str] = []
    write = os.fsync

    def fsync(handle: int) -> None:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= 1
        write(handle)

    for writes in itertools.count():
        room[0] = writes
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            rollout.publish(weights(spec))
            break
        except RolloutError as error:
            reasons.append(str(error))
        finally:
            monkeypatch.undo()
        assert server.probe(STABLE) == 1
        rollout.promote(1)
        assert (disk(spec), server.state()) == (before, state), writes
    assert len(reasons) > 5
    assert all("No space left" in reason for reason in reasons)
    assert server.versions == [1, 2, 3]
