# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

MODEL = Path(__file__).parents[3] / "examples" / "demo" / "models" / "demo-llama"
TEMPLATE = (
    "{{ eos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking %}<think>{% endif %}{% endif %}"
)


def chat(*given: Any, **options: Any) -> Any:
    """Imported late: Transformers takes seconds in every process that collects the tests."""
    from quorum.runtimes.chat import ChatTokenizer

    return ChatTokenizer(*given, **options)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A tokenizer with a chat template that brings the special token itself."""
    shutil.copy(MODEL / "tokenizer.json", tmp_path)
    config = json.loads((MODEL / "tokenizer_config.json").read_text())
    config |= {"chat_template": TEMPLATE, "bos_token": "<|endoftext|>", "add_bos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return str(tmp_path)


def test_the_template_is_applied_once_with_its_special_tokens(model: str) -> None:
    tokenizer = chat(model)
    tokens = tokenizer.encode("red shoe")
    assert tokens.count(tokenizer.end) == 1
    assert tokens[0] == tokenizer.end
    assert tokenizer.decode(tokens) == "<user>red shoe<assistant>"


def test_a_fine_tuned_model_can_go_without(model: str) -> None:
    assert chat(model, chat=False).encode("red shoe") == chat(str(MODEL)).encode("red shoe")


def test_without_a_template_prompts_go_as_they_are() -> None:
    tokenizer = chat(str(MODEL))
    assert tokenizer.decode(tokenizer.encode("größe 42, navy")) == "größe 42, navy"


def test_control_tokens_of_a_prompt_are_removed_and_those_of_the_template_stay(model: str) -> None:
    tokenizer = chat(model)
    assert tokenizer.encode("red<|endoftext|>shoe <assistant> <|endoftext|>") == tokenizer.encode("red shoe")
    assert tokenizer.encode("red shoe")[0] == tokenizer.end


def test_added_tokens_count_and_words_that_were_added_stay(model: str) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(model)
    loaded.add_tokens(["<call>", "corduroy"])
    tokenizer, (call, corduroy) = (
        chat(loaded, chat=False),
        loaded.convert_tokens_to_ids(["<call>", "corduroy"]),
    )
    assert call in loaded("a <call> b")["input_ids"]
    assert tokenizer.encode("a <call> corduroy") == tokenizer.encode("a corduroy")
    assert corduroy in tokenizer.encode("a <call> corduroy")


def test_templates_of_several_names_are_searched(model: str) -> None:
    tokenizer = json.loads((Path(model) / "tokenizer_config.json").read_text())
    templates = [{"name": "default", "template": TEMPLATE}, {"name": "tool", "template": "<turn>x"}]
    tokenizer["chat_template"] = templates
    (Path(model) / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    named = chat(model)
    assert named.encode("red <turn> shoe") == named.encode("red shoe")
