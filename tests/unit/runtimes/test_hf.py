# SPDX-License-Identifier: Apache-2.0
"""The ``hf`` runtime on tiny random checkpoints: greedy answers are Transformers' own, guided ones parse."""

from __future__ import annotations

import json
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import CHAT, write_checkpoint
from support.injections import injections

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.options import HfOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import parse_answer
from quorum_contract import Status

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
BATCHINGS = ("dynamic", "continuous")
pytestmark = pytest.mark.torch

CATALOGUE = Catalogue.of(
    [
        Attribute("color", values=("red", "navy blue", 'rosé/"pink"')),
        Attribute("brand", normaliser="exact"),
        Attribute("gender", values=("women", "men")),
    ]
)
TEXTS = ("shoe", "red shoes for men, size 42", "größe № 👟", "a" * 90, "b, c")
WAIT_S = 60


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """PyTorch takes seconds to import: not in every process that collects these tests."""
    global torch, transformers, HfRuntime, Answers
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")
    transformers = pytest.importorskip("transformers", reason="run `make setup-hf`")
    from quorum.runtimes.hf import HfRuntime
    from quorum.runtimes.hf_batch import Answers


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("hf") / "llama")


def question(prompt: str, seconds: float = WAIT_S, attributes: Sequence[str] = tuple(CATALOGUE.attributes)):
    schema = json.dumps(answer_schema(CATALOGUE, attributes), ensure_ascii=False)
    deadline = time.monotonic_ns() + int(seconds * 1e9)
    return Question(prompt, schema, prompt, "", tuple(attributes), deadline)


@pytest.fixture
def start() -> Iterator[Any]:
    running: list[Any] = []

    def open_runtime(folder: Path, **options: Any) -> HfRuntime:
        settings = HfOptions(**{"model": folder.name, "device": "cpu", **options})
        running.append(create(RuntimeSettings("m", folder.parent, settings)))
        return running[-1]

    yield open_runtime
    for runtime in running:
        runtime.close()


def ask(runtime: HfRuntime, questions: Sequence[Question]) -> list[Reply]:
    """All at once; the replies in the order of the questions."""
    replies: dict[int, Reply] = {}
    left = threading.Semaphore(0)

    def keep(number: int, reply: Reply) -> None:
        assert number not in replies, "answered twice"
        replies[number] = reply
        left.release()

    for number, one in enumerate(questions):
        runtime.submit(one, lambda reply, number=number: keep(number, reply))
    for _ in questions:
        assert left.acquire(timeout=WAIT_S)
    return [replies[number] for number in range(len(questions))]


def assert_alike(replies: Sequence[Reply], others: Sequence[Reply]) -> None:
    """The same texts; log-probabilities depend on the batch in their last bits."""
    for one, other in zip(replies, others, strict=True):
        assert isinstance(one, Generated)
        assert isinstance(other, Generated)
        assert one[:2] == other[:2]
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-3)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, ...], list[int]]:
    """Prompt tokens -> answer tokens: text can hide a difference."""
    seen: dict[tuple[int, ...], list[int]] = {}
    finish = Answers.finish

    def spy(self: Answers, job: Any) -> bool:
        seen[tuple(job.prompt)] = list(job.answer)
        return finish(self, job)

    monkeypatch.setattr(Answers, "finish", spy)
    return seen


