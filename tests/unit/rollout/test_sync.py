# SPDX-License-Identifier: Apache-2.0
"""A repository that is new or stale gets the fleet's versions and pins, complete, or stays as it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.deployment import Served, write_deployment
from support.graph_server import GraphServer
from support.killing import killed_before

import quorum
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository.history import History
from quorum.repository.render import difference, render
from quorum.repository.store import Store
from quorum.rollout.apply import Applying, Wanted
from quorum.rollout.apply_journal import ApplyJournal
from quorum.rollout.channels import Rollout
from quorum.rollout.lock import RolloutError, locked
from quorum.rollout.offline import recover_apply, recover_offline
from quorum.rollout.sync import plan_sync, source_of, sync_offline, sync_running
from quorum.server.endpoint import Endpoint
from quorum.server.runfile import Running, leave_attempt, leave_note, remove_attempt, start_of

MEMBERS = ("alpha", "beta", "gamma")


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    """A deployment whose own repository has a second and a third version, the third one promoted."""
    spec = load_deployment(write_deployment(tmp_path, {name: {} for name in MEMBERS}))
    render(spec)
    shutil.copytree(spec.repository_path, tmp_path / "stale")
    rollout = _rollout(spec, spec.repository_path)
    for weight in (2.0, 3.0):
        rollout.publish(Weights("iwmv", MEMBERS, Parameters((weight, 1.0, 1.0))))
    rollout.promote(3)
    rollout.canary(2, 0.1)
    return spec


def _server(repository: Path) -> GraphServer:
    return GraphServer(repository, repository.with_suffix(".memory"))


def _rollout(spec: Deployment, repository: Path) -> Rollout:
    server = _server(repository)
    return Rollout(spec, server, server.probe, repository)


def check_same(spec: Deployment, target: Store) -> None:
    source = Store(spec.repository_path)
    assert target.state() == source.state()
    assert difference(spec, target.path).is_clean
    for version in source.state().versions:
        assert target.weights_path(version).read_bytes() == source.weights_path(version).read_bytes()
    assert plan_sync(spec, source, target).is_empty


@pytest.mark.parametrize("name", ["new", "stale"])
def test_a_repository_without_a_server_gets_all_that_it_lacks(spec: Deployment, name: str) -> None:
    source, target = Store(spec.repository_path), Store(spec.root / name)
    plan = plan_sync(spec, source, target)
    assert plan.weights == ((1, 2, 3) if name == "new" else (2, 3))
    sync_offline(spec, source, target)
    check_same(spec, target)
    last = History(target.path).last()
    assert last is not None
    assert (last.action, last.version) == ("sync", 3)


def test_a_running_server_loads_what_its_repository_gets(spec: Deployment) -> None:
    source, target = Store(spec.repository_path), Store(spec.root / "stale")
    server = _server(target.path)
    sync_running(spec, source, target, server, (server.probe, server.probe))
    check_same(spec, target)
    assert {channel: server.probe(channel) for channel in ("quorum", "quorum_canary")} == target.state().pins


def test_a_running_server_that_does_not_answer_so_keeps_its_state(spec: Deployment) -> None:
    source, target = Store(spec.repository_path), Store(spec.root / "stale")
    server, before = _server(target.path), target.state()
    with pytest.raises(RolloutError, match="sync 3 was undone"):
        sync_running(spec, source, target, server, (lambda channel: min(server.probe(channel), 2),) * 2)
    assert target.state() == before
    assert {server.probe("quorum"), server.probe("quorum_canary")} == {1}


def test_a_kill_at_any_moment_leaves_a_repository_that_the_next_sync_completes(spec: Deployment) -> None:
    source, operation, died = Store(spec.repository_path), 0, 0
    while True:
        target = Store(spec.root / f"stale-{operation}")
        shutil.copytree(spec.root / "stale", target.path)
        if not killed_before(operation, target.path, lambda t=target: sync_offline(spec, source, t)):
            break
        died += 1
        served = Served(target.path)
        assert {*served.pins.values()} <= {*served.versions}
        sync_offline(spec, source, target)
        check_same(spec, target)
        operation += 4
    assert died > 3


def test_a_version_with_another_content_is_never_overwritten(spec: Deployment) -> None:
    source, target = Store(spec.repository_path), Store(spec.root / "stale")
    target.add_version(2, Weights("iwmv", MEMBERS, Parameters((9.0, 1.0, 1.0))))
    with pytest.raises(RolloutError, match="never overwritten"):
        plan_sync(spec, source, target)


def test_the_source_is_what_the_others_agree_on(spec: Deployment) -> None:
    own, stale, new = spec.repository_path, spec.root / "stale", spec.root / "new"
    assert source_of([own, new], new) == own
    with pytest.raises(RolloutError, match="--from"):
        source_of([own, stale, new], new)
    with pytest.raises(RolloutError, match="--from"):
        source_of([new], new)


@pytest.mark.parametrize("operation", [8, 20])
def test_an_interrupted_apply_is_undone_before_a_sync(spec: Deployment, operation: int) -> None:
    source, target = Store(spec.repository_path), Store(spec.root / "stale")
    server = _server(target.path)
    limits = spec.gate.model_copy(update={"max_in_flight": 77})
    changed = spec.model_copy(update={"gate": limits})
    apply = Applying(Wanted(changed), server, server.probe, target.path).apply
    assert killed_before(operation, target.path, apply)
    assert ApplyJournal(target).path.exists()
    with pytest.raises(RolloutError, match="quorum apply"):
        quorum.sync(spec, target.path, source.path, dry_run=True)
    assert quorum.sync(spec, target.path, source.path).weights == (2, 3)
    check_same(spec, target)
    assert recover_apply(target.path) is None
    check_same(spec, target)


def test_an_interrupted_rollout_to_the_same_state_is_no_reason_to_do_nothing(spec: Deployment) -> None:
    source, target = Store(spec.repository_path), Store(spec.root / "new")
    sync_offline(spec, source, target)
    _rollout(spec, target.path).canary(2, 0.2)
    operation = 0
    while target.state() != source.state():
        operation += 1
        died = killed_before(operation, target.path, lambda: _rollout(spec, target.path).canary(2, 0.1))
        assert died
    assert target.pending_path.exists()
    quorum.sync(spec, target.path, source.path)
    assert recover_offline(spec, target.path) is None
    check_same(spec, target)


def test_files_are_not_changed_below_a_server_that_starts_or_hangs(spec: Deployment) -> None:
    other, target = spec.root / "other", Store(spec.root / "stale")
    shutil.copytree(spec.repository_path, other)
    before = target.state()
    leave_attempt(spec, repository=target.path)
    with pytest.raises(RolloutError, match=rf"quorum up` \(pid {os.getpid()}\) is starting"):
        quorum.sync(spec, target.path, other)
    assert quorum.sync(spec, spec.root / "new", other).state, "no server reads that one"
    leave_attempt(spec)
    with pytest.raises(RolloutError, match="is starting"):
        quorum.sync(spec, spec.repository_path, other, dry_run=True)
    remove_attempt(spec)
    endpoint = Endpoint("127.0.0.1", 9, None, 9, "")
    leave_note(spec, Running(os.getpid(), start_of(os.getpid()), target.path, endpoint))
    with pytest.raises(
        RolloutError, match=rf"tritonserver \(pid {os.getpid()}\) reads it and does not answer"
    ):
        quorum.sync(spec, target.path, other)
    leave_attempt(spec, repository=target.path)
    with pytest.raises(RolloutError, match="does not answer"):
        quorum.sync(spec, target.path, other)
    assert target.state() == before


def test_a_server_that_starts_meanwhile_is_seen_while_the_repository_is_locked(spec: Deployment) -> None:
    source, target = Store(spec.repository_path), Store(spec.root / "stale")
    before = target.state()

    def check() -> None:
        with pytest.raises(RolloutError, match="another rollout is running"), locked(target.path):
            pass
        raise RolloutError("a server starts")

    with pytest.raises(RolloutError, match="a server starts"):
        sync_offline(spec, source, target, check)
    assert target.state() == before
