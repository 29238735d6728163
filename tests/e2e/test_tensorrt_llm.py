# SPDX-License-Identifier: Apache-2.0
"""The runtime for TensorRT-LLM on a real server, with a stand-in for the library that has real tokens."""

from __future__ import annotations

import asyncio
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

from quorum.repository.store import Store
from quorum.runtimes.tensorrt_llm import checkpoint_kv_bytes
from quorum.server.control import ControlError
from quorum.server.reload import revive
from quorum_client import AsyncClient
from quorum_contract import Status

TEXT = "Velmora trail running shoes, navy, size 42, for men"
ASKED = ("color", "size", "gender")
SHARED = "quorum_shared_plain"
TOGETHER = 48
"""Questions of two members that share an LLM, in flight at once."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trtllm")
    standin.copy_model("demo-llama", folder / "llama")
    standin.copy_model("demo-qwen2", folder / "qwen2")
    standin.write_adapter(folder / "adapter", rank=16)
    return folder


@pytest.fixture(scope="module")
def live(place: Path) -> Iterator[Live]:
    """`plain` and `tuned` share one LLM, `tuned` with an adapter; `other` has one of its own."""
    llama = {"model": "llama", "kv_cache_gib": 1.5, "max_batch_size": 32, "max_seq_len": 512}
    members = [
        {"name": "plain", "options": llama},
        {
            "name": "tuned",
            "options": {**llama, "lora": {"name": "shop", "path": "adapter"}, "max_tokens": 128},
        },
        {"name": "other", "options": {"model": "qwen2", "kv_cache_fraction": 0.3, "max_seq_len": 512}},
    ]
    spec = {
        "members": [{"runtime": "tensorrt_llm", "prompt": "bare", "timeout_s": 20, **m} for m in members],
        "attributes": ROOT_ATTRIBUTES,
        "server": {"grpc_port": 0, "http_port": 0, "metrics_port": 0},
    }
    deploy = place / "deploy.yaml"
    deploy.write_text(yaml.safe_dump(spec, allow_unicode=True, sort_keys=False), encoding="utf-8")
    with running(deploy, install=standin.install(place / "python")) as live:
        yield live


@pytest.fixture(autouse=True)
def _behaving(place: Path) -> Iterator[None]:
    yield
    for model in ("llama", "qwen2"):
        standin.set_fault(place / model)


def statuses(reply: Reply, member: str) -> set[int]:
    return {status for _, status in reply.votes[member]}


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)


def test_every_member_answers_with_its_own_adapter(live: Live, place: Path) -> None:
    before = len(standin.events(place / "llama", "generate"))
    reply = live.ask(TEXT, ASKED, "shoes")
    assert reply.members == ["plain", "tuned", "other"]
    assert all(statuses(reply, member) == {Status.ANSWERED} for member in reply.members)
    assert reply.values[1:] == ["42", "men"]
    asked = standin.events(place / "llama", "generate")[before:]
    assert sorted(str(one["lora"]) for one in asked) == ["None", "shop"]
    assert {one["prompt"] for one in asked} == {f"{', '.join(ASKED)}\nshoes\n{TEXT}\n"}


def test_members_on_one_base_share_its_memory(live: Live, place: Path) -> None:
    (made,) = standin.events(place / "llama", "construct")
    said = made["arguments"]
    assert said["max_batch_size"] == 32
    assert said["kv_cache_config"]["max_gpu_total_bytes"] == 1.5 * 2**30
    per_token = checkpoint_kv_bytes(str(place / "llama"), 1)
    assert said["kv_cache_config"]["max_tokens"] == int(1.5 * 2**30) // per_token
    assert said["guided_decoding_backend"] == "xgrammar"
    assert said["lora_config"]["max_lora_rank"] == 16
    assert said["lora_config"]["lora_target_modules"] == ["attn_k", "attn_q", "attn_v"]
    assert "lora_config" not in standin.events(place / "qwen2", "construct")[0]["arguments"]
    assert {state.name for state in live.control.index()} >= {SHARED, "other"}


def test_closed_attributes_are_answered_from_their_values(live: Live) -> None:
    reply = live.ask("completely unrelated words without any product in them", ASKED, "")
    colors = {*ROOT_ATTRIBUTES["color"]["values"], "n/a"}
    genders = {*ROOT_ATTRIBUTES["gender"]["values"], "n/a"}
    for member in reply.members:
        (color, _), _, (gender, _) = reply.votes[member]
        assert color in colors
        assert gender in genders


def test_questions_are_in_flight_together(live: Live, place: Path) -> None:
    texts = [f"{TEXT} number {i}" for i in range(TOGETHER // 2)]
    before = len(standin.events(place / "llama", "generate"))
    # The LLM takes questions but answers none until all are in, however slow the machine is.
    standin.set_fault(place / "llama", hang=True)
    futures = [live.ask_raw(bytes_tensor([text.encode()]), ASKED, "shoes") for text in texts]
    wait_until(lambda: len(standin.events(place / "llama", "generate")) == before + TOGETHER)
    standin.set_fault(place / "llama")
    for future in futures:
        reply = grpc_reply(future.result())
        assert all(statuses(reply, member) == {Status.ANSWERED} for member in reply.members)
    # The largest batch is told at the end; see the last test of this file.


def test_a_deadline_cancels_the_generation(live: Live, place: Path) -> None:
    standin.set_fault(place / "qwen2", hang=True)
    aborted = len(standin.events(place / "qwen2", "abort"))
    reply = live.ask(TEXT, ASKED, "shoes", server_timeout_us=4_000_000)
    assert statuses(reply, "other") == {Status.TIMEOUT}
    assert statuses(reply, "plain") == statuses(reply, "tuned") == {Status.ANSWERED}
    assert reply.values[1:] == ["42", "men"]
    wait_until(lambda: len(standin.events(place / "qwen2", "abort")) > aborted)
    stopped = standin.events(place / "qwen2", "abort")[-1]["id"]
    wait_until(lambda: stopped in {one["id"] for one in standin.events(place / "qwen2", "cancelled")})
    standin.set_fault(place / "qwen2")
    assert statuses(live.ask(TEXT, ASKED, "shoes"), "other") == {Status.ANSWERED}


def test_a_cancelled_request_cancels_its_generations(live: Live, place: Path) -> None:
    standin.set_fault(place / "llama", hang=True)
    begun = len(standin.events(place / "llama", "generate"))
    before = {kind: len(standin.events(place / "llama", kind)) for kind in ("abort", "cancelled")}

    async def give_up() -> None:
        async with AsyncClient(live.url) as client:
            asking = asyncio.create_task(client.extract(TEXT, ASKED))
            await asyncio.to_thread(
                wait_until, lambda: len(standin.events(place / "llama", "generate")) == begun + 2
            )
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(give_up())
    for kind, count in before.items():
        wait_until(lambda kind=kind, count=count: len(standin.events(place / "llama", kind)) == count + 2)
    standin.set_fault(place / "llama")
    assert statuses(live.ask(TEXT, ASKED, "shoes"), "plain") == {Status.ANSWERED}
    assert {kind: len(standin.events(place / "llama", kind)) - 2 for kind in before} == before


def test_a_generation_that_raises_is_an_abstention(live: Live, place: Path) -> None:
    standin.set_fault(place / "llama", generate="CUDA error: an illegal memory access was encountered")
    reply = live.ask(TEXT, ASKED, "shoes")
    assert statuses(reply, "plain") == statuses(reply, "tuned") == {Status.ERROR}
    assert statuses(reply, "other") == {Status.ANSWERED}
    standin.set_fault(place / "llama")
    assert statuses(live.ask(TEXT, ASKED, "shoes"), "plain") == {Status.ANSWERED}


def test_a_prompt_that_is_too_long_is_an_abstention(live: Live) -> None:
    reply = live.ask("word " * 600, ASKED, "shoes")
    assert all(statuses(reply, member) == {Status.ERROR} for member in reply.members)
    assert reply.values == ["", "", ""]


def test_an_llm_that_cannot_be_made_leaves_the_old_one_serving(live: Live, place: Path) -> None:
    store = Store(live.spec.repository_path)
    standin.set_fault(place / "qwen2", construct="CUDA out of memory")
    with pytest.raises(ControlError, match="CUDA out of memory"):
        revive(live.control, store, "other")
    assert statuses(live.ask(TEXT, ASKED, "shoes"), "other") == {Status.ANSWERED}


def test_a_redeployed_member_is_a_new_llm(live: Live, place: Path) -> None:
    made = len(standin.events(place / "llama", "construct"))
    revive(live.control, Store(live.spec.repository_path), SHARED)
    assert len(standin.events(place / "llama", "construct")) == made + 1
    reply = live.ask(TEXT, ASKED, "shoes")
    assert all(statuses(reply, member) == {Status.ANSWERED} for member in reply.members)
    wait_until(lambda: standin.events(place / "llama", "shutdown"))
    # What the first LLM said when it went: it held the questions of both members at once. The last of them
    # may still have been on its way when the LLM began to answer.
    assert standin.events(place / "llama", "shutdown")[0]["at_once"] >= TOGETHER - 1