def greedy(folder: Path, new: int, model: Any = None) -> dict[tuple[int, ...], list[int]]:
    """What Transformers itself generates for each of TEXTS alone: prompt tokens -> answer tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = model or transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answers = {}
    for text in TEXTS:
        given = tokenizer(text, return_tensors="pt")
        out = model.generate(**given, do_sample=False, max_new_tokens=new)[0].tolist()
        prompt = given["input_ids"][0].tolist()
        answer = out[len(prompt) :]
        answers[tuple(prompt)] = answer[: answer.index(0)] if 0 in answer else answer
    return answers


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint of each family, and the answers of Transformers."""
    folder = write_checkpoint(tmp_path_factory.mktemp("family") / request.param, request.param, seed=3)
    return folder, greedy(folder, 24)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_greedy_answers_are_those_of_transformers(family, start, tokens, batching) -> None:
    folder, expected = family
    assert len({tuple(answer) for answer in expected.values()}) == len(TEXTS)
    runtime = start(folder, guided=False, batching=batching, max_new_tokens=24)
    ask(runtime, [question(text) for text in TEXTS])
    assert tokens == expected
    tokens.clear()
    for text in TEXTS:
        ask(runtime, [question(text)])
    assert tokens == expected


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("batching", BATCHINGS)
def test_scores_are_those_of_a_forward_pass(checkpoint, start, tokens, batching, guided) -> None:
    """Of all tokens before the grammar's mask, and of values: the sum over their tokens."""
    runtime = start(checkpoint, batching=batching, guided=guided, max_new_tokens=200, max_batch=3)
    replies = ask(runtime, [question(text) for text in TEXTS])
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    names = tuple(CATALOGUE.attributes)
    for text, reply in zip(TEXTS, replies, strict=True):
        prompt = tokenizer(text)["input_ids"]
        answer = tokens[tuple(prompt)]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(answer).unsqueeze(1)).squeeze(1).tolist()
        assert isinstance(reply, Generated)
        assert reply.log_probs == pytest.approx(expected, abs=1e-3)
        if guided:
            # Tokens are bytes here.
            data, at = tokenizer.decode(answer).encode(), 0
            for name, vote in zip(names, parse_answer(CATALOGUE, names, *reply), strict=True):
                at = data.index(f'"{name}":"'.encode(), at) + len(f'"{name}":"'.encode())
                value = json.dumps(json.loads(reply.text)[name], ensure_ascii=False)[1:].encode()
                assert data[at:].startswith(value)
                assert vote.score == pytest.approx(sum(expected[at : at + len(value)]), abs=1e-3)
                assert vote.score < -1


@pytest.mark.parametrize("batching", BATCHINGS)
def test_without_scores_answers_are_the_same(checkpoint, start, batching) -> None:
    asked = [question(text) for text in TEXTS[:2]]
    plain = ask(start(checkpoint, batching=batching, max_new_tokens=200, scores=False), asked)
    scored = ask(start(checkpoint, batching=batching, max_new_tokens=200), asked)
    assert plain == [Generated(reply.text) for reply in scored]


@pytest.mark.parametrize("batching", BATCHINGS)
def test_control_tokens_in_a_text_change_no_answer(checkpoint, start, tokens, batching) -> None:
    """Prompts and answers are those of the same words without control tokens; token 0 is this LLM's."""
    runtime = start(checkpoint, batching=batching, guided=False, max_new_tokens=3, max_batch=50)
    # Transformers adds <|end|> as this tokenizer's special token.
    texts = [(one.text.replace("<|eot_id|>", "<|end|>"), one.twin) for one in injections()]
    for asked in zip(*texts, strict=True):
        ask(runtime, [question(text) for text in asked])
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    assert 0 in tokenizer(" ".join(text for text, _ in texts))["input_ids"]
    assert set(tokens) == {tuple(tokenizer(twin)["input_ids"]) for _, twin in texts}
    assert not any(0 in prompt for prompt in tokens)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_guided_answers_always_parse_alone_and_together(checkpoint, start, batching) -> None:
    runtime = start(checkpoint, batching=batching, max_new_tokens=400, max_batch=3)
    together = ask(runtime, [question(text) for text in TEXTS])
    alone = [ask(runtime, [question(text)])[0] for text in TEXTS]
    assert_alike(together, alone)
    for reply in together:
        assert isinstance(reply, Generated)
        answer = json.loads(reply.text)
        assert list(answer) == list(CATALOGUE.attributes)
        assert answer["color"] in {*CATALOGUE.get("color").values, "n/a"}
        assert answer["gender"] in {"women", "men", "n/a"}
        votes = parse_answer(CATALOGUE, tuple(CATALOGUE.attributes), *reply)
        assert [vote.status for vote in votes] == [Status.ANSWERED] * 3


