# SPDX-License-Identifier: Apache-2.0
"""An apply that fails, or is killed before any file operation, leaves one graph or the other, no mixture."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.deployment import write_deployment
from support.graph_server import GraphServer
from support.killing import killed_before

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, WeightsError
from quorum.deployment import Deployment, load_deployment
from quorum.repository.history import History
from quorum.repository.render import difference, render
from quorum.repository.state import RepositoryError
from quorum.repository.store import Store
from quorum.rollout.apply import Applying, Wanted
from quorum.rollout.channels import Rollout
from quorum.rollout.fleet_apply import apply_all
from quorum.rollout.lock import RolloutError
from quorum.rollout.offline import recover_apply
from quorum.serving.copies import is_copy

LONG = bool(os.environ.get("QUORUM_LONG"))
STRIDE = 1 if LONG else 29
"""Operations from one kill to the next."""
Edit = Callable[[dict[str, Any]], object]
Fails = Callable[[str, list[str]], bool]


def member(name: str) -> dict[str, Any]:
    return {"name": name, "runtime": "replay", "options": {"votes": "votes.jsonl"}}


CHANGES: dict[str, Edit] = {
    "member added": lambda spec: spec["members"].append(member("delta")),
    "member replaced": lambda spec: spec["members"].__setitem__(1, member("delta")),
    "attribute added": lambda spec: spec["attributes"].update(material={}),
    "all at once": lambda spec: (
        spec["members"].__setitem__(0, member("delta")),
        spec["attributes"].update(brand={"question": "Which brand?"}),
        spec.update(gate={"max_in_flight": 5}, lazy={}),
    ),
    "a limit": lambda spec: spec.update(gate={"max_in_flight": 5}),
}


class World:
    """A deployment that is served as it was, and its file as it is wanted."""

    def __init__(self, folder: Path, edit: Edit, before: Edit = lambda _: None) -> None:
        self.folder = folder
        path = write_deployment(folder, {"alpha": {}, "beta": {}, "gamma": {}})
        _edit(path, before)
        self.old = load_deployment(path)
        render(self.old)
        self.server = GraphServer(self.old.repository_path, folder / "memory.json")
        _edit(path, edit)
        self.new = load_deployment(path)

    def applying(self, weights: Weights | None = None) -> Applying:
        return Applying(Wanted(self.new, weights), self.server, self.server.probe)

    def check_serves(self, spec: Deployment) -> None:
        """The files, and what is loaded, are those of a deployment; nothing else is left."""
        assert difference(spec).is_clean
        loaded = {*self.server.read()}
        assert loaded == {"quorum_gate", *spec.models(), "quorum_vote", *spec.channels}
        for channel in spec.channels:
            self.server.probe(channel)
        left = [path.name for path in spec.repository_path.iterdir()]
        assert not [name for name in left if is_copy(name) or name.endswith("pending.json")]

    def is_old(self) -> bool:
        return difference(self.old).is_clean


def fails_on_copies(channel: str, steps: list[str]) -> bool:
    return channel == "quorum_canary" and any(map(is_copy, steps))


def fails_at_last(channel: str, steps: list[str]) -> bool:
    """Once the channels have gone back to the steps."""
    return channel == "quorum_canary" and "delta" in steps and not any(map(is_copy, steps))


def _edit(path: Path, change: Edit) -> None:
    spec = yaml.safe_load(path.read_text("utf-8"))
    change(spec)
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


@pytest.mark.parametrize("name", CHANGES if LONG else ["member replaced", "all at once", "a limit"])
def test_a_change_is_made_and_can_be_made_back(tmp_path: Path, name: str) -> None:
    world = World(tmp_path, CHANGES[name])
    plan = world.applying().plan()
    world.check_serves(world.old)
    assert world.applying().apply() == plan
    world.check_serves(world.new)
    assert world.applying().plan().is_empty
    back = Applying(Wanted(world.old), world.server, world.server.probe)
    back.apply()
    world.check_serves(world.old)


@pytest.mark.parametrize("name", ["attribute added", "a limit"])
def test_a_repository_that_was_rendered_anew_meanwhile_is_refused(tmp_path: Path, name: str) -> None:
    world = World(tmp_path, CHANGES[name])
    render(world.new)
    with pytest.raises(RolloutError, match=r"rendered anew since the server started \(quorum_gate\)"):
        world.applying().plan()
    # As the message says: put it back, and apply.
    render(world.old)
    world.applying().apply()
    world.check_serves(world.new)


@pytest.mark.parametrize("name", ["member added", "all at once"])
def test_a_channel_that_decides_nothing_is_put_back(tmp_path: Path, name: str) -> None:
    world = World(tmp_path, CHANGES[name])
    world.server.fails = fails_on_copies
    with pytest.raises(RolloutError, match="undone: quorum_canary decides nothing; serving as before"):
        world.applying().apply()
    world.check_serves(world.old)
    assert [e.outcome[:6] for e in History(world.old.repository_path).events()] == ["done", "undone"]


@pytest.mark.parametrize("before", [False, True])
def test_a_channel_that_decided_before_must_decide_after(tmp_path: Path, before: bool) -> None:
    world = World(tmp_path, CHANGES["member replaced"])

    def faults(channel: str) -> dict[str, str]:
        serves_delta = "delta" in world.server.read()
        return {"here": "no member works: delta TIMEOUT"} if serves_delta or before else {}

    applying = Applying(Wanted(world.new), world.server, world.server.probe, faults=faults)
    if before:
        applying.apply()
        return world.check_serves(world.new)
    with pytest.raises(RolloutError, match="undone: 'quorum' at here decides nothing: no member works"):
        applying.apply()
    return world.check_serves(world.old)


@pytest.mark.parametrize("model", ["delta__next", "quorum_vote", "quorum_canary"])
def test_a_model_that_does_not_load_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    world, load = World(tmp_path, CHANGES["all at once"]), GraphServer.load
    failed: list[str] = []

    def failing(server: GraphServer, name: str) -> None:
        if name == model and not failed:
            failed.append(name)
            raise RolloutError("it does not load")
        load(server, name)

    monkeypatch.setattr(GraphServer, "load", failing)
    with pytest.raises(RolloutError, match="undone: it does not load"):
        world.applying().apply()
    world.check_serves(world.old)


@pytest.mark.parametrize("name", CHANGES if LONG else ["member replaced"])
def test_a_kill_before_any_file_operation_is_undone_or_finished(tmp_path: Path, name: str) -> None:
    seen = set[bool]()
    for world in _killed(tmp_path, name, len(name) % STRIDE, STRIDE):
        seen.add(old := world.is_old())
        world.check_serves(world.old if old else world.new)
        world.applying().apply()
        world.check_serves(world.new)
    assert seen == {True, False}


def test_a_kill_while_a_change_is_undone_is_settled(tmp_path: Path) -> None:
    first, stride = (0, 1) if LONG else (95, 3)
    for world in _killed(tmp_path, "member replaced", first, stride, fails_at_last):
        world.check_serves(world.old)
        world.server.fails = lambda channel, steps: False
        world.applying().apply()
        world.check_serves(world.new)


def _killed(
    folder: Path,
    name: str,
    operation: int,
    stride: int,
    fails: Fails | None = None,
) -> Iterator[World]:
    """The world after a kill before each of the operations of an apply, settled."""
    base = World(folder / "base", CHANGES[name])
    while True:
        now = folder / str(operation)
        shutil.copytree(base.folder, now)
        world = _moved(base, now)
        if fails is not None:
            world.server.fails = fails
        if not killed_before(operation, world.old.repository_path, lambda w=world: w.applying().apply()):
            return
        if fails is None:
            for channel in world.old.channels:
                world.server.probe(channel)
        _check_start(world, folder / f"{operation}-started")
        world.applying().settle()
        yield world
        operation += stride


def _moved(world: World, folder: Path) -> World:
    moved = object.__new__(World)
    moved.folder = folder
    moved.new, moved.old = (
        s.model_copy(update={"path": folder / "deploy.yaml"}) for s in (world.new, world.old)
    )
    moved.server = GraphServer(moved.old.repository_path, folder / "memory.json")
    return moved


def _check_start(world: World, folder: Path) -> None:
    """A server that is started by itself serves; `quorum up` serves the old graph or the new one."""
    shutil.copytree(world.folder, folder)
    started = _moved(world, folder)
    started.server.start()
    for channel in ("quorum", "quorum_canary"):
        started.server.probe(channel)
    recover_apply(started.old.repository_path)
    started.server.start()
    started.check_serves(started.old if started.is_old() else started.new)


def test_what_cannot_be_unloaded_is_left_for_the_next_apply(tmp_path: Path) -> None:
    world, notes = World(tmp_path, CHANGES["member replaced"]), []
    world.server.stuck = {"beta"}
    Applying(Wanted(world.new), world.server, world.server.probe, note=notes.append).apply()
    assert [note for note in notes if note.startswith("beta could not be unloaded: beta cannot")]
    with pytest.raises(RolloutError, match="interrupted"):
        world.applying().plan()
    world.server.stuck = set()
    world.applying().apply()
    world.check_serves(world.new)


def test_a_folder_of_others_is_left(tmp_path: Path) -> None:
    world = World(tmp_path, CHANGES["all at once"])
    own = world.old.repository_path / "mine__next" / "1" / "model.py"
    own.parent.mkdir(parents=True)
    own.touch()
    world.applying().apply()
    assert own.exists()


def test_other_changes_wait_until_an_interrupted_one_is_settled(tmp_path: Path) -> None:
    world = World(tmp_path, CHANGES["member added"])
    assert killed_before(12, world.old.repository_path, lambda: world.applying().apply())
    with pytest.raises(RolloutError, match="`quorum apply` was interrupted"):
        Rollout(world.old, world.server, world.server.probe).promote(1)
    with pytest.raises(RolloutError, match="interrupted"):
        world.applying().plan()


def test_other_changes_name_a_damaged_journal_and_what_sets_it_aside(tmp_path: Path) -> None:
    world = World(tmp_path, CHANGES["member added"])
    (world.old.repository_path / "apply.pending.json").write_text('{"step": ', encoding="utf-8")
    rollout = Rollout(world.old, world.server, world.server.probe)
    for act in (lambda: rollout.promote(1), world.applying().apply):
        with pytest.raises(RepositoryError, match=r"(?s)apply\.pending\.json: damaged.*start it again"):
            act()


def learned(members: tuple[str, ...], weights: tuple[float, ...]) -> Weights:
    rule = Parameters(weights, none_bias=-1.0)
    return Weights("loglinear", members, rule, {"brand": rule}, confidence="calibrated")


def serve_learned(world: World, weights: tuple[float, ...]) -> None:
    rollout = Rollout(world.old, world.server, world.server.probe)
    rollout.publish(learned(("alpha", "beta", "gamma"), weights))
    rollout.promote(2)


def test_a_member_that_joins_learned_weights_has_no_say(tmp_path: Path) -> None:
    world = World(tmp_path, CHANGES["member added"])
    serve_learned(world, (1.0, 2.0, 3.0))
    assert world.applying().apply().version == 3
    carried = Store(world.old.repository_path).weights(3)
    assert carried.members == ("alpha", "beta", "gamma", "delta")
    assert carried.parameters("brand").weights == (1.0, 2.0, 3.0, 0.0)
    world.check_serves(world.new)


def test_a_member_with_a_say_leaves_only_by_new_weights(tmp_path: Path) -> None:
    world = World(tmp_path, CHANGES["member replaced"])
    serve_learned(world, (1.0, 2.0, 3.0))
    with pytest.raises(WeightsError, match=r"count the votes of beta.*--weights"):
        world.applying().apply()
    given = learned(("alpha", "delta", "gamma"), (1.0, 0.5, 3.0))
    assert world.applying(given).apply().version == 3
    assert Store(world.old.repository_path).weights(3) == given
    world.check_serves(world.new)


def test_weights_for_the_members_that_serve_are_a_publish(tmp_path: Path) -> None:
    world = World(tmp_path, CHANGES["a limit"])
    given = learned(("alpha", "beta", "gamma"), (1.0, 2.0, 3.0))
    with pytest.raises(RolloutError, match="`quorum publish`"):
        world.applying(given).apply()
    world.check_serves(world.old)
    serve_learned(world, (1.0, 2.0, 3.0))
    assert world.applying(given).apply().version is None


def test_given_weights_wait_for_the_end_of_a_canary_and_are_guarded(tmp_path: Path) -> None:
    world = World(tmp_path, CHANGES["member replaced"])
    rollout = Rollout(world.old, world.server, world.server.probe)
    rollout.publish(learned(("alpha", "beta", "gamma"), (1.0, 2.0, 3.0)))
    rollout.canary(2, 0.1)
    given = learned(("alpha", "delta", "gamma"), (1.0, 9.0, 1.0))
    with pytest.raises(RolloutError, match="end it first"):
        world.applying(given).apply()
    rollout.end_canary()
    votes = {"alpha": "a", "beta": "a", "gamma": "a", "delta": "b"}
    row = {"attribute": "brand", "title": "t", "category": "", "gold": ["a"], "votes": votes}
    text = "\n".join(json.dumps({**row, "product": f"p{p}"}) for p in range(40))
    (tmp_path / "heldout.jsonl").write_text(f"{text}\n", encoding="utf-8")
    _edit(world.new.path, lambda spec: spec.update(rollout={"heldout": "heldout.jsonl"}))
    world.new = load_deployment(world.new.path)
    with pytest.raises(RolloutError, match=r"0\.0% right against 100\.0%.*rollout\.margin"):
        world.applying(given).apply()
    world.check_serves(world.old)
    assert world.applying(learned(given.members, (1.0, 0.1, 1.0))).apply().version == 3


@pytest.mark.parametrize("published", [(2.0,), (2.0, 1.0)])
def test_a_fleet_gets_one_version_of_one_content(tmp_path: Path, published: tuple[float, ...]) -> None:
    """The second server has another content under the same number, or the same under another."""
    worlds = {}
    for name, versions in (("east", (1.0,)), ("west", published)):
        (tmp_path / name).mkdir()
        worlds[name] = World(tmp_path / name, CHANGES["member added"])
        for own in versions:
            rollout = Rollout(worlds[name].old, worlds[name].server, worlds[name].server.probe)
            rollout.promote(rollout.publish(learned(("alpha", "beta", "gamma"), (own, 2.0, 3.0))).version)
    with pytest.raises(RolloutError, match="different weights"):
        apply_all({name: world.applying() for name, world in worlds.items()})
    for world in worlds.values():
        world.check_serves(world.old)
