# SPDX-License-Identifier: Apache-2.0
"""A canary from share to verdict, on a real server: sticky routing, fall-back, evidence, rules."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from support.command import quorum, quorum_json, up
from support.deployment import ATTRIBUTES, Live, running, table, title, write_deployment, write_jsonl
from support.gateway import SERVICE, gated
from support.raw import bytes_tensor, grpc_request
from tritonclient.grpc import service_pb2 as pb

from quorum.decision import weights as weights_file
from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.gateway.keys import add_caller
from quorum.gateway.routing import PRODUCT_ID_HEADER
from quorum.repository.store import Store
from quorum.rollout.channels import Rollout, RolloutError
from quorum.server.probe import probe_channel
from quorum.server.triton import GRPC_ADMIN_HEADER
from quorum.serving.admission import admission_of
from quorum_client import AsyncClient, Client, Disconnected, Item, QuorumError, takes_canary

ROOT = Path(__file__).parents[2]
LISTINGS = ROOT / "examples" / "demo" / "listings.jsonl"
SHARE = 0.05
PRODUCTS = 420
IDS = [f"sku-{i}" for i in range(300)]
LONG = bool(os.environ.get("QUORUM_LONG"))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(write_deployment(tmp_path_factory.mktemp("canary"), {"alpha": {}, "beta": {}})) as live:
        yield live


@pytest.fixture
def rollout(live: Live) -> Iterator[Rollout]:
    """With version 2 on the canary, for a share of the products."""
    rollout = Rollout(live.spec, live.control, lambda channel: probe_channel(live.spec, live.url, channel))
    weights = Weights("majority", ("alpha", "beta"), Parameters((1.0, 2.0)))
    assert rollout.publish(weights).version == 2
    rollout.canary(2, SHARE)
    yield rollout
    rollout.end_canary()


def test_the_share_reaches_clients_and_sticks(live: Live, rollout: Rollout) -> None:
    items = [Item(title(i % 24), ["brand"], product_id=name) for i, name in enumerate(IDS)]
    with Client(live.url, canary_share="served") as client:
        first = [found.channel for found in client.extract_many(items, concurrency=16)]

    async def again() -> list[tuple[str, int]]:
        async with AsyncClient(live.url, canary_share="served") as client:
            return [(f.channel, f.weights_version) async for f in client.extract_many(items)]

    second = asyncio.run(again())
    assert first == [channel for channel, _ in second]
    assert first == ["quorum_canary" if takes_canary(name, SHARE) else "quorum" for name in IDS]
    assert set(second) == {("quorum", 1), ("quorum_canary", 2)}
    spread = (len(IDS) * SHARE * (1 - SHARE)) ** 0.5
    assert abs(first.count("quorum_canary") - len(IDS) * SHARE) <= 4 * spread


def test_a_gateway_routes_callers_that_know_nothing_of_it(
    live: Live, rollout: Rollout, tmp_path: Path
) -> None:
    """By the id in the header, else by the text, to the channels that our client would choose."""
    key = add_caller(tmp_path / "keys.json", "shop")
    texts = [f"shoe {number}" for number in range(120)]
    by_header = [(title(0), [(PRODUCT_ID_HEADER, name)], name) for name in IDS[:120]]
    asked = [*by_header, *((text, [], text) for text in texts)]
    with gated(live, tmp_path) as gateway, grpc.insecure_channel(gateway.url) as channel:
        send = channel.unary_unary(f"{SERVICE}ModelInfer")
        found = []
        # The first answer tells the share.
        for text, headers, _ in [(title(0), [], ""), *asked]:
            message = grpc_request("quorum", bytes_tensor([text.encode()]), [b"brand"]).SerializeToString()
            sent = [("authorization", f"Bearer {key}"), *headers]
            found.append(
                pb.ModelInferResponse.FromString(send(message, timeout=60, metadata=sent)).model_name
            )
        expected = ["quorum_canary" if takes_canary(name, SHARE) else "quorum" for *_, name in asked]
        assert set(expected) == {"quorum", "quorum_canary"}
        assert found[1:] == expected
        with gateway.client(key) as client:
            items = [Item(title(0), ["brand"], product_id=name) for name in IDS[:120]]
            answers = list(client.extract_many(items))
        assert {answer.weights_version for answer in answers} == {1}, "our own client chose the stable one"


def test_taking_the_share_back_reaches_clients_with_their_next_answer(live: Live, rollout: Rollout) -> None:
    name = next(name for name in IDS if takes_canary(name, SHARE))
    with Client(live.url, canary_share="served") as client:
        assert client.extract(title(0), ["brand"], product_id=name).weights_version == 2
        rollout.end_canary()
        assert rollout.store.state().canary_share == 0
        # This one still goes the old way; the channel answers with stable's weights by now.
        assert client.extract(title(0), ["brand"], product_id=name).weights_version == 1
        assert client.extract(title(0), ["brand"], product_id=name).channel == "quorum"


def test_changing_the_share_under_load_fails_nobody(live: Live, rollout: Rollout) -> None:
    over, answers, failures = threading.Event(), [], []

    def call(number: int) -> None:
        with Client(live.url, canary_share="served", retries=False) as client:
            while not over.is_set():
                number += 1
                try:
                    answers.append(
                        client.extract(title(number % 24), ["brand"], product_id=IDS[number % len(IDS)])
                    )
                except QuorumError as error:
                    failures.append(error)
                over.wait(0.02)

    callers = [threading.Thread(target=call, args=(100 * i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    try:
        for share in (0.5, 0.1, 1.0, 0.0, 0.3, SHARE):
            rollout.canary(2, share)
    finally:
        over.set()
        for caller in callers:
            caller.join()
    assert failures == []
    assert {found.fallback_from for found in answers} == {None}
    assert {(found.channel, found.weights_version) for found in answers} == {
        ("quorum", 1),
        ("quorum_canary", 2),
    }


def test_a_canary_that_goes_on_is_named(live: Live, rollout: Rollout) -> None:
    """Who rolls back because version 2 is bad wants to know that some products still get it."""
    assert rollout.promote(2).canary is None
    assert rollout.rollback().canary == 2
    rollout.end_canary()
    assert rollout.promote(2).canary is None
    assert rollout.rollback().canary is None


class GateFails:
    """The server, but for the gate's first load."""

    def __init__(self, server: Any) -> None:
        self._server, self.failed = server, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def load(self, model: str) -> None:
        if model == "quorum_gate" and not self.failed:
            self.failed = True
            raise OSError("the gate did not load")
        self._server.load(model)