def test_both_ways_of_batching_give_the_same_guided_answers(checkpoint, start) -> None:
    questions = [question(text, attributes=("color", "gender")) for text in TEXTS]
    dynamic, continuous = (ask(start(checkpoint, batching=batching), questions) for batching in BATCHINGS)
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
def test_a_deadline_stops_generation_and_nobody_else(checkpoint, start, monkeypatch, batching) -> None:
    taken: dict[str, int] = {}
    take = Answers.take

    def count(self: Answers, job: Any, token: int, log_prob: float) -> bool:
        taken[job.question.prompt] = taken.get(job.question.prompt, 0) + 1
        return take(self, job, token, log_prob)

    monkeypatch.setattr(Answers, "take", count)
    runtime = start(checkpoint, guided=False, batching=batching, max_new_tokens=300)
    free, late, after = ask(runtime, [question("patient"), impatient("late", 9), question("after")])
    assert late == Status.TIMEOUT
    assert taken.get("late", 0) <= 10
    assert isinstance(free, Generated)
    assert isinstance(after, Generated)
    assert ask(runtime, [question("too late already", seconds=-1)]) == [Status.TIMEOUT]
    assert "too late already" not in taken


@pytest.mark.parametrize("batching", BATCHINGS)
def test_a_cancelled_question_stops_and_the_others_of_its_batch_go_on(
    checkpoint, start, monkeypatch, batching
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
    runtime = start(checkpoint, guided=False, batching=batching, max_new_tokens=300)
    stays, gone, after = ask(runtime, [question("stays"), question("gone"), question("after")])
    assert gone == Status.TIMEOUT
    assert taken["gone"] == 9
    assert isinstance(stays, Generated)
    assert isinstance(after, Generated)


def test_an_adapter_changes_the_answers(tmp_path, checkpoint, start, tokens) -> None:
    peft = pytest.importorskip("peft")
    base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    torch.manual_seed(5)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(base, settings)
    adapted.save_pretrained(tmp_path / "adapter")
    runtime = start(checkpoint, lora=str(tmp_path / "adapter"), guided=False, max_new_tokens=30)
    ask(runtime, [question(text) for text in TEXTS])
    assert tokens == greedy(checkpoint, 30, adapted)
    assert tokens != greedy(checkpoint, 30)


def test_an_adapter_of_another_base_is_refused(tmp_path, checkpoint, start) -> None:
    peft = pytest.importorskip("peft")
    other = transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(
            vocab_size=64, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
        )
    )
    peft.get_peft_model(other, peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
        tmp_path / "a"
    )
    with pytest.raises(RuntimeConfigError, match=r"member 'm'.*is no adapter of"):
        start(checkpoint, lora=str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "nowhere"}, "does not exist"),
        ({"device": "gpu"}, "use auto, cpu, cuda"),
        ({"device": "cuda:31"}, "is not here"),
        ({"lora": "nowhere"}, "save_pretrained"),
    ],
)
def test_what_cannot_start_says_why(checkpoint, options, said) -> None:
    settings = HfOptions(**{"model": checkpoint.name, "device": "cpu", **options})
    with pytest.raises(RuntimeConfigError, match=said):
        create(RuntimeSettings("m", checkpoint.parent, settings))


