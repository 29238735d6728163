# SPDX-License-Identifier: Apache-2.0
"""The runtime for engines against a made-up inner model; tests/e2e has it on a real server."""

from __future__ import annotations

import json
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.injections import injections

from quorum.runtimes import create
from quorum.runtimes.base import Generated, InnerError, Question, RuntimeSettings
from quorum.runtimes.options import EngineOptions, Lora
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum_contract import Status

ROOT = Path(__file__).parents[3]
STOCK = json.loads((ROOT / "tests" / "contract" / "data" / "tensorrtllm_backend.json").read_text("utf-8"))
TYPES = {
    "TYPE_INT32": np.int32, "TYPE_UINT64": np.uint64, "TYPE_BOOL": np.bool_, "TYPE_STRING": np.object_,
}  # fmt: skip
SCHEMA = json.dumps(answer_schema(Catalogue.of([Attribute("color", values=("red", "blue"))]), ["color"]))


class Inner:
    """Answers like the C++ backend; hangs until stopped when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self.error, self.hang = "", False
        self.inside = self.most = 0
        self._stopped: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __call__(self, model: str, inputs: Any, outputs: Any, number: str) -> dict[str, Any]:
        with self._lock:
            self.asked.append((model, dict(inputs), number))
            stopped = self._stopped.setdefault(number, threading.Event())
        if "stop" in inputs:
            stopped.set()
            return {}
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            if self.hang:
                assert stopped.wait(30)
            if self.error:
                raise InnerError(self.error)
        finally:
            with self._lock:
                self.inside -= 1
        answer = {
            "output_ids": np.array([[[*self.tokens, 0, 0]]], np.int32),
            "sequence_length": np.array([[len(self.tokens)]], np.int32),
            "output_log_probs": np.zeros((1, 1, len(self.tokens)), np.float32),
        }
        if "return_log_probs" in inputs and inputs["return_log_probs"].all():
            answer["output_log_probs"] = np.array([[self.log_probs]], np.float32)
        return {name: answer[name] for name in outputs}


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def runtime(inner: Inner) -> Iterator[Any]:
    made = start(inner)
    yield made
    made.close()


def start(inner: Inner, folder: Path = ROOT / "examples" / "demo" / "models", **given: Any) -> Any:
    options = EngineOptions(engine=".", tokenizer="demo-llama", lora=Lora("x"), max_tokens=40, **given)
    made: Any = create(RuntimeSettings("llama", folder, options, infer=inner))
    inner.tokens = made._tokenizer.encode('{"color":"red"}')
    inner.log_probs = [-0.5 * number for number in range(len(inner.tokens))]
    return made


def ask(runtime: Any, seconds: float = 30.0, times: int = 1, prompt: str = "red shoe") -> list[Any]:
    replies: list[Any] = []
    enough = threading.Semaphore(0)

    def done(reply: Any) -> None:
        replies.append(reply)
        enough.release()

    deadline = time.monotonic_ns() + int(seconds * 1e9)
    for _ in range(times):
        runtime.submit(Question(prompt, SCHEMA, prompt, "", ("color",), deadline), done)
    for _ in range(times):
        assert enough.acquire(timeout=60)
    return replies


def test_the_answer_is_what_the_tokens_say(runtime: Any, inner: Inner) -> None:
    (reply,) = ask(runtime)
    assert reply.text == '{"color":"red"}'
    assert list(reply.log_probs) == inner.log_probs
    assert len(reply.ends) == len(inner.tokens)
    assert reply.usage == (inner.asked[0][1]["input_ids"].shape[1], len(inner.tokens), 0)
    assert [reply.text[a:b] for a, b in zip([0, *reply.ends], reply.ends, strict=False)][-1] == '"}'


@pytest.mark.parametrize("log_probs", [[0.0] * 5, [-0.5] * 3], ids=["not-computed", "too-few"])
def test_log_probs_that_were_not_computed_are_none(
    runtime: Any, inner: Inner, log_probs: list[float]
) -> None:
    assert len(inner.tokens) == 5
    inner.log_probs = log_probs
    (reply,) = ask(runtime)
    assert reply == Generated('{"color":"red"}', usage=reply.usage)


def test_log_probs_are_not_asked_for_without_scores(inner: Inner) -> None:
    runtime = start(inner, scores=False)
    (reply,) = ask(runtime)
    assert reply == Generated('{"color":"red"}', usage=reply.usage)
    runtime.close()
    assert "return_log_probs" not in inner.asked[0][1]


@pytest.mark.parametrize("where", ["tokenizer", "model"])
def test_every_end_token_of_the_checkpoint_ends_an_answer(inner: Inner, tmp_path: Path, where: str) -> None:
    demo = ROOT / "examples" / "demo" / "models" / "demo-llama"
    shutil.copytree(demo, tmp_path / "demo-llama", ignore=shutil.ignore_patterns("generation_config.json"))
    checkpoint = tmp_path / ("demo-llama" if where == "tokenizer" else "checkpoint")
    checkpoint.mkdir(exist_ok=True)
    config = json.loads((demo / "generation_config.json").read_text())
    own = config["eos_token_id"]
    (checkpoint / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [own, 9, 7]}))
    runtime = start(inner, tmp_path, model="checkpoint")
    inner.tokens, inner.log_probs = [*inner.tokens, 9], [*inner.log_probs, -3.0]
    (reply,) = ask(runtime)
    runtime.close()
    inputs = inner.asked[0][1]
    check_inputs(inputs)
    assert inputs["end_id"].tolist() == [[own]]
    assert inputs["stop_words_list"].tolist() == [[[7, 9], [1, 2]]]
    # The backend leaves the stop word on the answer.
    assert reply.text == '{"color":"red"}'
    assert list(reply.log_probs) == inner.log_probs[:-1]


def test_a_checkpoint_with_one_end_token_has_no_stop_words(runtime: Any, inner: Inner) -> None:
    ask(runtime)
    assert "stop_words_list" not in inner.asked[0][1]


def check_inputs(inputs: dict[str, Any]) -> None:
    table = {name: (kind, dims, optional) for name, kind, dims, optional, _, _ in STOCK["inputs"]}
    assert {name for name, (_, _, optional) in table.items() if not optional} <= set(inputs)
    for name, array in inputs.items():
        kind, dims, _ = table[name]
        assert array.dtype == TYPES[kind], name
        assert array.shape[0] == 1, name
        assert all(want in (-1, have) for want, have in zip(dims, array.shape[1:], strict=True)), name


def test_every_input_is_one_of_the_stock_ones(runtime: Any, inner: Inner) -> None:
    ask(runtime)
    model, inputs, number = inner.asked[0]
    assert model == "quorum_engine_llama"
    assert number
    check_inputs(inputs)
    assert inputs["input_lengths"][0, 0] == inputs["input_ids"].shape[1]
    assert inputs["guided_decoding_guide_type"][0, 0] == b"regex"
    assert inputs["guided_decoding_guide"][0, 0].startswith(rb"\{" + b'"color":"(red|blue|n')
    assert inputs["lora_task_id"][0, 0] == 1


def test_control_tokens_in_a_text_do_not_reach_the_engine(runtime: Any, inner: Inner) -> None:
    texts = injections()
    for one in texts:
        for text in (one.text, one.twin):
            ask(runtime, prompt=f"color\n{one.category}\n{text}\n")
    prompts = [inputs["input_ids"].tolist() for _, inputs, _ in inner.asked]
    assert len(prompts) == 2 * len(texts)
    assert prompts[::2] == prompts[1::2]
    assert not any(runtime._tokenizer.end in tokens for (tokens,) in prompts)


def test_the_step_is_not_held_up_by_tokenising(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, threads = runtime._tokenizer.encode, []

    def note(prompt: str) -> list[int]:
        threads.append(threading.current_thread().name)
        tokens: list[int] = encode(prompt)
        return tokens

    monkeypatch.setattr(runtime._tokenizer, "encode", note)
    ask(runtime)
    assert [name.rpartition("_")[0] for name in threads] == ["quorum-engine"]


def test_a_question_that_cannot_be_tokenised_is_an_abstention(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(type(runtime._tokenizer), "encode")
    assert ask(runtime) == [Status.ERROR]


def test_an_error_is_an_abstention(runtime: Any, inner: Inner) -> None:
    inner.error = "Assertion failed"
    assert ask(runtime) == [Status.ERROR]


def test_a_deadline_stops_the_generation_by_its_number(runtime: Any, inner: Inner) -> None:
    inner.hang = True
    assert ask(runtime, seconds=1.0) == [Status.TIMEOUT]
    (_, _, asked), (_, stop, stopped) = inner.asked
    assert stopped == asked
    assert stop["stop"].tolist() == [[True]]
    assert set(stop) == {"input_ids", "input_lengths", "request_output_len", "stop"}


def test_a_cancelled_question_stops_its_generation_once_and_no_other(runtime: Any, inner: Inner) -> None:
    inner.hang = True
    replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
    deadline = time.monotonic_ns() + 3_600 * 10**9
    gone, stays = (Question(name, SCHEMA, name, "", ("color",), deadline) for name in ("gone", "stays"))
    for asked in (gone, stays):
        runtime.submit(asked, partial(lambda name, reply: replies.put((name, reply)), asked.prompt))
    while inner.inside < 2:
        time.sleep(0.005)
    gone.cancellation.cancel()
    gone.cancellation.cancel()
    assert replies.get(timeout=30) == ("gone", Status.TIMEOUT)
    assert replies.empty()
    assert sum("stop" in inputs for _, inputs, _ in inner.asked) == 1
    stays.cancellation.cancel()
    assert replies.get(timeout=30) == ("stays", Status.TIMEOUT)


def test_an_answered_question_is_not_stopped(runtime: Any, inner: Inner) -> None:
    asked = Question("red", SCHEMA, "red", "", ("color",), time.monotonic_ns() + 3_600 * 10**9)
    replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
    runtime.submit(asked, replies.put)
    assert isinstance(replies.get(timeout=30), Generated)
    asked.cancellation.cancel()
    runtime.close()
    assert len(inner.asked) == 1


def test_no_more_calls_wait_than_may(runtime: Any, inner: Inner) -> None:
    inner.hang = True
    # Imported late: Transformers takes seconds in every process that collects the tests.
    from quorum.runtimes.engine import CALLS

    replies = ask(runtime, seconds=0.5, times=3 * CALLS)
    assert replies == [Status.TIMEOUT] * (3 * CALLS)
    assert inner.most == CALLS