def test_a_share_is_undone_with_its_change(live: Live, rollout: Rollout) -> None:
    server = GateFails(live.control)
    failing = Rollout(live.spec, server, lambda channel: probe_channel(live.spec, live.url, channel))
    with pytest.raises(RolloutError, match="undone: the gate did not load"):
        failing.canary(2, 0.5)
    assert server.failed
    assert rollout.store.state().canary_share == SHARE
    assert rollout.store.state().pins["quorum_canary"] == 2
    assert probe_channel(live.spec, live.url, "quorum_canary") == 2


def test_a_missing_canary_falls_back_and_says_so(live: Live, rollout: Rollout) -> None:
    key = ((GRPC_ADMIN_HEADER, live.endpoint.admin_key),)
    live.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="quorum_canary"), metadata=key)
    try:
        with Client(live.url, canary_share="served") as client:
            items = [Item(title(0), ["brand"], product_id=name) for name in IDS[:200]]
            found = list(client.extract_many(items))
    finally:
        live.control.load("quorum_canary")
    assert {f.channel for f in found} == {"quorum"}
    fell = {name for name, f in zip(IDS, found, strict=False) if f.fallback_from == "quorum_canary"}
    assert fell == {name for name in IDS[:200] if takes_canary(name, SHARE)} != set()