def test_a_folder_that_holds_no_weights_is_named(tmp_path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(RuntimeConfigError, match=r"cannot be loaded as a causal language model"):
        create(RuntimeSettings("m", tmp_path, HfOptions(model="m", device="cpu")))


def test_without_pytorch_the_error_says_what_to_install(monkeypatch, checkpoint) -> None:
    for name in [name for name in sys.modules if name.startswith("quorum.runtimes.hf")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeConfigError, match=r"runtime 'hf' needs the package 'torch'.*make setup-hf"):
        create(RuntimeSettings("m", checkpoint.parent, HfOptions(model=checkpoint.name)))


def test_the_chat_template_is_applied_unless_told_otherwise(tmp_path, start, tokens) -> None:
    folder = write_checkpoint(tmp_path / "m", chat=CHAT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ask(start(folder, max_new_tokens=8), [question("shoe")])
    ask(start(folder, max_new_tokens=8, chat=False), [question("shoe")])
    assert [tokenizer.decode(list(prompt)) for prompt in tokens] == ["<user>shoe<assistant>", "shoe"]


def test_settings_for_sampling_in_a_checkpoint_do_not_shape_answers(tmp_path, start, tokens) -> None:
    folder = write_checkpoint(tmp_path / "m")
    ask(start(folder, guided=False, max_new_tokens=30), [question(TEXTS[0])])
    plain = dict(tokens)
    tokens.clear()
    config = json.loads((folder / "generation_config.json").read_text())
    config |= {"do_sample": True, "temperature": 3.0, "repetition_penalty": 5.0, "top_k": 3}
    (folder / "generation_config.json").write_text(json.dumps(config))
    ask(start(folder, guided=False, max_new_tokens=30), [question(TEXTS[0])])
    assert tokens == plain


def test_a_prompt_longer_than_the_model_is_abstained_from(tmp_path, start, caplog) -> None:
    runtime = start(write_checkpoint(tmp_path / "m", positions=128), max_new_tokens=64)
    assert ask(runtime, [question("x" * 65)]) == [Status.ERROR]
    assert "exceed the model's 128 positions" in caplog.text
    assert isinstance(ask(runtime, [question("x" * 64)])[0], Generated)


def test_a_question_longer_than_max_seq_len_is_abstained_from(checkpoint, start, caplog) -> None:
    runtime = start(checkpoint, max_seq_len=70, max_new_tokens=60, guided=False)
    short, long = ask(runtime, [question("a" * 10), question("a" * 11)])
    assert isinstance(short, Generated)
    assert long == Status.ERROR
    assert "a prompt of 11 tokens and max_new_tokens 60 exceed max_seq_len 70" in caplog.text


@pytest.mark.parametrize("batching", BATCHINGS)
def test_more_prompt_than_one_step_takes_is_guided_too(checkpoint, start, batching) -> None:
    """A step of continuous batching takes 2048 tokens: some prompts are then in the middle of theirs."""
    runtime = start(checkpoint, batching=batching, max_new_tokens=400)
    replies = ask(runtime, [question(f"{number} " * 200) for number in range(9)])
    for reply in replies:
        assert isinstance(reply, Generated)
        votes = parse_answer(CATALOGUE, tuple(CATALOGUE.attributes), *reply)
        assert {vote.status for vote in votes} == {Status.ANSWERED}


def test_reuse_of_prompts_is_told_where_it_is_known(checkpoint, start) -> None:
    texts = ("shoe", "red shoe")
    for batching, told in (("dynamic", (0, sum(map(len, texts)))), ("continuous", None)):
        runtime = start(checkpoint, batching=batching, max_new_tokens=4)
        ask(runtime, [question(text) for text in texts])
        assert runtime.prompt_tokens == told


def test_a_batch_that_fails_costs_its_own_questions_only(checkpoint, start, monkeypatch) -> None:
    runtime = start(checkpoint, max_new_tokens=30)
    model, generate = runtime._host.loaded.model, runtime._host.loaded.model.generate

    def fail(**_: Any) -> None:
        raise RuntimeError("rehearsed")

    monkeypatch.setattr(model, "generate", fail)
    assert set(ask(runtime, [question(text) for text in TEXTS])) == {Status.ERROR}
    monkeypatch.setattr(model, "generate", generate)
    assert isinstance(ask(runtime, [question("shoe")])[0], Generated)


def test_a_batch_too_big_for_the_gpu_is_split(checkpoint, start, monkeypatch) -> None:
    runtime = start(checkpoint, max_new_tokens=400)
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


def test_a_batch_that_is_tried_again_finds_the_memory_of_the_first(checkpoint, start, monkeypatch) -> None:
    runtime = start(checkpoint, max_new_tokens=20)
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


def test_who_asks_again_just_after_a_batch_joins_those_who_wait(checkpoint, start, monkeypatch) -> None:
    monkeypatch.setattr("quorum.runtimes.hf_dynamic._WINDOW_S", 30.0)
    runtime = start(checkpoint, max_new_tokens=20, max_batch=4)
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


def test_a_continuous_batch_that_fails_is_made_anew(checkpoint, start, monkeypatch) -> None:
    runtime = start(checkpoint, batching="continuous", max_new_tokens=400)
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
