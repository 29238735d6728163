# SPDX-License-Identifier: Apache-2.0
"""The rendered configuration of an engine is the stock one of Triton's C++ backend, name by name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment import DeploymentError, load_deployment
from quorum.repository.configs import parse_config, print_config
from quorum.repository.engine_config import engine_config
from quorum.repository.render import render
from quorum.runtimes.options import read_options

STOCK = json.loads((Path(__file__).parent / "data" / "tensorrtllm_backend.json").read_text("utf-8"))
ROOT = Path(__file__).parents[2]
# What the template leaves open, for engines with FP32 logits.
FILLED = {
    "${encoder_input_features_data_type}": "TYPE_FP16",
    "${logits_datatype}": "TYPE_FP32",
    "${prompt_embedding_table_data_type}": "TYPE_FP16",
}
LLAMA_8B = {
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
    "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
}  # fmt: skip


def load(folder: Path, **options: Any) -> Any:
    said = {"engine": "engines/llama", "tokenizer": "llama", "max_batch_size": 64, **options}
    spec = {"attributes": {}, "members": [{"name": "llama", "runtime": "engine", "options": said}]}
    (folder / "deploy.yaml").write_text(yaml.safe_dump(spec))
    return load_deployment(folder / "deploy.yaml")


def rendered(folder: Path, **options: Any) -> Any:
    spec = load(folder, **options)
    return parse_config(print_config(engine_config(spec, spec.members[0])))


def parameters(config: Any) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def test_inputs_and_outputs_are_the_stock_ones(tmp_path: Path) -> None:
    config = rendered(tmp_path)
    inputs = [
        [
            t.name,
            pb.DataType.Name(t.data_type),
            list(t.dims),
            t.optional,
            t.allow_ragged_batch,
            t.HasField("reshape"),
        ]
        for t in config.input
    ]
    assert inputs == [[name, FILLED.get(kind, kind), *rest] for name, kind, *rest in STOCK["inputs"]]
    assert all(not t.reshape.shape for t in config.input)
    outputs = [[t.name, pb.DataType.Name(t.data_type), list(t.dims)] for t in config.output]
    assert outputs == [[name, FILLED.get(kind, kind), dims] for name, kind, dims in STOCK["outputs"]]
    assert (len(inputs), len(outputs)) == (62, 21)


def test_everything_else_is_the_stock_one(tmp_path: Path) -> None:
    config = rendered(tmp_path)
    assert (config.name, config.backend) == ("quorum_engine_llama", STOCK["backend"])
    assert config.max_batch_size == 64
    assert not config.model_transaction_policy.decoupled
    assert [pb.ModelInstanceGroup.Kind.Name(g.kind) for g in config.instance_group] == [
        STOCK["instance_kind"]
    ]
    assert sorted(config.parameters) == sorted(STOCK["parameters"])
    said = parameters(config)
    assert {key: said[key] for key in STOCK["constants"]} == STOCK["constants"]
    unset = {key: value for key, value in said.items() if value.startswith("${")}
    assert unset["encoder_model_path"] == "${encoder_engine_dir}"
    assert unset["kv_cache_free_gpu_mem_fraction"] == "${kv_cache_free_gpu_mem_fraction}"


def test_options_reach_the_parameters(tmp_path: Path) -> None:
    (tmp_path / "engines" / "llama").mkdir(parents=True)
    (tmp_path / "engines" / "llama" / "config.json").write_text(json.dumps({"pretrained_config": LLAMA_8B}))
    lora = {"name": "shop", "path": "adapter", "rank": 8}
    said = parameters(rendered(tmp_path, kv_cache_fraction=0.4, kv_cache_gib=16, gpus=[1], lora=lora))
    assert said["gpt_model_path"] == "engines/llama"
    assert said["kv_cache_free_gpu_mem_fraction"] == "0.4"
    # 2 x 32 layers x 8 heads x 128 wide x 1 byte = 64 KiB a token.
    assert said["max_tokens_in_paged_kv_cache"] == str(16 * 2**30 // 2**16)
    assert said["gpu_device_ids"] == "1"
    assert said["lora_prefetch_dir"] == "engines/llama/lora"
    assert said["guided_decoding_backend"] == "xgrammar"
    assert said["xgrammar_tokenizer_info_path"] == "engines/llama/xgrammar_tokenizer_info.json"
    assert parameters(rendered(tmp_path, guided=False))["guided_decoding_backend"].startswith("${")
    # Normalised, the log-probability of a greedy answer's tokens would be 0.
    assert said["normalize_log_probs"] == "false"
    assert parameters(rendered(tmp_path, scores=False))["normalize_log_probs"].startswith("${")


def test_memory_without_an_engine_to_measure_it_by_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="quorum build llama"):
        rendered(tmp_path, kv_cache_gib=16)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pretrained_config": []}', "[" * 100_000])
def test_an_engine_that_does_not_say_its_shapes_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "engines" / "llama").mkdir(parents=True)
    (tmp_path / "engines" / "llama" / "config.json").write_text(text)
    with pytest.raises(
        DeploymentError, match=r"llama/config\.json, which cannot be read.*quorum build llama"
    ):
        rendered(tmp_path, kv_cache_gib=16)


@pytest.mark.parametrize("file", ["deploy.gpu.yaml", "deploy.gpu-fp8.yaml"])
def test_the_gpu_deployments_render(tmp_path: Path, file: str) -> None:
    shutil.copy(ROOT / file, tmp_path / "deploy.yaml")
    spec = load_deployment(tmp_path / "deploy.yaml")
    render(spec)
    for member in spec.members:
        config = parse_config((spec.repository_path / member.name / "config.pbtxt").read_text("utf-8"))
        (said,) = json.loads(config.parameters["quorum"].string_value)["members"]
        assert read_options(said["runtime"], said["options"]) == member.options
        assert config.backend == "quorum_member"


def test_the_fp8_twin_serves_the_same_commits() -> None:
    """Its checkpoints are made of the models of deploy.gpu.yaml, each pinned to a commit."""
    plain, fp8 = (load_deployment(ROOT / file) for file in ("deploy.gpu.yaml", "deploy.gpu-fp8.yaml"))
    assert fp8.member_names == plain.member_names
    assert fp8.attributes == plain.attributes
    text = (ROOT / "deploy.gpu-fp8.yaml").read_text("utf-8")
    for one, other in zip(plain.members, fp8.members, strict=True):
        assert re.fullmatch("[0-9a-f]{40}", one.options.revision)
        folder = f"checkpoints/{one.options.model.rpartition('/')[2]}"
        fetch = f"hf download {one.options.model} --revision {one.options.revision} \\\n"
        assert f"{fetch}#     --local-dir {folder}\n" in text
        assert (other.options.model, other.options.quantization) == (f"{folder}-fp8", "fp8")
        same = {"model", "revision", "quantization", "kv_cache_gib"} ^ set(one.options.__struct_fields__)
        assert {getattr(one.options, key) == getattr(other.options, key) for key in same} == {True}
