# SPDX-License-Identifier: Apache-2.0
"""Journals that this process did not write: of an earlier release, damaged, or of a change that is made."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.deployment import Served, set_state, write_deployment

from quorum.decision.weights import equal_weights
from quorum.deployment import Deployment, load_deployment
from quorum.repository.history import Event, History
from quorum.repository.render import difference, render
from quorum.repository.state import RepositoryError
from quorum.repository.store import Store
from quorum.rollout.journal import Journal, Pending
from quorum.rollout.offline import recover_offline, set_damaged_journal_aside
from quorum_contract import STABLE, VOTE


@pytest.fixture
def spec(tmp_path: Path) -> Deployment:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))
    render(spec)
    Store(spec.repository_path).add_version(2, equal_weights(spec.member_names))
    set_state(spec, [1, 2])
    return spec


@pytest.fixture
def store(spec: Deployment) -> Store:
    return Store(spec.repository_path)


def test_a_journal_is_flat_and_reads_back(spec: Deployment, store: Store) -> None:
    old = store.state()
    pending = Pending(
        "now", "promote", 2, 1, "sha256:2", models=(STABLE,), old=old, new=old.pinned(STABLE, 2)
    )
    Journal(spec, store, History(store.path)).begin(pending)
    assert json.loads(store.pending_path.read_text("utf-8")) == {
        "at": "now", "action": "promote", "version": 2, "before": 1, "weights_hash": "sha256:2",
        "reason": None, "retired": [], "model": "quorum_vote", "models": ["quorum"], "adds_version": False,
        "old": {"versions": [1, 2], "pins": {"quorum": 1, "quorum_canary": 1}, "canary_share": 0.0},
        "new": {"versions": [1, 2], "pins": {"quorum": 2, "quorum_canary": 1}, "canary_share": 0.0},
    }  # fmt: skip
    assert recover_offline(spec) == pending
    event = History(store.path).last()
    assert event is not None
    assert (event.at, event.action, event.version, event.before) == ("now", "promote", 2, 1)
    assert event.outcome == "undone: the process that made it was interrupted"
    assert event.who


def test_a_change_with_a_reason_that_is_no_text_is_undone(spec: Deployment, store: Store) -> None:
    """As a command line gives it where a byte of an argument is no UTF-8."""
    old = store.state()
    new, reason = old.pinned(STABLE, 2), os.fsdecode(b"f\xfcr")
    pending = Pending("now", "promote", 2, 1, "", reason, models=(STABLE,), old=old, new=new)
    Journal(spec, store, History(store.path)).begin(pending)
    assert recover_offline(spec) == pending
    assert [event.reason for event in History(store.path).events()][-1] == reason


EARLIER: dict[str, Any] = {"at": "then", "action": "promote", "version": 2, "pins": {"quorum": 1}}
"""A journal in the form of an earlier release."""


def test_an_earlier_journal_of_a_change_that_is_logged_is_removed(spec: Deployment, store: Store) -> None:
    state = store.state()
    History(store.path).append(Event("then", "promote", 2, 1, "sha256:2", who="somebody"))
    store.pending_path.write_text(json.dumps(EARLIER), encoding="utf-8")
    assert recover_offline(spec) is None
    assert not store.pending_path.exists()
    assert store.state() == state


@pytest.mark.parametrize("last", [None, {"at": "before"}, {"action": "canary"}, {"version": 1}])
def test_an_earlier_journal_of_a_change_that_is_not_logged_is_named(
    spec: Deployment, store: Store, last: dict[str, Any] | None
) -> None:
    if last is not None:
        event = Event("then", "promote", 2, 1, "sha256:2", who="somebody")
        History(store.path).append(msgspec.structs.replace(event, **last))
    store.pending_path.write_text(json.dumps(EARLIER), encoding="utf-8")
    with pytest.raises(
        RepositoryError, match=r"rollout\.pending\.json: not a journal of this release.*earlier"
    ):
        recover_offline(spec)
    assert store.pending_path.exists()


def test_a_journal_that_adds_a_loaded_version_is_refused(spec: Deployment, store: Store) -> None:
    """Its undo would remove the folder of a version that the state before lists."""
    old = store.state()
    good = Pending("now", "publish", 3, None, "", models=(VOTE,), old=old, new=old.listing([1, 2, 3]))
    bad = msgspec.to_builtins(good) | {"version": 2, "adds_version": True}
    store.pending_path.write_text(json.dumps(bad), encoding="utf-8")
    with pytest.raises(RepositoryError, match=r"rollout\.pending\.json: .*adds version 2, which is loaded"):
        recover_offline(spec)
    assert store.versions_on_disk() == [1, 2]
    with pytest.raises(ValueError, match="adds version 2"):
        msgspec.structs.replace(good, version=2, adds_version=True)


DAMAGED = {
    "empty": b"",
    "no UTF-8": b'{"at": "\xff"}',
    "deep": b'{"at": ' + b"[" * 100_000,
    "deep in an unknown key": b'{"more": ' + b"[" * 100_000,
    "5 000 digits": b'{"at": "then", "action": "promote", "version": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_journal_is_named_with_a_way_out(spec: Deployment, store: Store, raw: bytes) -> None:
    store.pending_path.write_bytes(raw)
    with pytest.raises(RepositoryError, match=r"rollout\.pending\.json: .*look at it, then remove it"):
        recover_offline(spec)
    assert store.pending_path.read_bytes() == raw


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_journal_is_set_aside_and_the_state_is_served(
    spec: Deployment, store: Store, raw: bytes
) -> None:
    """As a change was killed after it wrote the state, with configurations of the old one."""
    store.write_state(store.state().pinned(STABLE, 2))
    store.pending_path.write_bytes(raw)
    aside = set_damaged_journal_aside(spec)
    assert aside is not None
    assert aside.path.read_bytes() == raw
    assert str(aside.path) in str(aside)
    assert not store.pending_path.exists()
    assert Served(store.path).pins[STABLE] == 2
    assert difference(spec).is_clean
    assert set_damaged_journal_aside(spec) is None
    assert recover_offline(spec) is None


def test_a_sound_journal_is_not_set_aside(spec: Deployment, store: Store) -> None:
    old = store.state()
    pending = Pending("now", "promote", 2, 1, "", models=(STABLE,), old=old, new=old.pinned(STABLE, 2))
    Journal(spec, store, History(store.path)).begin(pending)
    assert set_damaged_journal_aside(spec) is None
    assert recover_offline(spec) == pending
