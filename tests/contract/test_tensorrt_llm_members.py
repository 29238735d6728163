# SPDX-License-Identifier: Apache-2.0
"""Members of the runtime for TensorRT-LLM ask for what the library has, and for nothing that it refuses.

The stand-in refuses as the library does: an adapter on modules that the LLM was not made for, a prompt longer
than ``max_num_tokens``, ``LoraConfig`` from a module that later versions do not have.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from support import standin

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, Runtime, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.options import read_options
from quorum.serving.answering import Answering
from quorum.serving.packing import Admitted, unpack_votes
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum_contract import Status

Start = Callable[..., Runtime]
OPTIONS = {"model": "llama", "max_tokens": 6, "max_seq_len": 64, "guided": False, "chat": False}
TEXT = "color\nshoes\nVelmora trail running shoes, navy\n"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model of the stand-in, which is on the path."""
    monkeypatch.syspath_prepend(str(standin.STANDIN))
    yield standin.copy_model("demo-llama", tmp_path / "llama")
    for module in [name for name in sys.modules if name.split(".")[0] == "tensorrt_llm"]:
        del sys.modules[module]


@pytest.fixture
def start(model: Path) -> Iterator[Start]:
    """Starts a member with some options; it is closed at the end."""
    started: list[Runtime] = []

    def start(peers: tuple[Any, ...] = (), **options: Any) -> Runtime:
        given = read_options("tensorrt_llm", {**OPTIONS, **options})
        started.append(create(RuntimeSettings("llama", model.parent, given, peers)))
        return started[-1]

    yield start
    for runtime in started:
        runtime.close()


def ask(runtime: Runtime, prompt: str = TEXT, adapter: str | None = None) -> Reply:
    replies: SimpleQueue[Reply] = SimpleQueue()
    deadline = time.monotonic_ns() + 60 * 10**9
    question = Question(prompt, "{}", prompt, "", ("color",), deadline, adapter=adapter)
    runtime.submit(question, replies.put)
    return replies.get(timeout=60)


def made(model: Path) -> dict[str, Any]:
    (event,) = standin.events(model, "construct")
    arguments: dict[str, Any] = event["arguments"]
    return arguments


@pytest.mark.parametrize(
    ("changed", "modules"),
    [
        (("q_proj", "v_proj"), ["attn_k", "attn_q", "attn_v"]),
        (("down_proj",), ["mlp_4h_to_h"]),
    ],
)
def test_an_adapter_on_some_of_q_k_and_v_is_served(
    start: Start, model: Path, changed: tuple[str, ...], modules: list[str]
) -> None:
    standin.write_adapter(model.parent / "adapter", modules=changed)
    reply = ask(start(lora={"path": "adapter"}), adapter="adapter")
    assert isinstance(reply, Generated)
    assert made(model)["lora_config"]["lora_target_modules"] == modules
    assert standin.events(model, "generate")[0]["lora"] == "adapter"


def test_an_adapter_that_is_not_loaded_does_not_mean_the_llm_without_one(start: Start, model: Path) -> None:
    standin.write_adapter(model.parent / "adapter")
    runtime = start(lora={"path": "adapter"})
    assert ask(runtime, adapter="another") == Status.ERROR
    assert isinstance(ask(runtime), Generated)
    assert [event["lora"] for event in standin.events(model, "generate")] == [None]


