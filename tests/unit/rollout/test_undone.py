# SPDX-License-Identifier: Apache-2.0
"""Changes that fail or are killed: files and server are as before, and a retry works."""

from __future__ import annotations

import errno
import itertools
import os

import pytest
from support.loading_server import Crash, Server, disk, weights

from quorum.deployment import Deployment
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.journal import Pending
from quorum.rollout.offline import recover_offline
from quorum.server.control import ControlError
from quorum_contract import STABLE, VOTE


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


def test_what_could_not_be_taken_back_on_the_server_is_said(server: Server, rollout: Rollout) -> None:
    rollout.publish(weights(rollout._spec))
    server.failures = {STABLE: [None, ControlError("gone")], f"probe {STABLE}": [ControlError("odd")]}
    with pytest.raises(RolloutError, match=r"undone: odd. On disk.*quorum 1.*answered with version 2"):
        rollout.promote(2)


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
