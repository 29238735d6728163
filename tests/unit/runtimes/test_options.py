# SPDX-License-Identifier: Apache-2.0
"""Options: defaults, what is refused with which words, and the way through the model repository and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from quorum.build.shapes import QUANTISATIONS
from quorum.runtimes.option_base import OptionError, find_missing
from quorum.runtimes.options import (
    RUNTIMES,
    SHARED,
    EngineOptions,
    HfOptions,
    Lora,
    OpenVinoOptions,
    Quantisation,
    TensorRtLlmOptions,
    read_options,
)

NEEDED: dict[str, dict[str, Any]] = {
    "openvino": {"model": "m"},
    "hf": {"model": "m"},
    "tensorrt_llm": {"model": "m"},
    "engine": {"engine": "e"},
    "replay": {"votes": "v"},
    "catalogue": {"products": "p"},
    "encoder": {"model": "m"},
    "openai": {"base_url": "https://api.example.com/v1", "model": "m"},
}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_options_survive_being_written_with_their_defaults(runtime: str) -> None:
    options = read_options(runtime, NEEDED[runtime])
    written = json.loads(json.dumps(msgspec.to_builtins(options)))
    assert set(written) == {field.name for field in msgspec.structs.fields(RUNTIMES[runtime])}
    assert read_options(runtime, written) == options
    assert isinstance(options, RUNTIMES[runtime])


def test_lists_and_adapters_survive_being_written() -> None:
    given: dict[str, Any] = {
        "model": "m",
        "gpus": [1, 3],
        "tensor_parallel": 2,
        "lora": {"path": "a/shop"},
        "kv_cache_gib": 4,
    }
    options = read_options("tensorrt_llm", given)
    assert options == TensorRtLlmOptions(
        model="m", gpus=(1, 3), tensor_parallel=2, lora=Lora("a/shop"), kv_cache_gib=4.0
    )
    assert read_options("tensorrt_llm", json.loads(json.dumps(msgspec.to_builtins(options)))) == options


def test_null_counts_as_left_out() -> None:
    assert read_options("hf", {"model": "m", "threads": None, "chat": None}) == HfOptions(model="m")


@pytest.mark.parametrize(
    ("runtime", "given", "key", "message"),
    [
        ("magic", {}, "runtime", "use one of catalogue, encoder, engine, hf, openai, openvino, replay"),
        ("replay", {}, "votes", "'votes' is missing, replay needs it: a path; record one"),
        ("tensorrt_llm", {}, "model", "'model' is missing, .*Hugging Face id"),
        ("hf", {"model": None}, "model", "'model' is missing"),
        ("hf", {"model": "m", "max_batsh": 3}, "max_batsh", "did you mean 'max_batch'"),
        ("replay", {"votes": "v", 7: 3}, 7, "it has votes, recorded_as, latency_ms"),
        ("hf", {"model": 3}, "model", "3 is not a path; save a checkpoint there"),
        ("hf", {"model": "m", "threads": 1.5}, "threads", "1.5 is not a whole number"),
        ("hf", {"model": "m", "threads": True}, "threads", "True is not a whole number"),
        ("hf", {"model": "m", "guided": 1}, "guided", "1 is not true or false"),
        ("hf", {"model": "m", "device": 0}, "device", "0 is not text"),
        ("replay", {"votes": "v", "latency_ms": "4"}, "latency_ms", "'4' is not a number"),
        ("hf", {"model": "m", "dtype": "int3"}, "dtype", "'int3' is unknown; use one of auto, float32"),
        ("openvino", {"model": "m", "max_new_tokens": 0}, "max_new_tokens", "0 is not .* of at least 1"),
        ("engine", {"engine": "e", "lora": {"path": "p", "scale": 2}}, "lora", "may have name"),
        ("engine", {"engine": "e", "lora": {}}, "lora", "it has path, and may have name"),
        ("engine", {"engine": "e", "kv_cache_gib": float("inf")}, "kv_cache_gib", "not an amount of memory"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_with_the_fix(runtime: str, given: Any, key: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        read_options(runtime, given)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("runtime", "given"),
    [
        ("replay", {"latency_ms": -1}),
        ("replay", {"latency_ms": float("nan")}),
        ("replay", {"fail_share": 1.5}),
        ("replay", {"hang_share": -0.1}),
        ("replay", {"seed": 1 << 64}),
        ("openvino", {"threads": -1}),
        ("openvino", {"kv_cache_blocks": -1}),
        ("openvino", {"max_new_tokens": 1 << 40}),
        ("hf", {"threads": 0}),
        ("tensorrt_llm", {"max_batch_size": 0}),
        ("tensorrt_llm", {"max_tokens": -5}),
        ("tensorrt_llm", {"max_num_tokens": 1 << 40}),
        ("tensorrt_llm", {"max_seq_len": 0}),
        ("tensorrt_llm", {"tensor_parallel": 1 << 40}),
        ("tensorrt_llm", {"gpus": [-1]}),
        ("tensorrt_llm", {"lora": {"path": "p", "rank": 0}}),
        ("tensorrt_llm", {"kv_cache_fraction": float("nan")}),
        ("engine", {"dtype": "int3"}),
        ("engine", {"quantization": "fp9"}),
    ],
)
def test_values_out_of_range_are_refused_by_name(runtime: str, given: dict[str, Any]) -> None:
    ((key, value),) = given.items()
    with pytest.raises(OptionError, match=re.escape(repr(value))) as caught:
        read_options(runtime, {**NEEDED[runtime], **given})
    assert caught.value.key == key


def test_every_quantisation_that_an_option_may_name_has_a_size() -> None:
    assert set(get_args(Quantisation)) == set(QUANTISATIONS)


def test_the_llm_api_knows_quantisations_that_no_engine_is_built_with() -> None:
    options = read_options("tensorrt_llm", {"model": "m", "quantization": "fp8_block_scales"})
    assert options == TensorRtLlmOptions(model="m", quantization="fp8_block_scales")


def test_zero_leaves_the_choice_to_openvino() -> None:
    options = read_options("openvino", {"model": "m", "threads": 0, "kv_cache_blocks": 0})
    assert options == OpenVinoOptions(model="m", threads=0, kv_cache_blocks=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus": [0, 1]}, r"\[0, 1\] are 2 GPUs, but tensor_parallel is 1"),
        ({"gpus": [0], "tensor_parallel": 2}, "are 1 GPUs, but tensor_parallel is 2"),
        ({"gpus": [0, 0], "tensor_parallel": 2}, "not a list of different GPU numbers"),
        ({"gpus": ["0"]}, "not a list of different GPU numbers"),
        ({"tensor_parallel": 0}, "at least 1"),
        ({"kv_cache_fraction": 40}, "between 0 and 1"),
        ({"kv_cache_gib": 0}, "more than 0"),
    ],
)
def test_gpu_options_that_only_fail_at_load_are_refused(options: dict[str, Any], message: str) -> None:
    for runtime, model in (("tensorrt_llm", {"model": "some/model"}), ("engine", {"engine": "engines/m"})):
        with pytest.raises(OptionError, match=message):
            read_options(runtime, {**model, **options})


def test_constraints_hold_for_options_made_in_code_too() -> None:
    options = OpenVinoOptions(model="m")
    with pytest.raises(OptionError, match="0 is not a whole number of at least 1"):
        msgspec.structs.replace(options, max_new_tokens=0)
    with pytest.raises(AttributeError):
        options.threads = 2  # type: ignore[misc]


def test_members_may_differ_in_options_that_exist() -> None:
    for runtime, names in SHARED.items():
        assert names < set(RUNTIMES[runtime].__struct_fields__)


def test_missing_files_are_named_with_the_fix(tmp_path: Path) -> None:
    options = HfOptions(model="m", lora="a", adapters={"color": "b", "size": "a"})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "adapter_config.json").touch()
    assert {key for key, _ in find_missing(options, tmp_path)} == {"model", "lora", "adapters.size"}
    (tmp_path / "m").mkdir()
    (problem,) = [problem for key, problem in find_missing(options, tmp_path) if key == "model"]
    assert problem.startswith(f"{tmp_path / 'm'} has no config.json; save a checkpoint there")
    (tmp_path / "m" / "config.json").touch()
    assert find_missing(HfOptions(model="m"), tmp_path) == []
    assert [key for key, _ in find_missing(EngineOptions(engine="m", tokenizer="t"), tmp_path)] == [
        "tokenizer"
    ]


@pytest.mark.parametrize("given", [{"faults": "f"}, {"memory_limit_gib": 1}])
def test_only_an_isolated_replay_has_faults_and_a_memory_limit(given: dict[str, Any]) -> None:
    (key,) = given
    with pytest.raises(OptionError, match="set `isolated: true` as well") as error:
        read_options("replay", {"votes": "v", **given})
    assert error.value.key == key
    assert read_options("replay", {"votes": "v", "isolated": True, **given}).isolated


def test_every_llm_is_isolated() -> None:
    isolated = {name for name in RUNTIMES if read_options(name, NEEDED[name]).isolated}
    assert isolated == {"openvino", "hf", "tensorrt_llm", "encoder", "openai"}
