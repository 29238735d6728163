# SPDX-License-Identifier: Apache-2.0
"""New weights on a real server under load: nobody notices but by the version, and nothing broken gets in."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.deployment import ATTRIBUTES, Live, running, title
from support.rollout import MEMBERS, rollout_of, trusting, write_split

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, WeightsError
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.server.probe import probe_channel
from quorum_client import AsyncClient, Client

CLIENTS, PAUSE_S = 8, 0.03


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("rollout"))


@pytest.fixture(scope="module")
def live(deploy: Path) -> Iterator[Live]:
    with running(deploy) as live:
        yield live


@pytest.fixture
def rollout(live: Live) -> Rollout:
    return rollout_of(live)


def new_weights(live: Live, member: str) -> Weights:
    return trusting(live.spec.catalogue().hashes, member)


@dataclass
class Load:
    """What came back while the load ran: (sent, answered, version, values), and what failed."""

    answers: list[tuple[float, float, int, list[str | None]]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def wait_for(self, more: int) -> None:
        wanted = len(self.answers) + more
        while len(self.answers) < wanted and not self.failures:
            time.sleep(0.005)


@contextmanager
def under_load(url: str, channel: str) -> Iterator[Load]:
    load, stop = Load(), threading.Event()

    async def caller(number: int) -> None:
        async with AsyncClient(url, channel=channel, retries=False, timeout_s=30) as client:
            turn = number
            while not stop.is_set():
                turn += 1
                sent = time.monotonic()
                try:
                    found = await client.extract(title(turn % 24), ATTRIBUTES)
                except Exception as error:
                    load.failures.append(error)
                    return
                values = [answer.value for answer in found.answers]
                load.answers.append((sent, time.monotonic(), found.weights_version, values))
                await asyncio.sleep(PAUSE_S)

    async def everybody() -> None:
        await asyncio.gather(*map(caller, range(CLIENTS)))

    thread = threading.Thread(target=lambda: asyncio.run(everybody()))
    thread.start()
    try:
        load.wait_for(CLIENTS)
        yield load
        load.wait_for(CLIENTS * 4)
    finally:
        stop.set()
        thread.join()


@dataclass
class Pins:
    """When a channel was told to answer with which version; a change is open from its call to its return."""

    spans: list[tuple[float, float, int]] = field(default_factory=list)

    def change(self, action: Any, version: int) -> None:
        start = time.monotonic()
        action()
        now = time.monotonic()
        if self.spans:
            first, _, old = self.spans[-1]
            self.spans[-1] = (first, now, old)
        self.spans.append((start, float("inf"), version))

    def allowed(self, sent: float, answered: float) -> set[int]:
        return {version for start, end, version in self.spans if start <= answered and sent <= end}


def test_redeploying_under_load_fails_nobody(live: Live, rollout: Rollout) -> None:
    decider = {1: "alpha"}
    pins, canary_pins = Pins(), Pins()
    pins.change(lambda: None, 1)
    canary_pins.change(lambda: None, 1)
    with under_load(live.url, "quorum") as stable, under_load(live.url, "quorum_canary") as canary:
        for member in ("beta", "gamma", "alpha"):
            before = rollout.store.state().pins["quorum"]
            version = rollout.publish(new_weights(live, member)).version
            decider[version] = member
            stable.wait_for(CLIENTS)
            canary_pins.change(lambda v=version: rollout.canary(v), version)
            canary.wait_for(CLIENTS)
            pins.change(lambda v=version: rollout.promote(v), version)
            stable.wait_for(CLIENTS)
            pins.change(rollout.rollback, before)
            stable.wait_for(CLIENTS)
            pins.change(lambda v=version: rollout.promote(v), version)
            stable.wait_for(CLIENTS)
    for load, spans in ((stable, pins), (canary, canary_pins)):
        assert load.failures == []
        for sent, answered, version, values in load.answers:
            assert version in spans.allowed(sent, answered)
            assert values == [f"{decider[version]}'s"] * len(ATTRIBUTES)
        assert Counter(version for *_, version, _ in load.answers).keys() == decider.keys()
    actions = [event.action for event in rollout.history.events()]
    assert actions == ["render", *["publish", "canary", "promote", "rollback", "promote"] * 3]
    assert {event.outcome for event in rollout.history.events()} == {"done"}


def test_weights_of_another_deployment_are_refused(live: Live, rollout: Rollout) -> None:
    before = snapshot(live)
    other = Weights("majority", ("alpha", "beta"), Parameters((1.0, 1.0)))
    with pytest.raises(WeightsError, match="members"):
        rollout.publish(other)
    stale = Weights("majority", MEMBERS, Parameters((1.0,) * 3), catalogue="sha256:x", schema_version=1)
    with pytest.raises(WeightsError, match="catalogue"):
        rollout.publish(stale)
    assert snapshot(live) == before


def test_weights_of_an_earlier_catalogue_serve_without_being_learned_again(
    live: Live, rollout: Rollout
) -> None:
    """color has changed since, size is new: both go by the weights of all attributes, brand by its own."""
    known = live.spec.catalogue().hashes
    beta, gamma = (trusting(known, member).default for member in ("beta", "gamma"))
    earlier = {"": known[""], "brand": known["brand"], "color": "sha256:earlier"}
    weights = Weights("majority", MEMBERS, beta, {"brand": gamma, "color": gamma}, catalogue=earlier)
    before = rollout.store.state().pins["quorum"]
    rollout.promote(rollout.publish(weights).version)
    try:
        with Client(live.url) as client:
            answers = client.extract(title(1), ATTRIBUTES).answers
        assert {a.attribute: a.value for a in answers} == {
            "brand": "gamma's",
            "color": "beta's",
            "size": "beta's",
        }
    finally:
        rollout.promote(before)


def snapshot(live: Live) -> dict[str, bytes]:
    """Every file of the repository but the log of what was tried."""
    root = live.server.repository
    files = (p for p in root.rglob("*") if p.is_file() and p.name not in ("rollout.jsonl", ".rollout.lock"))
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def test_weights_that_break_on_the_way_are_refused_and_the_old_serve_on(
    live: Live, rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = snapshot(live), probe_channel(live.spec, live.url, "quorum")
    add_version = Store.add_version

    def add_cut_off(store: Store, number: int, weights: Weights) -> None:
        add_version(store, number, weights)
        path = store.weights_path(number)
        path.write_text(path.read_text("utf-8")[:-40], encoding="utf-8")

    monkeypatch.setattr(Store, "add_version", add_cut_off)
    with under_load(live.url, "quorum") as load:
        with pytest.raises(RolloutError, match="undone"):
            rollout.publish(new_weights(live, "beta"))
        load.wait_for(CLIENTS)
    monkeypatch.undo()
    assert load.failures == []
    assert {v for *_, v, _ in load.answers} == {version}
    assert snapshot(live) == before
    assert list(rollout.history.events())[-1].outcome.startswith("undone")
    assert rollout.promote(rollout.publish(new_weights(live, "beta")).version).before == version


def test_a_damaged_folder_of_a_version_is_not_served(live: Live, rollout: Rollout) -> None:
    """Somebody copies a folder in by hand: neither a publish nor a promotion is misled by it."""
    version = max(rollout.store.versions_on_disk()) + 1
    damaged = rollout.store.path / "quorum_vote" / str(version)
    damaged.mkdir()
    (damaged / "weights.json").write_text("{", encoding="utf-8")
    with pytest.raises(RolloutError, match=f"version {version} is not loaded"):
        rollout.promote(version)
    published = rollout.publish(new_weights(live, "gamma")).version
    assert published == version + 1
    assert live.control.is_ready("quorum_vote", str(published))
    shutil.rmtree(damaged)


def test_publishing_again_says_whether_callers_are_answered_with_it(live: Live, rollout: Rollout) -> None:
    weights = new_weights(live, "alpha")
    version = rollout.publish(weights).version
    again = rollout.publish(weights)
    assert (again.version, again.already, again.answers) == (version, True, False)
    rollout.promote(version)
    assert rollout.publish(weights).answers


def test_every_channel_survives_a_reload_of_its_own_config(live: Live, rollout: Rollout) -> None:
    pinned = rollout.store.state().pins["quorum"]
    assert rollout.promote(pinned).already
    live.control.load("quorum")
    assert probe_channel(live.spec, live.url, "quorum") == pinned


def test_a_restarted_server_serves_what_was_promoted_last(live: Live, rollout: Rollout, deploy: Path) -> None:
    version = rollout.promote(rollout.publish(new_weights(live, "gamma")).version).version
    canary = rollout.store.state().pins["quorum_canary"]
    assert canary != version
    live.server.stop()
    with running(deploy) as again, Client(again.url) as client:
        found = client.extract(title(0), ATTRIBUTES)
        assert found.weights_version == version
        assert {answer.value for answer in found.answers} == {"gamma's"}
        assert client.extract(title(0), ATTRIBUTES, channel="quorum_canary").weights_version == canary
