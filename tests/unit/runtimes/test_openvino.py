# SPDX-License-Identifier: Apache-2.0
"""The ``openvino`` runtime on the demo's LLMs: log-probabilities are those of a forward pass."""

from __future__ import annotations

import functools
import json
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai
import pytest

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, RuntimeSettings
from quorum.runtimes.offsets import TokenEnds
from quorum.runtimes.openvino import _added_tokens, _joins_bytes, _literals, _split_tokens
from quorum.runtimes.options import OpenVinoOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import parse_answer
from quorum.tasks.prompt import build_prompt
from quorum_contract import Status

MODELS = Path(__file__).parents[3] / "examples" / "demo" / "models"
DEMO = sorted(folder.parent.name for folder in MODELS.glob("*/openvino_model.xml"))
CATALOGUE = Catalogue.of(
    [
        Attribute("brand", normaliser="exact"),
        Attribute("color", values=("navy blue", "red")),
        Attribute("size"),
    ]
)
NAMES = tuple(CATALOGUE.attributes)
TEXTS = ("red shoe 42", "Velmora größe № 5 trail running shoes, navy", "navy")


def prompt_of(text: str) -> str:
    return build_prompt(CATALOGUE, "bare", text, "shoes", NAMES)


def question(text: str) -> Question:
    schema = json.dumps(answer_schema(CATALOGUE, NAMES))
    return Question(prompt_of(text), schema, text, "shoes", NAMES, time.monotonic_ns() + 60 * 10**9)


def ask(model: str, texts: Sequence[str], root: Path = MODELS, **options: Any) -> list[Reply]:
    runtime = create(
        RuntimeSettings("m", root, OpenVinoOptions(**{"model": model, "chat": False, **options}))
    )
    replies: dict[int, Reply] = {}
    left = threading.Semaphore(0)

    def keep(number: int, reply: Reply) -> None:
        replies[number] = reply
        left.release()

    for number, text in enumerate(texts):
        runtime.submit(question(text), lambda reply, number=number: keep(number, reply))  # type: ignore[misc]
    for _ in texts:
        assert left.acquire(timeout=60)
    runtime.close()
    return [replies[number] for number in range(len(texts))]


@functools.cache
def spied(model: str) -> tuple[list[Reply], dict[str, list[int]]]:
    """Replies to TEXTS, and the tokens of each."""
    generated: dict[str, list[int]] = {}
    find = TokenEnds.find

    def spy(self: TokenEnds, tokens: Sequence[int], text: str) -> list[int]:
        generated[text] = list(tokens)
        return find(self, tokens, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenEnds, "find", spy)
        return ask(model, TEXTS), generated


