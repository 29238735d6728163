# SPDX-License-Identifier: Apache-2.0
"""The stand-in for TensorRT-LLM has the documented signatures, and refuses what they do not allow."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TABLES = json.loads((Path(__file__).parent / "data" / "llm_api.json").read_text("utf-8"))
STANDIN = Path(__file__).parents[1] / "standin"
CLASSES = {
    "GuidedDecodingParams": "tensorrt_llm.llmapi",
    "KvCacheConfig": "tensorrt_llm.llmapi",
    "SamplingParams": "tensorrt_llm",
    "LoRARequest": "tensorrt_llm.executor",
    "LoraConfig": "tensorrt_llm.llmapi.llm_args",
    "CompletionOutput": "tensorrt_llm.llm",
    "Logprob": "tensorrt_llm.llm",
}


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    sys.path.insert(0, str(STANDIN))
    yield
    sys.path.remove(str(STANDIN))
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt_llm"]:
        del sys.modules[name]


def made(name: str) -> Any:
    return getattr(__import__(CLASSES[name], fromlist=[name]), name)


def shape(parameters: Any) -> dict[str, list[Any]]:
    return {
        p.name: [p.annotation, "<required>" if p.default is inspect.Parameter.empty else p.default]
        for p in parameters
        if p.name != "self" and p.kind is not inspect.Parameter.VAR_KEYWORD
    }


def fields_of(cls: Any) -> dict[str, list[Any]]:
    found = {}
    for one in dataclasses.fields(cls):
        default: Any = "<required>"
        if one.default is not dataclasses.MISSING:
            default = one.default
        elif one.default_factory is not dataclasses.MISSING:
            default = "<factory>"
        found[one.name] = [str(one.type).replace('"', "'"), default]
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_the_documented_fields(name: str) -> None:
    assert fields_of(made(name)) == TABLES[name]


def test_the_llm_has_the_documented_methods() -> None:
    from tensorrt_llm import LLM
    from tensorrt_llm.llm import KEYWORDS, RequestOutput

    constructor = {k: [t.replace('"', "'"), d] for k, (t, d) in shape(parameters(LLM.__init__)).items()}
    assert constructor == TABLES["LLM.__init__"]
    assert sorted(KEYWORDS) == TABLES["LLM.__init__ keywords"]
    for cls, methods in (
        (LLM, ("generate_async", "shutdown")),
        (RequestOutput, ("abort", "aborted", "result")),
    ):
        for method in methods:
            table = TABLES[f"{cls.__name__}.{method}"]
            assert shape(parameters(getattr(cls, method))) == table, method
    assert inspect.iscoroutinefunction(RequestOutput.aresult)


def parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("SamplingParams", {"max_new_tokens": 5}),
        ("SamplingParams", {"max_tokens": "5"}),
        ("SamplingParams", {"max_tokens": True}),
        ("SamplingParams", {"guided_decoding": {"regex": "a"}}),
        ("GuidedDecodingParams", {"json_schema": "{}"}),
        ("GuidedDecodingParams", {"regex": 3}),
        ("KvCacheConfig", {"free_gpu_mem_fraction": 0.5}),
        ("KvCacheConfig", {"max_gpu_total_bytes": 1.5}),
        ("LoraConfig", {"max_lora_rank": "8"}),
        ("LoraConfig", {"swap_gate_up_proj": True}),
        ("LoRARequest", {"lora_name": "a", "lora_int_id": "1"}),
    ],
)
def test_what_is_not_documented_is_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        made(name)(**wrong)


def test_values_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        made("KvCacheConfig")(free_gpu_memory_fraction=1.2)
    with pytest.raises(ValueError, match="does not exist"):
        made("LoRARequest")(lora_name="a", lora_int_id=1, lora_path=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="'hf' or 'nemo'"):
        made("LoRARequest")(lora_name="a", lora_int_id=1, lora_path=str(tmp_path), lora_ckpt_source="peft")
    with pytest.raises(ValueError, match="'hf' or 'nemo'"):
        made("LoraConfig")(lora_ckpt_source="peft")
    with pytest.raises(TypeError, match="positional"):
        made("LoraConfig")([str(tmp_path)])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"temperature": -0.5}, "temperature"),
        ({"n": 2, "best_of": 1}, "cannot be less than n"),
        ({"n": 2, "top_k": 1}, "Greedy decoding"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"guided_decoding": {"regex": "a", "grammar": "b"}}, "Only one guide"),
    ],
)
def test_sampling_is_checked_when_it_is_made(wrong: dict[str, Any], says: str) -> None:
    if guide := wrong.get("guided_decoding"):
        wrong = {"guided_decoding": made("GuidedDecodingParams")(**guide)}
    with pytest.raises(ValueError, match=says):
        made("SamplingParams")(**wrong)


def test_an_llm_for_adapters_needs_their_modules(tmp_path: Path) -> None:
    from tensorrt_llm import LLM

    with pytest.raises(AssertionError, match="at least one lora target module"):
        LLM(model=str(tmp_path), lora_config=made("LoraConfig")())


def test_the_llm_refuses_unknown_arguments(tmp_path: Path) -> None:
    from tensorrt_llm import LLM

    with pytest.raises(ValueError, match="free_gpu_memory_fraction"):
        LLM(model=str(tmp_path), free_gpu_memory_fraction=0.5)
    with pytest.raises(TypeError, match="tensor_parallel_size"):
        LLM(model=str(tmp_path), tensor_parallel_size="2")
