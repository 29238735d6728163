# SPDX-License-Identifier: Apache-2.0
"""A tuned LLM is served with the prompts of its training, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import quorum
from quorum.runtimes import create
from quorum.runtimes.base import RuntimeConfigError, RuntimeSettings
from quorum.runtimes.options import read_options
from quorum.runtimes.tuned_prompt import check_prompts, prompts_for, read_tuned_prompts
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import Style, prompt_hash

RELEVANCE = Attribute(
    "relevance", "How well?", ("good", "bad"), kind="label", allow_na=False, fields=("query", "title")
)
CATALOGUE = Catalogue.of([Attribute("entities", values=("color",), kind="spans"), RELEVANCE])
SETS = [("entities",), ("relevance",)]


def write_card(folder: Path, style: Style = "bare", chat: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    prompts = msgspec.to_builtins(prompts_for(CATALOGUE, style, chat, SETS))
    (folder / "card.json").write_text(json.dumps({"schema_version": 1, "prompts": prompts, "rows": 3}))
    return folder


def settings(
    root: Path, runtime: str, options: dict[str, Any], catalogue: Catalogue = CATALOGUE, style: Any = "bare"
) -> RuntimeSettings[Any]:
    return RuntimeSettings("smol", root, read_options(runtime, options), catalogue=catalogue, style=style)


NAMED: list[tuple[str, dict[str, Any]]] = [
    ("hf", {"model": "base", "lora": "tuned"}),
    ("hf", {"model": "tuned"}),
    ("openvino", {"model": "tuned"}),
    ("tensorrt_llm", {"model": "base", "lora": {"path": "tuned"}}),
    ("tensorrt_llm", {"model": "tuned"}),
    ("engine", {"engine": "base", "lora": {"path": "tuned"}}),
]


@pytest.mark.parametrize(("runtime", "options"), NAMED)
def test_another_style_is_refused_with_both_hashes_and_the_fix(
    runtime: str, options: dict[str, Any], tmp_path: Path
) -> None:
    write_card(tmp_path / "tuned")
    check_prompts(settings(tmp_path, runtime, options))
    with pytest.raises(RuntimeConfigError) as raised:
        check_prompts(settings(tmp_path, runtime, options, style="instruct"))
    message = str(raised.value)
    for style in ("bare", "instruct"):
        assert prompt_hash(CATALOGUE, style, ["entities"]) in message
    assert message.startswith("member 'smol': ")
    assert "for entities" in message
    assert "set `prompt: bare` for this member" in message


def test_validate_finds_another_style_before_the_start(tmp_path: Path) -> None:
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
        for file in ("config.json", "adapter_config.json", "tokenizer.json", "model.safetensors"):
            (tmp_path / name / file).write_text("{}")
        (tmp_path / name / "adapter_model.safetensors").write_bytes(b"")
    write_card(tmp_path / "tuned")
    options = {"model": "base", "lora": "tuned"}
    member = {"name": "smol", "runtime": "hf", "options": options, "prompt": "bare"}
    attributes = {"entities": {"kind": "spans", "values": ["color"]}}
    path = tmp_path / "deploy.yaml"
    path.write_text(json.dumps({"members": [member], "attributes": attributes}))
    quorum.validate(quorum.load_deployment(path))
    path.write_text(json.dumps({"members": [member | {"prompt": "instruct"}], "attributes": attributes}))
    with pytest.raises(quorum.QuorumError, match=r"members\[0\]: member 'smol': .*set `prompt: bare`"):
        quorum.validate(quorum.load_deployment(path))


@pytest.mark.parametrize(
    ("runtime", "lora"), [("openvino", "tuned"), ("tensorrt_llm", {"path": "tuned"})], ids=lambda v: str(v)
)
def test_validate_finds_an_adapter_that_would_be_served_in_part(
    runtime: str, lora: Any, tmp_path: Path
) -> None:
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
    for file in ("openvino_model.xml", "openvino_tokenizer.xml", "openvino_detokenizer.xml"):
        (tmp_path / "base" / file).write_text("")
    (tmp_path / "tuned" / "adapter_model.safetensors").write_bytes(b"")
    member = {"name": "smol", "runtime": runtime, "options": {"model": "base", "lora": lora}}
    path = tmp_path / "deploy.yaml"
    path.write_text(json.dumps({"members": [member], "attributes": {"color": {}}}))
    adapter = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "peft_type": "LORA"}
    (tmp_path / "tuned" / "adapter_config.json").write_text(json.dumps(adapter))
    quorum.validate(quorum.load_deployment(path))
    (tmp_path / "tuned" / "adapter_config.json").write_text(json.dumps(adapter | {"use_dora": True}))
    with pytest.raises(quorum.QuorumError, match=r"members\[0\]: member 'smol': lora: .* DoRA magnitudes"):
        quorum.validate(quorum.load_deployment(path))


def test_a_changed_question_is_refused_where_the_prompt_has_it(tmp_path: Path) -> None:
    changed = Catalogue.of([CATALOGUE.get("entities"), replace(RELEVANCE, question="How badly?")])
    options = {"model": "base", "lora": "tuned"}
    write_card(tmp_path / "tuned")
    check_prompts(settings(tmp_path, "hf", options, changed))  # style "bare" asks no question
    write_card(tmp_path / "tuned", "instruct")
    with pytest.raises(RuntimeConfigError, match=r"another prompt for relevance: sha256.*tune it again"):
        check_prompts(settings(tmp_path, "hf", options, changed, "instruct"))


def test_changed_fields_are_refused_in_every_style(tmp_path: Path) -> None:
    changed = Catalogue.of([replace(RELEVANCE, fields=("query", "title", "brand"))])
    write_card(tmp_path / "tuned")
    with pytest.raises(RuntimeConfigError, match="another prompt for relevance"):
        check_prompts(settings(tmp_path, "hf", {"model": "tuned"}, changed))


def test_an_attribute_that_is_not_served_does_not_matter(tmp_path: Path) -> None:
    write_card(tmp_path / "tuned")
    only = Catalogue.of([CATALOGUE.get("entities")])
    check_prompts(settings(tmp_path, "hf", {"model": "tuned"}, only))


def test_an_adapter_is_compared_on_the_attributes_that_it_answers(tmp_path: Path) -> None:
    write_card(tmp_path / "tuned")
    changed = Catalogue.of([CATALOGUE.get("entities"), replace(RELEVANCE, fields=("query",))])
    one = {"model": "base", "adapters": {"entities": "tuned"}}
    check_prompts(settings(tmp_path, "hf", one, changed))
    both = {"model": "base", "adapters": {"entities": "tuned", "relevance": "tuned"}}
    with pytest.raises(RuntimeConfigError, match="another prompt for relevance"):
        check_prompts(settings(tmp_path, "hf", both, changed))


def test_the_chat_template_is_part_of_the_prompt(tmp_path: Path) -> None:
    write_card(tmp_path / "tuned", chat=True)
    check_prompts(settings(tmp_path, "hf", {"model": "tuned"}))
    check_prompts(settings(tmp_path, "hf", {"model": "tuned", "chat": True}))
    with pytest.raises(RuntimeConfigError, match=r"with the chat template.*set `chat: true`"):
        check_prompts(settings(tmp_path, "hf", {"model": "tuned", "chat": False}))


def test_what_was_not_tuned_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    check_prompts(settings(tmp_path, "hf", {"model": "base"}))
    write_card(tmp_path / "tuned")
    check_prompts(settings(tmp_path, "hf", {"model": "tuned"}, style=None))
    # The second is the card of an encoder.
    for card in ('{"schema_version": 1}', '{"schema_version": 1, "prompts": {}}'):
        (tmp_path / "base" / "card.json").write_text(card)
        assert read_tuned_prompts(tmp_path / "base") is None


def test_a_card_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(RuntimeConfigError, match=r"card\.json cannot be read .* tune again"):
        check_prompts(settings(tmp_path, "hf", {"model": "."}))


def test_a_runtime_is_refused_before_it_loads_anything(tmp_path: Path) -> None:
    write_card(tmp_path / "tuned")
    with pytest.raises(RuntimeConfigError, match="another prompt for entities"):
        create(settings(tmp_path, "tensorrt_llm", {"model": "tuned"}, style="instruct"))
