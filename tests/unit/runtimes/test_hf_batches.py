# SPDX-License-Identifier: Apache-2.0
"""Batches of the ``hf`` runtime, dynamic and continuous: who leaves one, who joins, what a failure costs."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import pytest
from support.hf_members import BATCHINGS, CATALOGUE, TEXTS, WAIT_S, ask, assert_alike, question

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, RuntimeSettings
from quorum.runtimes.options import HfOptions
from quorum.tasks.parse import parse_answer
from quorum_contract import Status

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """PyTorch takes seconds to import: not in every process that collects these tests."""
    global torch, Answers
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")
    pytest.importorskip("transformers", reason="run `make setup-hf`")
    from quorum.runtimes.hf_batch import Answers


def test_both_ways_of_batching_give_the_same_guided_answers(checkpoint, start_hf) -> None:
    questions = [question(text, attributes=("color", "gender")) for text in TEXTS]
    dynamic, continuous = (ask(start_hf(checkpoint, batching=batching), questions) for batching in BATCHINGS)
    assert_alike(dynamic, continuous)


class Impatient(Question):
    """Expires after that many looks at it."""

    __slots__ = ("looks",)

    @property
    def expired(self) -> bool:
        self.looks[0] -= 1
        return self.looks[0] < 0


def impatient(prompt: str, looks: int) -> Question:
    base = question(prompt)
    late = Impatient(base.prompt, base.schema, base.text, base.category, base.attributes, base.deadline_ns)
    object.__setattr__(late, "looks", [looks])
    return late


@pytest.mark.parametrize("batching", BATCHINGS)
def test_a_deadline_stops_generation_and_nobody_else(checkpoint, start_hf, monkeypatch, batching) -> None:
    taken: dict[str, int] = {}
    take = Answers.take

    def count(self: Answers, job: Any, token: int, log_prob: float) -> bool:
        taken[job.question.prompt] = taken.get(job.question.prompt, 0) + 1
        return take(self, job, token, log_prob)

    monkeypatch.setattr(Answers, "take", count)
    runtime = start_hf(checkpoint, guided=False, batching=batching, max_new_tokens=300)
    free, late, after = ask(runtime, [question("patient"), impatient("late", 9), question("after")])
    assert late == Status.TIMEOUT
    assert taken.get("late", 0) <= 10
    assert isinstance(free, Generated)
    assert isinstance(after, Generated)
    assert ask(runtime, [question("too late already", seconds=-1)]) == [Status.TIMEOUT]
    assert "too late already" not in taken


@pytest.mark.parametrize("batching", BATCHINGS)
def test_a_cancelled_question_stops_and_the_others_of_its_batch_go_on(
    checkpoint, start_hf, monkeypatch, batching
) -> None:
    taken: dict[str, int] = {}
    take = Answers.take

    def count(self: Answers, job: Any, token: int, log_prob: float) -> bool:
        asked = job.question.prompt
        taken[asked] = taken.get(asked, 0) + 1
        if asked == "gone" and taken[asked] == 9:
            job.question.cancellation.cancel()
        return take(self, job, token, log_prob)

    monkeypatch.setattr(Answers, "take", count)
    runtime = start_hf(checkpoint, guided=False, batching=batching, max_new_tokens=300)
    stays, gone, after = ask(runtime, [question("stays"), question("gone"), question("after")])
    assert gone == Status.TIMEOUT
    assert taken["gone"] == 9
    assert isinstance(stays, Generated)
    assert isinstance(after, Generated)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_more_prompt_than_one_step_takes_is_guided_too(checkpoint, start_hf, batching) -> None:
    """A step of continuous batching takes 2048 tokens: some prompts are then in the middle of theirs."""
    runtime = start_hf(checkpoint, batching=batching, max_new_tokens=400)
    replies = ask(runtime, [question(f"{number} " * 200) for number in range(9)])
    for reply in replies:
        assert isinstance(reply, Generated)
        votes = parse_answer(CATALOGUE, tuple(CATALOGUE.attributes), *reply[:3])
        assert {vote.status for vote in votes} == {Status.ANSWERED}


def test_reuse_of_prompts_is_told_where_it_is_known(checkpoint, start_hf) -> None:
    texts = ("shoe", "red shoe")
    for batching, told in (("dynamic", (0, sum(map(len, texts)))), ("continuous", None)):
        runtime = start_hf(checkpoint, batching=batching, max_new_tokens=4)
        ask(runtime, [question(text) for text in texts])
        assert runtime.prompt_tokens == told


def test_a_batch_that_fails_costs_its_own_questions_only(checkpoint, start_hf, monkeypatch) -> None:
    runtime = start_hf(checkpoint, max_new_tokens=30)
    model, generate = runtime._host.loaded.model, runtime._host.loaded.model.generate

    def fail(**_: Any) -> None:
        raise RuntimeError("rehearsed")

    monkeypatch.setattr(model, "generate", fail)
    assert set(ask(runtime, [question(text) for text in TEXTS])) == {Status.ERROR}
    monkeypatch.setattr(model, "generate", generate)
    assert isinstance(ask(runtime, [question("shoe")])[0], Generated)


def test_a_batch_too_big_for_the_gpu_is_split(checkpoint, start_hf, monkeypatch) -> None:
    runtime = start_hf(checkpoint, max_new_tokens=400)
    expected = ask(runtime, [question(text) for text in TEXTS])
    model, generate, sizes = runtime._host.loaded.model, runtime._host.loaded.model.generate, []

    def small_gpu(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        if sizes[-1] > 2:
            # Some answers are begun already when memory runs out.
            generate(**{**given, "max_new_tokens": 3})
            raise torch.OutOfMemoryError("rehearsed")
        return generate(**given)

    monkeypatch.setattr(model, "generate", small_gpu)
    assert_alike(ask(runtime, [question(text) for text in TEXTS]), expected)
    assert max(sizes) > 2
    monkeypatch.setattr(model, "generate", lambda **_: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    assert ask(runtime, [question("shoe")]) == [Status.ERROR]


def test_a_batch_that_is_tried_again_finds_the_memory_of_the_first(checkpoint, start_hf, monkeypatch) -> None:
    runtime = start_hf(checkpoint, max_new_tokens=20)
    model, generate = runtime._host.loaded.model, runtime._host.loaded.model.generate
    kept: list[Any] = []

    def small_gpu(**given: Any) -> Any:
        if len(given["input_ids"]) > 1 and not kept:
            cache = torch.zeros(8)
            kept.append(weakref.ref(cache))
            raise torch.OutOfMemoryError("rehearsed")
        if kept:
            held.append(kept[0]() is not None)
        return generate(**given)

    held: list[bool] = []
    monkeypatch.setattr("quorum.runtimes.hf_dynamic._WINDOW_S", 1.0)
    monkeypatch.setattr(model, "generate", small_gpu)
    ask(runtime, [question(text) for text in TEXTS])
    assert len(held) > 1
    assert not any(held)


def test_who_asks_again_just_after_a_batch_joins_those_who_wait(checkpoint, start_hf, monkeypatch) -> None:
    monkeypatch.setattr("quorum.runtimes.hf_dynamic._WINDOW_S", 30.0)
    runtime = start_hf(checkpoint, max_new_tokens=20, max_batch=4)
    model, generate, sizes = runtime._host.loaded.model, runtime._host.loaded.model.generate, []
    left = threading.Semaphore(0)

    def submit(text: str) -> None:
        runtime.submit(question(text), lambda _: left.release())

    def spy(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        if len(sizes) == 1:
            for text in TEXTS[1:4]:
                submit(text)
            threading.Timer(0.2, submit, (TEXTS[4],)).start()
        return generate(**given)

    monkeypatch.setattr(model, "generate", spy)
    submit(TEXTS[0])
    for _ in range(5):
        assert left.acquire(timeout=WAIT_S)
    # The first one waited for nobody.
    assert sizes == [1, 4]


def test_a_continuous_batch_that_fails_is_made_anew(checkpoint, start_hf, monkeypatch) -> None:
    runtime = start_hf(checkpoint, batching="continuous", max_new_tokens=400)
    expected = ask(runtime, [question("shoe")])
    forward = runtime._host.loaded.model.forward

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("rehearsed")

    monkeypatch.setattr(runtime._host.loaded.model, "forward", fail)
    assert set(ask(runtime, [question(text) for text in TEXTS])) == {Status.ERROR}
    monkeypatch.setattr(runtime._host.loaded.model, "forward", forward)
    end = time.monotonic() + WAIT_S
    while (got := ask(runtime, [question("shoe")])) == [Status.ERROR]:
        assert time.monotonic() < end
    assert_alike(got, expected)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_closing_stops_what_is_in_flight(checkpoint, batching) -> None:
    options = HfOptions(
        model=checkpoint.name, device="cpu", guided=False, batching=batching, max_new_tokens=1900
    )
    runtime = create(RuntimeSettings("m", checkpoint.parent, options))
    replies: list[Reply] = []
    for text in TEXTS:
        runtime.submit(question(text), replies.append)
    runtime.close()
    seen = list(replies)
    time.sleep(0.2)
    assert replies == seen
    assert not [t for t in threading.enumerate() if t.name == "quorum-hf"]
