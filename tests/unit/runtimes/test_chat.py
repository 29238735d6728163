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
