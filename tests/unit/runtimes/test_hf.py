# SPDX-License-Identifier: Apache-2.0
"""The ``hf`` runtime on tiny random checkpoints: greedy answers are Transformers' own, guided ones parse."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import CHAT, write_checkpoint
from support.hf_members import BATCHINGS, CATALOGUE, TEXTS, ask, assert_alike, question
from support.injections import injections

from quorum.runtimes import create
from quorum.runtimes.base import Generated, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.options import HfOptions
from quorum.tasks.parse import parse_answer
from quorum_contract import Status

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """PyTorch takes seconds to import: not in every process that collects these tests."""
    global torch, transformers, Answers
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")
    transformers = pytest.importorskip("transformers", reason="run `make setup-hf`")
    from quorum.runtimes.hf_batch import Answers


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
def test_greedy_answers_are_those_of_transformers(family, start_hf, tokens, batching) -> None:
    folder, expected = family
    assert len({tuple(answer) for answer in expected.values()}) == len(TEXTS)
    runtime = start_hf(folder, guided=False, batching=batching, max_new_tokens=24)
    ask(runtime, [question(text) for text in TEXTS])
    assert tokens == expected
    tokens.clear()
    for text in TEXTS:
        ask(runtime, [question(text)])
    assert tokens == expected


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("batching", BATCHINGS)
def test_scores_are_those_of_a_forward_pass(checkpoint, start_hf, tokens, batching, guided) -> None:
    """Of all tokens before the grammar's mask, and of values: the sum over their tokens."""
    runtime = start_hf(checkpoint, batching=batching, guided=guided, max_new_tokens=200, max_batch=3)
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
            for name, vote in zip(names, parse_answer(CATALOGUE, names, *reply[:3]), strict=True):
                at = data.index(f'"{name}":"'.encode(), at) + len(f'"{name}":"'.encode())
                value = json.dumps(json.loads(reply.text)[name], ensure_ascii=False)[1:].encode()
                assert data[at:].startswith(value)
                assert vote.score == pytest.approx(sum(expected[at : at + len(value)]), abs=1e-3)
                assert vote.score < -1


@pytest.mark.parametrize("batching", BATCHINGS)
def test_without_scores_answers_are_the_same(checkpoint, start_hf, batching) -> None:
    asked = [question(text) for text in TEXTS[:2]]
    plain = ask(start_hf(checkpoint, batching=batching, max_new_tokens=200, scores=False), asked)
    scored = ask(start_hf(checkpoint, batching=batching, max_new_tokens=200), asked)
    assert plain == [Generated(reply.text, usage=reply.usage) for reply in scored]


@pytest.mark.parametrize("batching", BATCHINGS)
def test_control_tokens_in_a_text_change_no_answer(checkpoint, start_hf, tokens, batching) -> None:
    """Prompts and answers are those of the same words without control tokens; token 0 is this LLM's."""
    runtime = start_hf(checkpoint, batching=batching, guided=False, max_new_tokens=3, max_batch=50)
    # Transformers adds <|end|> as this tokenizer's special token.
    texts = [(one.text.replace("<|eot_id|>", "<|end|>"), one.twin) for one in injections()]
    for asked in zip(*texts, strict=True):
        ask(runtime, [question(text) for text in asked])
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    assert 0 in tokenizer(" ".join(text for text, _ in texts))["input_ids"]
    assert set(tokens) == {tuple(tokenizer(twin)["input_ids"]) for _, twin in texts}
    assert not any(0 in prompt for prompt in tokens)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_guided_answers_always_parse_alone_and_together(checkpoint, start_hf, batching) -> None:
    runtime = start_hf(checkpoint, batching=batching, max_new_tokens=400, max_batch=3)
    together = ask(runtime, [question(text) for text in TEXTS])
    alone = [ask(runtime, [question(text)])[0] for text in TEXTS[2:4]]
    assert_alike(together[2:4], alone)
    for reply in together:
        assert isinstance(reply, Generated)
        answer = json.loads(reply.text)
        assert list(answer) == list(CATALOGUE.attributes)
        assert answer["color"] in {*CATALOGUE.get("color").values, "n/a"}
        assert answer["gender"] in {"women", "men", "n/a"}
        votes = parse_answer(CATALOGUE, tuple(CATALOGUE.attributes), *reply[:3])
        assert [vote.status for vote in votes] == [Status.ANSWERED] * 3


def test_an_adapter_changes_the_answers(tmp_path, checkpoint, start_hf, tokens) -> None:
    peft = pytest.importorskip("peft")
    base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    torch.manual_seed(5)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(base, settings)
    adapted.save_pretrained(tmp_path / "adapter")
    runtime = start_hf(checkpoint, lora=str(tmp_path / "adapter"), guided=False, max_new_tokens=30)
    ask(runtime, [question(text) for text in TEXTS])
    assert tokens == greedy(checkpoint, 30, adapted)
    assert tokens != greedy(checkpoint, 30)


def test_an_adapter_of_another_base_is_refused(tmp_path, checkpoint, start_hf) -> None:
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
        start_hf(checkpoint, lora=str(tmp_path / "a"))


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


def test_the_chat_template_is_applied_unless_told_otherwise(tmp_path, start_hf, tokens) -> None:
    folder = write_checkpoint(tmp_path / "m", chat=CHAT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ask(start_hf(folder, max_new_tokens=8), [question("shoe")])
    ask(start_hf(folder, max_new_tokens=8, chat=False), [question("shoe")])
    assert [tokenizer.decode(list(prompt)) for prompt in tokens] == ["<user>shoe<assistant>", "shoe"]


def test_settings_for_sampling_in_a_checkpoint_do_not_shape_answers(tmp_path, start_hf, tokens) -> None:
    folder = write_checkpoint(tmp_path / "m")
    ask(start_hf(folder, guided=False, max_new_tokens=30), [question(TEXTS[0])])
    plain = dict(tokens)
    tokens.clear()
    config = json.loads((folder / "generation_config.json").read_text())
    config |= {"do_sample": True, "temperature": 3.0, "repetition_penalty": 5.0, "top_k": 3}
    (folder / "generation_config.json").write_text(json.dumps(config))
    ask(start_hf(folder, guided=False, max_new_tokens=30), [question(TEXTS[0])])
    assert tokens == plain


def test_a_prompt_longer_than_the_model_is_abstained_from(tmp_path, start_hf, caplog) -> None:
    runtime = start_hf(write_checkpoint(tmp_path / "m", positions=128), max_new_tokens=64)
    assert ask(runtime, [question("x" * 65)]) == [Status.ERROR]
    assert "exceed the model's 128 positions" in caplog.text
    assert isinstance(ask(runtime, [question("x" * 64)])[0], Generated)


def test_a_question_longer_than_max_seq_len_is_abstained_from(checkpoint, start_hf, caplog) -> None:
    runtime = start_hf(checkpoint, max_seq_len=70, max_new_tokens=60, guided=False)
    short, long = ask(runtime, [question("a" * 10), question("a" * 11)])
    assert isinstance(short, Generated)
    assert long == Status.ERROR
    assert "a prompt of 11 tokens and max_new_tokens 60 exceed max_seq_len 70" in caplog.text