def forward(model: str, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
    """The log-probability of each token of the answer, by one pass without a cache of earlier ones."""
    properties = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    compiled = openvino.Core().compile_model(MODELS / model / "openvino_model.xml", "CPU", properties)
    tokens = np.array([[*prompt, *answer]], np.int64)
    inputs = {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "position_ids": np.arange(tokens.shape[1])[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    logits = (
        compiled.create_infer_request().infer(inputs)["logits"][0, len(prompt) - 1 : -1].astype(np.float64)
    )
    return [float(row[token] - np.logaddexp.reduce(row)) for row, token in zip(logits, answer, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("model", DEMO)
def test_scores_are_those_of_a_forward_pass(model: str) -> None:
    replies, generated = spied(model)
    tokenizer = genai.Tokenizer(str(MODELS / model))
    for text, reply in zip(TEXTS, replies, strict=True):
        assert isinstance(reply, Generated)
        prompt = tokenizer.encode(prompt_of(text)).input_ids.data[0].tolist()
        answer = generated[reply.text]
        expected = forward(model, prompt, answer)
        assert tokenizer.decode(answer) == reply.text
        assert list(reply.log_probs) == pytest.approx(expected, abs=1e-3)
        pieces = [tokenizer.decode(answer[: count + 1]) for count in range(len(answer))]
        for name, vote in zip(NAMES, parse_answer(CATALOGUE, NAMES, *reply[:3]), strict=True):
            assert vote.status is Status.ANSWERED
            start = reply.text.index(f'"{name}":"') + len(f'"{name}":"')
            end = reply.text.index('"', start) + 1
            chosen = [
                log_prob
                for log_prob, before, after in zip(expected, ["", *pieces], pieces, strict=False)
                if len(after) > start and len(before) < end
            ]
            assert vote.score == pytest.approx(sum(chosen), abs=1e-3)


def test_without_scores_the_text_is_the_same() -> None:
    plain, scored = ask(DEMO[0], TEXTS, scores=False), spied(DEMO[0])[0]
    assert plain == [
        Generated(reply.text, usage=reply.usage) for reply in scored if isinstance(reply, Generated)
    ]
    assert all(
        isinstance(reply, Generated) and len(reply.ends) == len(reply.log_probs) > 9 for reply in scored
    )


@pytest.mark.parametrize("model", DEMO)
def test_tokens_are_counted_and_prompts_are_those_of_the_tokeniser(model: str) -> None:
    tokenizer = genai.Tokenizer(str(MODELS / model))
    for text, reply in zip(TEXTS, spied(model)[0], strict=True):
        assert isinstance(reply, Generated)
        assert reply.usage is not None
        prompt, answer, cached = reply.usage
        assert prompt == tokenizer.encode(prompt_of(text)).input_ids.shape[1]
        assert answer == len(reply.log_probs)
        assert cached == 0, "it does not say"


def test_a_joined_text_is_what_the_tokens_decode_to() -> None:
    """The demo's detokenizers only join bytes; others change the text, and are asked."""
    for model in DEMO:
        assert _joins_bytes(MODELS / model / "openvino_detokenizer.xml")
        tokenizer = genai.Tokenizer(str(MODELS / model))
        ends = TokenEnds(lambda lists, tokenizer=tokenizer: tokenizer.decode(lists))  # type: ignore[misc]
        width, told = len(tokenizer.get_vocab()), 0
        random = np.random.default_rng(1)
        for _ in range(200):
            tokens = random.integers(0, width, random.integers(0, 9)).tolist()
            joined = ends.join(tokens)
            assert joined in (None, tokenizer.decode(tokens))
            told += joined is not None
        assert told > 50


def test_a_detokenizer_that_changes_text_is_known(tmp_path: Path) -> None:
    plain = (MODELS / DEMO[0] / "openvino_detokenizer.xml").read_text()
    other = plain.replace('type="FuzeRagged"', 'type="RegexNormalization"')
    assert other != plain
    (tmp_path / "openvino_detokenizer.xml").write_text(other)
    assert not _joins_bytes(tmp_path / "openvino_detokenizer.xml")


def test_added_tokens_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    for model in DEMO:
        added = json.loads((MODELS / model / "tokenizer.json").read_text())["added_tokens"]
        assert added
        assert _split_tokens(MODELS / model / "openvino_tokenizer.xml") == {one["content"] for one in added}
    xml = (MODELS / DEMO[0] / "openvino_tokenizer.xml").read_text()
    (tmp_path / "openvino_tokenizer.xml").write_text(
        xml.replace("SpecialTokensSplit", "SentencepieceTokenizer")
    )
    assert _added_tokens(tmp_path) == set()
    (tmp_path / "tokenizer.json").write_text("{")
    assert _added_tokens(tmp_path) == set()
    shutil.copy(MODELS / DEMO[0] / "tokenizer.json", tmp_path)
    assert _added_tokens(tmp_path) == {"<|endoftext|>"}


def test_a_pattern_of_added_tokens_is_unescaped() -> None:
    pattern = r"(\<\|a\|\>|\[INST\]|\<｜User｜\>|x\ y\\)|(?:\s*)(\<mask\>)(?:\s*)"
    assert _literals(pattern) == {"<|a|>", "[INST]", "<｜User｜>", "x y\\", "<mask>"}


def test_marks_of_a_chat_template_are_removed(tmp_path: Path) -> None:
    shutil.copytree(MODELS / DEMO[0], tmp_path / "m")
    config = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for m in messages %}<turn>{{ m['content'] }}<|endoftext|>{% endfor %}"
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps(config))
    marked, plain = (
        ask("m", ["red<turn> shoe <|endoftext|>", "red shoe"], root=tmp_path, chat=chat)
        for chat in (True, False)
    )
    assert marked[0] == marked[1]
    assert plain[0] != plain[1]


@pytest.mark.parametrize("model", DEMO[:1])
def test_a_cancelled_question_is_stopped_and_no_other(model: str) -> None:
    runtime = create(RuntimeSettings("m", MODELS, OpenVinoOptions(model=model, chat=False)))
    replies: dict[str, Reply] = {}
    left = threading.Semaphore(0)

    def keep(text: str, reply: Reply) -> None:
        replies[text] = reply
        left.release()

    for text in TEXTS:
        asked = question(text)
        runtime.submit(asked, lambda reply, text=text: keep(text, reply))  # type: ignore[misc]
        if text == TEXTS[1]:
            asked.cancellation.cancel()
    for _ in TEXTS:
        assert left.acquire(timeout=60)
    runtime.close()
    assert replies[TEXTS[1]] == Status.TIMEOUT
    assert all(isinstance(replies[text], Generated) for text in (TEXTS[0], TEXTS[2]))
