# SPDX-License-Identifier: Apache-2.0
"""The ``hf`` runtime on a real GPU; skipped where there is none."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import write_adapter, write_checkpoint

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, RuntimeSettings
from quorum.runtimes.options import HfOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema

pytestmark = pytest.mark.gpu
CATALOGUE = Catalogue.of([Attribute("color", values=("red", "navy blue")), Attribute("brand")])
NAMES = ("color", "brand")
TEXTS = [f"shoe number {number} in red" for number in range(12)]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """PyTorch takes seconds to import: not in every process that collects these tests."""
    global torch, transformers, Answers
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no GPU here (no nvidia-smi)")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here: run `make setup-hf`")
    transformers = pytest.importorskip("transformers", reason="run `make setup-hf`")
    if not torch.cuda.is_available():
        pytest.skip("no GPU that PyTorch can use")
    from quorum.runtimes.hf_batch import Answers


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("hf") / "llama")


def ask(folder: Path, adapter: str | None = None, **options: Any) -> list[Generated]:
    runtime = create(RuntimeSettings("m", folder.parent, HfOptions(model=folder.name, **options)))
    assert runtime._host.loaded.model.device.type == "cuda"
    found: dict[str, Any] = {}
    left = threading.Semaphore(0)
    schema = json.dumps(answer_schema(CATALOGUE, NAMES))
    try:
        for text in TEXTS:
            deadline = time.monotonic_ns() + 60 * 10**9
            question = Question(text, schema, text, "", NAMES, deadline, adapter=adapter)
            runtime.submit(question, lambda reply, text=text: (found.update({text: reply}), left.release()))
        for _ in TEXTS:
            assert left.acquire(timeout=60)
    finally:
        runtime.close()
    return [found[text] for text in TEXTS]


@pytest.mark.parametrize("batching", ["dynamic", "continuous"])
def test_greedy_answers_are_those_of_transformers(checkpoint: Path, batching: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).to("cuda")
    expected = []
    for text in TEXTS:
        given = tokenizer(text, return_tensors="pt").to("cuda")
        out = model.generate(**given, do_sample=False, max_new_tokens=30)[0, given["input_ids"].shape[1] :]
        expected.append(tokenizer.decode(out, skip_special_tokens=True))
    said = ask(checkpoint, guided=False, max_new_tokens=30, dtype="float32", batching=batching)
    assert [reply.text for reply in said] == expected


@pytest.mark.parametrize("batching", ["dynamic", "continuous"])
@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16"])
def test_guided_answers_are_valid_in_every_precision(checkpoint: Path, dtype: str, batching: str) -> None:
    for reply in ask(checkpoint, dtype=dtype, batching=batching, max_new_tokens=300):
        answer = json.loads(reply.text)
        assert list(answer) == list(NAMES)
        assert answer["color"] in {"red", "navy blue", "n/a"}


def test_an_adapter_in_a_mixed_batch_answers_like_the_merged_one(checkpoint: Path) -> None:
    pytest.importorskip("peft", reason="run `make setup-hf`")
    write_adapter(checkpoint.parent / "adapter", checkpoint)
    same = {"dtype": "float32", "max_new_tokens": 60, "adapter": "adapter"}
    merged = ask(checkpoint, lora="adapter", **same)
    mixed = ask(checkpoint, adapters={"color": "adapter"}, **same)
    assert [reply.text for reply in mixed] == [reply.text for reply in merged]


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("batching", ["dynamic", "continuous"])
def test_log_probabilities_are_those_of_a_forward_pass(
    checkpoint: Path, batching: str, guided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[tuple[int, ...], list[int]] = {}
    finish = Answers.finish

    def spy(self: Answers, job: Any) -> bool:
        answers[tuple(job.prompt)] = list(job.answer)
        return finish(self, job)

    monkeypatch.setattr(Answers, "finish", spy)
    replies = ask(checkpoint, dtype="float32", batching=batching, guided=guided, max_new_tokens=60)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).to("cuda")
    for text, reply in zip(TEXTS, replies, strict=True):
        prompt = tokenizer(text)["input_ids"]
        answer = answers[tuple(prompt)]
        tokens = torch.tensor([prompt + answer], device="cuda")
        with torch.inference_mode():
            logits = model(tokens).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = logits.gather(1, tokens[0, len(prompt) :].unsqueeze(1)).squeeze(1).tolist()
        assert reply.log_probs == pytest.approx(expected, abs=1e-2)
