# SPDX-License-Identifier: Apache-2.0
"""Members of runtime ``hf`` on a real server: answers are guided, new weights go live under load."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import yaml
from support.checkpoints import write_checkpoint
from support.deployment import Live, running

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights
from quorum.rollout.channels import Rollout
from quorum.server.probe import probe_channel
from quorum_client import Client
from quorum_contract import Status

MEMBERS = {"llama": "dynamic", "qwen": "continuous"}
FAMILIES = {"llama": "llama", "qwen": "qwen3"}
VALUES = {"color": ["red", "navy blue"], "gender": ["women", "men"]}
pytestmark = [
    pytest.mark.timeout(300),
    # Found without importing them, which takes seconds in every process that collects the tests.
    pytest.mark.skipif(
        not (find_spec("torch") and find_spec("transformers")),
        reason="PyTorch is not in the environment that serves: run `make setup-hf`",
    ),
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("hf")
    for seed, name in enumerate(MEMBERS):
        write_checkpoint(folder / name, FAMILIES[name], seed=seed)
    spec = {
        "members": [
            {
                "name": name,
                "runtime": "hf",
                "options": {"model": name, "device": "cpu", "batching": batching, "max_new_tokens": 64},
            }
            for name, batching in MEMBERS.items()
        ],
        "attributes": {name: {"values": values} for name, values in VALUES.items()},
        "server": {"grpc_port": 0, "http_port": 0, "metrics_port": 0},
    }
    (folder / "deploy.yaml").write_text(yaml.safe_dump(spec))
    with running(folder / "deploy.yaml") as live:
        yield live


def weights_of(live: Live, trusted: str) -> Weights:
    heavy = tuple(2.0 if name == trusted else 0.5 for name in MEMBERS)
    return Weights("majority", tuple(MEMBERS), Parameters(heavy), catalogue=live.spec.catalogue().hashes)


def test_every_member_answers_within_the_catalogue(live: Live) -> None:
    for number in range(4):
        reply = live.ask(f"shoe number {number}", list(VALUES), "shoes")
        for member in MEMBERS:
            for (value, status), values in zip(reply.votes[member], VALUES.values(), strict=True):
                assert status == Status.ANSWERED
                assert value in [*values, "n/a"]


def test_new_weights_go_live_while_llms_answer(live: Live) -> None:
    rollout = Rollout(live.spec, live.control, lambda channel: probe_channel(live.spec, live.url, channel))
    stop, versions = threading.Event(), Counter[int]()
    failures: list[Exception] = []

    def caller(number: int) -> None:
        with Client(live.url, retries=False, timeout_s=60) as client:
            while not stop.is_set():
                try:
                    found = client.extract(f"caller {number} wants shoes", list(VALUES))
                except Exception as error:
                    failures.append(error)
                    return
                versions[found.weights_version] += 1
                stop.wait(0.1)
                for answer in found.answers:
                    assert {vote.member for vote in answer.votes} == set(MEMBERS)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for member in MEMBERS:
            published = rollout.publish(weights_of(live, member)).version
            rollout.promote(published)
            answered = live.ask("one more", list(VALUES))
            assert answered.version == published
            assert answered.values == [value for value, _ in answered.votes[member]]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert sum(versions.values()) > len(threads)