def test_a_server_that_is_killed_under_a_call_is_not_asked_again(tmp_path: Path) -> None:
    slow = {"options": {"latency_ms": 60_000, "latency_shape": "constant"}}
    with running(write_deployment(tmp_path, {"alpha": slow})) as live:
        pid = live.server.pid
        assert pid
        admission = admission_of(pid)

        def kill() -> None:
            while not admission.inside(time.monotonic_ns()):
                time.sleep(0.005)
            # All of it: a model's process that lives on would keep the connection open.
            os.killpg(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with Client(live.url) as client, pytest.raises(Disconnected, match="members may have been asked"):
            client.extract(title(0), ATTRIBUTES)
        killer.join()


@dataclass
class Served:
    """A deployment behind ``quorum up``, and what its users type."""

    folder: Path

    def json(self, *arguments: str | Path, **how: Any) -> Any:
        return quorum_json(self.folder, *arguments, **how)

    def publish_trust(self, member: str, name: str) -> str:
        """Publish weights by which one member alone decides; their version."""
        names = load_deployment(self.folder / "deploy.yaml").member_names
        heavy = tuple(5.0 if m == member else 1.0 for m in names)
        weights = Weights("majority", tuple(names), Parameters(heavy), settings={"for": name})
        weights_file.dump(weights, self.folder / f"{name}.json")
        return str(self.json("publish", f"{name}.json")["version"])


@pytest.fixture
def replayed(request: pytest.FixtureRequest) -> Served:
    """Members that answer from a table; in the long form the demo's LLMs."""
    served: Served = request.getfixturevalue("demo" if LONG else "voters")
    return served


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The demo's LLMs."""
    folder = tmp_path_factory.mktemp("demo")
    data = yaml.safe_load((ROOT / "deploy.yaml").read_text("utf-8"))
    for member in data["members"]:
        member["options"]["model"] = str(ROOT / member["options"]["model"])
    data["server"] = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    (folder / "deploy.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    with up(folder):
        yield Served(folder)


@pytest.fixture(scope="module")
def voters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three members, of which alpha alone is clearly worse than all together, and listings with gold."""
    folder = tmp_path_factory.mktemp("voters")
    rows = table(["alpha", "beta", "gamma"], PRODUCTS)
    write_deployment(
        folder,
        {name: {} for name in ("alpha", "beta", "gamma")},
        rows=rows,
        rollout={"canary": {"min_products": 150, "max_worse": 0.01, "max_latency_ratio": 5}},
    )
    gold: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        gold.setdefault(row["product"], {})[row["attribute"]] = row["gold"]
    listings = [
        {
            "product": row["product"],
            "title": row["title"],
            "category": row["category"],
            "gold": gold[row["product"]],
        }
        for row in rows[:: len(ATTRIBUTES)]
    ]
    write_jsonl(folder / "listings.jsonl", listings)
    with up(folder):
        yield Served(folder)


def test_evidence_promotes_what_is_better_and_ends_what_is_worse(voters: Served) -> None:
    votes = voters.folder / "seen.jsonl"
    worse = voters.publish_trust("alpha", "worse")
    voters.json("canary", worse, "--share", "20%")
    assert voters.json("status")["canary_share"] == 0.2
    done = voters.json("extract", "listings.jsonl", "--votes", votes, "--canary-share", "served")
    rows = [json.loads(line) for line in votes.read_text("utf-8").splitlines()]
    routed = {row["product"]: row["channel"] for row in rows}
    assert {p for p, c in routed.items() if c == "quorum_canary"} == {
        p for p in routed if takes_canary(p, 0.2)
    }
    assert done["channels"] == {c: list(routed.values()).count(c) for c in ("quorum", "quorum_canary")}
    assert {(row["channel"], row["weights_version"]) for row in rows} == {
        ("quorum", 1),
        ("quorum_canary", int(worse)),
    }

    found = voters.json("canary", "report", votes)
    assert found["accuracy"]["delta"]["high"] < 0
    assert found["verdict"]["action"] == "roll back"
    assert found["done"] is None
    assert found["latency"]["stable_p50"] > 0
    assert found["products"] == len(routed)
    assert sum(c["worse"] for c in found["top"]) > sum(c["better"] for c in found["top"])
    out, err = quorum(voters.folder, "canary", "report", votes)
    assert "roll back" in err
    assert "decided differently" in out

    asked = voters.json("canary", "report", votes, "--auto-promote", code=4)
    assert asked["done"] is None, "not allowed to end it"
    ended = voters.json("canary", "report", votes, "--auto-rollback", code=4)
    assert ended["done"] == "rolled back"
    status = voters.json("status")
    assert [c["version"] for c in status["channels"].values()] == [1, 1]
    assert status["canary_share"] == 0
    last = voters.json("history")[-1]
    assert (last["action"], last["version"], last["before"]) == ("canary", 1, int(worse))
    assert "worse" in last["reason"]

    # The other way round the same evidence speaks for the canary.
    voters.json("promote", worse)
    voters.json("canary", "1", "--share", "20%")
    few = voters.folder / "few.jsonl"
    few.write_text(
        "".join(votes.read_text("utf-8").splitlines(keepends=True)[: len(ATTRIBUTES) * 40]), encoding="utf-8"
    )
    waiting = voters.json("canary", "report", few, "--auto-promote", "--auto-rollback", code=3)
    assert waiting["verdict"]["action"] == "keep watching"
    assert waiting["verdict"]["more_products"] == 150 - waiting["gold_products"]
    better = voters.json("canary", "report", votes, "--auto-promote", "--auto-rollback")
    assert better["done"] == "promoted"
    assert better["accuracy"]["delta"]["low"] > 0
    status = voters.json("status")
    assert [c["version"] for c in status["channels"].values()] == [1, 1]
    assert status["canary_share"] == 0
    assert [e["action"] for e in voters.json("history")[-2:]] == ["promote", "canary"]
    _, err = quorum(voters.folder, "canary", "report", votes, code=1)
    assert "begin one with" in err


def flat(figures: Any) -> list[float]:
    if isinstance(figures, dict):
        return [number for key in sorted(figures) for number in flat(figures[key])]
    return [figures]


def test_a_replay_finds_what_recorded_votes_find(replayed: Served) -> None:
    version = replayed.publish_trust("demo-qwen3" if LONG else "alpha", "replayed")
    replayed.json("canary", version)
    assert replayed.json("status")["canary_share"] == 0, "no share unless it is asked for"
    source, listings = (
        LISTINGS if LONG else replayed.folder / "listings.jsonl",
        replayed.folder / "some.jsonl",
    )
    listings.write_text("".join(source.read_text("utf-8").splitlines(keepends=True)[:6]), encoding="utf-8")
    asked = replayed.json("canary", "report", "--replay", listings)
    replayed.json("extract", listings, "--votes", "some-votes.jsonl")
    recorded = replayed.json("canary", "report", "some-votes.jsonl")
    for key in ("products", "cells", "gold_labels", "changed", "agreement", "accuracy"):
        assert flat(asked[key]) == pytest.approx(flat(recorded[key])), key
    assert (asked["asked"], asked["failed"]) == (6, 0)
    assert asked["latency"]["ratio"]["low"] < asked["latency"]["ratio"]["high"]
    assert Store(replayed.folder / "model_repository").state().pins["quorum_canary"] == int(version)
    replayed.json("canary", "off")


def test_what_cannot_be_a_share(voters: Served) -> None:
    for share in ("5", "-1%", "101%", "some"):
        _, err = quorum(voters.folder, "canary", "1", "--share", share, code=1)
        assert "such as 5% or 0.05" in err
