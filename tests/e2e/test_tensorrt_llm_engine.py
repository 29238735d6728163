# SPDX-License-Identifier: Apache-2.0
"""A member before a compiled engine on a real server; a stand-in takes the C++ backend's place."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import standin
from support.deployment import ROOT_ATTRIBUTES, Live, running
from support.raw import bytes_tensor
from support.wire import Reply, grpc_reply

from quorum_contract import Status

TEXT = "Velmora trail running shoes, navy, size 42, for men"
ASKED = ("color", "size", "gender")
FURTHER_END = 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    standin.copy_model("demo-llama", folder / "checkpoint")
    config = folder / "checkpoint" / "generation_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token_id": [0, FURTHER_END]}))
    engine = standin.copy_model("demo-llama", folder / "engine")
    (engine / "xgrammar_tokenizer_info.json").write_text("{}")
    (engine / "lora" / "1").mkdir(parents=True)
    (folder / "votes.jsonl").write_text(
        "".join(
            json.dumps({"category": "", "title": TEXT, "attribute": name, "votes": {"steady": "n/a"}}) + "\n"
            for name in ASKED
        )
    )
    return folder


@pytest.fixture(scope="module")
def live(place: Path) -> Iterator[Live]:
    engine = {"engine": "engine", "model": "checkpoint", "max_batch_size": 64, "max_tokens": 128}
    spec = {
        "members": [
            {"name": "compiled", "runtime": "engine", "prompt": "bare", "timeout_s": 20, "options": engine},
            {"name": "steady", "runtime": "replay", "options": {"votes": "votes.jsonl"}},
        ],
        "attributes": ROOT_ATTRIBUTES,
        "server": {"grpc_port": 0, "http_port": 0, "metrics_port": 0},
    }
    spec["members"][0]["options"]["lora"] = {"name": "shop", "path": "adapter", "rank": 8}
    (place / "deploy.yaml").write_text(yaml.safe_dump(spec, allow_unicode=True, sort_keys=False))
    with running(place / "deploy.yaml", install=standin.install(place / "python")) as live:
        yield live


@pytest.fixture(autouse=True)
def _behaving(place: Path) -> Iterator[None]:
    yield
    standin.set_fault(place / "engine")


def statuses(reply: Reply, member: str) -> set[int]:
    return {status for _, status in reply.votes[member]}


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)


def test_the_engine_answers_under_guidance(live: Live, place: Path) -> None:
    reply = live.ask(TEXT, ASKED)
    assert statuses(reply, "compiled") == statuses(reply, "steady") == {Status.ANSWERED}
    (color, _), (size, _), (gender, _) = reply.votes["compiled"]
    assert (size, gender) == ("42", "men")
    assert color in {*ROOT_ATTRIBUTES["color"]["values"], "n/a"}
    asked = standin.events(place / "engine", "generate")[-1]
    assert asked["prompt"] == f"{', '.join(ASKED)}\n\n{TEXT}\n"
    assert asked["stop_token_ids"] == [FURTHER_END]


def test_an_engine_that_fails_is_an_abstention(live: Live, place: Path) -> None:
    standin.set_fault(place / "engine", generate="[TensorRT-LLM][ERROR] Assertion failed")
    reply = live.ask(TEXT, ASKED)
    assert statuses(reply, "compiled") == {Status.ERROR}
    assert statuses(reply, "steady") == {Status.ANSWERED}


def test_more_questions_than_calls_are_answered(live: Live) -> None:
    futures = [live.ask_raw(bytes_tensor([f"{TEXT} number {i}".encode()]), ASKED) for i in range(60)]
    for future in futures:
        assert statuses(grpc_reply(future.result()), "compiled") == {Status.ANSWERED}


def test_deadlines_stop_generations_however_many_hang(live: Live, place: Path) -> None:
    """Calls that hang for good would take the member with them at about thirty."""
    standin.set_fault(place / "engine", hang=True)
    before = len(standin.events(place / "engine", "cancelled"))
    futures = [
        live.ask_raw(bytes_tensor([TEXT.encode()]), ASKED, server_timeout_us=4_000_000) for _ in range(60)
    ]
    for future in futures:
        reply = grpc_reply(future.result())
        assert statuses(reply, "compiled") == {Status.TIMEOUT}
        assert statuses(reply, "steady") == {Status.ANSWERED}
    wait_until(lambda: len(standin.events(place / "engine", "cancelled")) > before)
    standin.set_fault(place / "engine")
    wait_until(lambda: statuses(live.ask(TEXT, ASKED), "compiled") == {Status.ANSWERED})
