# SPDX-License-Identifier: Apache-2.0
"""A version that is damaged on disk: it stops no server and takes nothing down.

``QUORUM_LONG=1`` damages each version for each way of starting.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import quorum, quorum_json, start
from support.deployment import ATTRIBUTES, Live, plain_triton, running, title
from support.rollout import rollout_of, trusting, write_split

from quorum.deployment import load_deployment
from quorum.repository.history import History
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.offline import quarantine
from quorum.server.probe import probe_channel
from quorum.server.runfile import find_running
from quorum_client import Client
from quorum_client import ServerError as Refused
from quorum_contract import CANARY, STABLE

LONG = bool(os.environ.get("QUORUM_LONG"))
HALF = '{"schema_version": 1, "method": "maj'


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment with versions 1 to 4, promoted in order; 3 is the canary, 4 stable. To be copied."""
    folder = tmp_path_factory.mktemp("grown")
    with running(write_split(folder)) as live:
        rollout = rollout_of(live)
        for member in ("alpha", "beta", "gamma"):
            rollout.promote(rollout.publish(trusting(live.spec.catalogue().hashes, member)).version)
        rollout.canary(3)
    return folder


@pytest.fixture
def deploy(grown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown, tmp_path, dirs_exist_ok=True)) / "deploy.yaml"


@pytest.fixture
def live(deploy: Path) -> Iterator[Live]:
    with running(deploy) as live:
        yield live


def damage(store: Store, version: int) -> str:
    path = store.weights_path(version)
    text = path.read_text("utf-8")
    path.write_text(HALF, encoding="utf-8")
    return text


def versions(live: Live) -> tuple[int, int]:
    return probe_channel(live.spec, live.url, STABLE), probe_channel(live.spec, live.url, CANARY)


def new(live: Live, rollout: Rollout) -> int:
    return rollout.publish(trusting(live.spec.catalogue().hashes, "alpha")).version


def test_a_damaged_version_that_nobody_asks_is_dropped_by_the_next_publish(live: Live) -> None:
    rollout = rollout_of(live)
    damage(rollout.store, 2)
    with pytest.raises(
        RolloutError, match=r"version 2 is damaged on disk.*weights\.json.*publish its weights"
    ):
        rollout.promote(2)
    assert rollout.promote(3).before == 4
    assert versions(live) == (3, 3)
    assert new(live, rollout) == 5
    assert rollout.store.state().versions == (1, 3, 4, 5)
    assert not live.control.is_ready("quorum_vote", "2")
    assert versions(live) == (3, 3)


def test_a_damaged_version_of_a_channel_serves_on_until_another_is_promoted(
    live: Live,
) -> None:
    rollout = rollout_of(live)
    damage(rollout.store, 4)
    with pytest.raises(
        RolloutError, match=r"'quorum' answers with version 4, which is damaged.*Put the file back"
    ):
        new(live, rollout)
    with pytest.raises(RolloutError, match="damaged"):
        rollout.retire(1)
    # Loading a channel makes Triton look at the vote's files too: what is in memory must stay.
    assert rollout.canary(2).before == 3
    assert versions(live) == (4, 2)
    assert rollout.rollback().version == 3
    assert new(live, rollout) == 5
    assert rollout.store.state().versions == (1, 2, 3, 5)
    assert versions(live) == (3, 2)


@pytest.mark.parametrize("version", [2, 3, 4] if LONG else [3, 4])
def test_plain_tritonserver_starts_beside_a_damaged_version(deploy: Path, version: int) -> None:
    """No channel but one that is pinned to it is out, and that one says why."""
    store = Store(deploy.parent / "model_repository")
    pins, whole = store.state().pins, damage(store, version)
    with plain_triton(deploy) as again, Client(again.url) as client:
        for channel, pinned in pins.items():
            if pinned == version:
                with pytest.raises(Refused, match=rf"weights version {version} is damaged: .*weights\.json"):
                    client.extract(title(0), ATTRIBUTES, channel=channel)
            else:
                assert client.extract(title(0), ATTRIBUTES, channel=channel).weights_version == pinned
        store.weights_path(version).write_text(whole, encoding="utf-8")
        again.control.load("quorum_vote")
        assert versions(again) == (pins[STABLE], pins[CANARY])


@pytest.mark.parametrize(("version", "stable", "canary"), [(4, 3, 3), *[(2, 4, 3), (3, 4, 4)] * LONG])
def test_quorum_up_leaves_a_damaged_version_out(deploy: Path, version: int, stable: int, canary: int) -> None:
    store = Store(deploy.parent / "model_repository")
    damage(store, version)
    process = start(deploy.parent, "up")
    try:
        quorum(deploy.parent, "status", "--wait", "60")
        assert find_running(load_deployment(deploy))
        assert store.state().pins == {STABLE: stable, CANARY: canary}
        event = History(store.path).last()
        assert event is not None
        assert (event.action, event.version, event.outcome) == ("quarantine", version, "done")
        damage(store, 1)
        status = quorum_json(deploy.parent, "status")["versions"]["1"]
        assert status["state"] == "READY", "it serves on from memory"
        assert "weights.json" in status["damaged"]
        assert "version 1 is damaged on disk" in quorum(deploy.parent, "status")[1]
    finally:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert f"version {version} is damaged and left out" in err
    assert ("quorum goes to version 3" in err) == (version == 4)


def test_where_there_is_nothing_to_go_back_to_nothing_goes_live_by_itself(tmp_path: Path) -> None:
    deploy = write_split(tmp_path)
    with running(deploy) as live:
        new(live, rollout_of(live))
    store = Store(live.server.repository)
    damage(store, 1)
    assert quarantine(live.spec) == []
    assert store.state().pins == {STABLE: 1, CANARY: 1}
    _, err = quorum(tmp_path, "up", code=1)
    for words in ("version 1", "weights.json", "put the file back", "--reset-weights"):
        assert words in err