def test_each_attribute_is_asked_of_its_own_adapter(start: Start, model: Path) -> None:
    """One LLM in memory, with the adapters of all attributes of all its members."""
    for name, rank, changed in (("usual", 4, "o_proj"), ("sizes", 8, "q_proj"), ("peer", 16, "up_proj")):
        standin.write_adapter(model.parent / name, rank=rank, modules=(changed,))
    options = {"lora": {"path": "usual"}, "adapters": {"size": "sizes", "width": "sizes"}}
    peer = read_options("tensorrt_llm", {**OPTIONS, "adapters": {"color": "peer", "size": "usual"}})
    runtime, own = start(peers=(peer,), **options), read_options("tensorrt_llm", OPTIONS | options)
    catalogue = Catalogue.of([Attribute(name) for name in ("color", "size", "width", "gender")])
    answering = Answering({"name": "llama", "prompt": "bare"}, catalogue, runtime, own)
    votes: SimpleQueue[bytes] = SimpleQueue()
    admitted = Admitted(TEXT, "shoes", ("size", "color", "width", "gender"), 1)
    answering.ask(admitted, b"", time.monotonic_ns() + 60 * 10**9, votes.put, Cancellation())
    assert len(unpack_votes(votes.get(timeout=60))) == 4
    events = standin.events(model, "generate")
    asked = {event["lora"]: event["prompt"].partition("\n")[0] for event in events}
    assert asked == {"sizes": "size, width", "usual": "color, gender"}
    config = made(model)["lora_config"]
    assert config["lora_target_modules"] == ["attn_dense", "attn_k", "attn_q", "attn_v", "mlp_gate"]
    assert (config["max_lora_rank"], config["max_loras"], config["max_cpu_loras"]) == (16, 3, 3)


def test_members_without_an_adapter_need_nothing_of_lora(
    start: Start, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorrt_llm.llmapi import llm_args

    monkeypatch.delattr(llm_args, "LoraConfig")
    assert isinstance(ask(start()), Generated)
    assert "lora_config" not in made(model)
    standin.write_adapter(model.parent / "adapter")
    with pytest.raises(RuntimeConfigError, match="LoraConfig"):
        start(model=str(standin.copy_model("demo-llama", model.with_name("other"))), lora={"path": "adapter"})


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"max_num_tokens": 100, "max_seq_len": 300}, "max_num_tokens 100"),
        ({"max_num_tokens": 300, "max_seq_len": 100}, "max_seq_len 100"),
    ],
)
def test_a_prompt_that_the_library_would_refuse_is_not_given_to_it(
    start: Start, model: Path, caplog: pytest.LogCaptureFixture, options: dict[str, int], limit: str
) -> None:
    runtime = start(**options)
    assert isinstance(ask(runtime), Generated)
    assert ask(runtime, "word " * 50) is Status.ERROR
    assert limit in caplog.records[-1].getMessage()
    assert caplog.records[-1].exc_info is None
    assert len(standin.events(model, "generate")) == 1


def test_an_answer_is_as_long_as_the_prompt_leaves_room_for(start: Start, model: Path) -> None:
    runtime = start(max_tokens=40, max_seq_len=48)
    assert isinstance(ask(runtime), Generated)
    (asked,) = standin.events(model, "generate")
    assert asked["max_tokens"] == 48 - asked["tokens"] < 40


def test_every_end_token_of_the_checkpoint_ends_an_answer(start: Start, model: Path) -> None:
    from quorum.runtimes.chat import ChatTokenizer

    whole = ask(start())
    assert isinstance(whole, Generated)
    assert standin.events(model, "generate")[-1]["stop_token_ids"] is None
    third = ChatTokenizer(str(model), chat=False).encode(whole.text)[2]
    other = standin.copy_model("demo-llama", model.with_name("other"))
    config = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [0, third]}))
    reply = ask(start(model="other"))
    assert standin.events(other, "generate")[-1]["stop_token_ids"] == [third]
    assert isinstance(reply, Generated)
    assert whole.text.startswith(reply.text)
    # The end token is cut off the tokens, and not off their log-probabilities.
    assert len(reply.ends) == len(reply.log_probs) < len(whole.log_probs)
    assert len(reply.ends) > 0


def test_a_pinned_revision_is_the_one_that_is_loaded(
    start: Start, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt_llm

    asked: dict[str, Any] = {}

    def refuse(**arguments: Any) -> None:
        asked.update(arguments)
        raise OSError("no network")

    monkeypatch.setattr(tensorrt_llm, "LLM", refuse)
    with pytest.raises(OSError, match="no network"):
        start(model="some/model", revision="0123abc")
    assert (asked["revision"], asked["tokenizer_revision"]) == ("0123abc", "0123abc")
    with pytest.raises(RuntimeConfigError, match=r"revision.*llama is a folder"):
        start(revision="0123abc")
