# SPDX-License-Identifier: Apache-2.0
"""Shapes of LLMs: published parameter counts, and configurations that are read or refused by file."""

import json

import pytest
from gpu_support import (
    H100,
    LLAMA_8B,
    TINY,
    TINY_TENSORS,
    deployment,
    member,
    write_adapter,
    write_safetensors,
    write_tiny,
)

from quorum.build import BuildError
from quorum.build.shapes import _known, find_shape, known_models, read_shape
from quorum.capacity.plan import plan_memory


@pytest.mark.parametrize("model", known_models())
def test_parameters_are_the_published_ones(model, tmp_path):
    assert find_shape(model, tmp_path).parameters == _known()["models"][model]["published_parameters"]


def test_memory_of_a_known_model_by_hand(tmp_path):
    llama = find_shape(LLAMA_8B, tmp_path)
    assert llama.weight_bytes() == 2 * 8_030_261_248
    # Embeddings, head and norms stay in 16 bits: 2 x 128256 x 4096 + (2 x 32 + 1) x 4096.
    kept = 2 * 128_256 * 4096 + 65 * 4096
    assert llama.weight_bytes(quantisation="fp8") == (8_030_261_248 - kept) + 2 * kept
    with pytest.raises(BuildError, match="quantisation 'fp9' is unknown; use fp8"):
        llama.weight_bytes(quantisation="fp9")
    assert llama.kv_bytes_per_token() == 2 * 32 * 8 * 128 * 2 == 131_072
    assert llama.kv_bytes_per_token(each=1) == 65_536
    assert llama.kv_bytes_per_token(tensor_parallel=2) == 65_536
    # 16 GPUs share 8 heads: each holds one whole.
    assert llama.kv_bytes_per_token(tensor_parallel=16) == 2 * 32 * 1 * 128 * 2


def test_shape_of_a_checkpoint_is_read_from_its_files(tmp_path):
    folder = write_tiny(tmp_path / "tiny")
    shape = read_shape(folder)
    count = 0
    for dims in TINY_TENSORS.values():
        size = 1
        for number in dims:
            size *= number
        count += size
    assert shape.parameters == count
    (folder / "model.safetensors").unlink()
    assert read_shape(folder).parameters == count, "the formula must agree with the files"


def test_a_quantised_checkpoint_counts_what_its_files_take(tmp_path):
    folder = write_tiny(tmp_path / "tiny")
    quant = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (folder / "hf_quant_config.json").write_text(json.dumps(quant))
    shape = read_shape(folder)
    assert (shape.quantisation, shape.kv_quantised) == ("fp8", True)
    assert shape.weight_bytes() == (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("missing", ["num_hidden_layers", "hidden_size", "vocab_size"])
def test_a_configuration_without_a_shape_is_refused(tmp_path, missing):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({k: v for k, v in TINY.items() if k != missing}))
    with pytest.raises(BuildError, match=rf"config\.json.*{missing}"):
        read_shape(folder)


def absurd(folder, **changes):
    """A checkpoint whose configuration has these values, given as JSON text."""
    folder.mkdir(exist_ok=True)
    values = {**{key: json.dumps(value) for key, value in TINY.items()}, **changes}
    pairs = ", ".join(f'"{key}": {value}' for key, value in values.items())
    (folder / "config.json").write_text(f"{{{pairs}}}")
    return folder


ABSURD = [
    {"num_attention_heads": "0"},
    {"num_attention_heads": "-4"},
    {"num_attention_heads": "128"},
    {"num_hidden_layers": "1e400"},
    {"num_hidden_layers": "NaN"},
    {"hidden_size": "0"},
    {"hidden_size": "9" * 4000},
    {"hidden_size": "9" * 5000},
    {"vocab_size": "1e30"},
    {"vocab_size": '"many"'},
    {"max_position_embeddings": "0"},
    {"num_key_value_heads": "-1"},
    {"head_dim": "[64]"},
    {"intermediate_size": "true"},
    {"torch_dtype": "[1]"},
    {"model_type": "7"},
    {"other": "[" * 100_000 + "]" * 100_000},
    {"quantization_config": "[1]"},
    {"quantization_config": '{"quant_method": ["fp8"]}'},
    {"pretrained_config": "[]"},
    {"pretrained_config": '{"num_attention_heads": 0}'},
    {"pretrained_config": "{}", "build_config": "[1]"},
]


@pytest.mark.parametrize(
    "changes", ABSURD, ids=lambda changes: " ".join(f"{k}={v[:12]}" for k, v in changes.items())
)
def test_absurd_configurations_are_refused_by_file(tmp_path, changes):
    folder = absurd(tmp_path / "m", **changes)
    with pytest.raises(BuildError, match=r"m/config\.json: cannot "):
        read_shape(folder)
    with pytest.raises(BuildError, match=r"member a: .*config\.json"):
        plan_memory(deployment(tmp_path, member("a", "m")), [H100])
    by_torch = {"name": "a", "runtime": "hf", "options": {"model": "m", "device": "cuda"}}
    assert "config.json" in plan_memory(deployment(tmp_path, by_torch), [H100]).notes[0]


def test_the_largest_sizes_are_planned_without_an_overflow(tmp_path):
    huge = dict.fromkeys(
        ("num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size"), str(1 << 31)
    )
    absurd(tmp_path / "m", **huge)
    plan = plan_memory(deployment(tmp_path, member("a", "m")), [H100])
    assert "before any KV cache" in plan.problems[0]


@pytest.mark.parametrize(
    "quant", ["[]", "[1]", '{"quantization": 7}', '{"quantization": {"quant_algo": {}}}', "{"]
)
def test_an_absurd_quantisation_is_refused_by_file(tmp_path, quant):
    folder = write_tiny(tmp_path / "m")
    (folder / "hf_quant_config.json").write_text(quant)
    with pytest.raises(BuildError, match=r"hf_quant_config\.json: cannot "):
        read_shape(folder)


@pytest.mark.parametrize("rank", ["0", "1e400", '"8"', "9" * 5000, "[" * 100_000])
def test_an_absurd_adapter_is_refused_by_file(tmp_path, rank):
    write_adapter(tmp_path / "lora")
    (tmp_path / "lora" / "adapter_config.json").write_text(f'{{"r": {rank}}}')
    spec = deployment(tmp_path, member("a", LLAMA_8B, lora={"path": "lora"}))
    with pytest.raises(BuildError, match=r"adapter_config\.json: cannot be read .*save_pretrained"):
        plan_memory(spec, [H100])


def test_an_adapter_of_odd_tensors_is_refused(tmp_path):
    write_adapter(tmp_path / "lora")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    write_safetensors(tmp_path / "lora" / "adapter_model.safetensors", {name: []})
    spec = deployment(tmp_path, member("a", LLAMA_8B, lora={"path": "lora"}))
    with pytest.raises(BuildError, match="is no matrix"):
        plan_memory(spec, [H100])


def test_unknown_model_names_what_is_known(tmp_path):
    with pytest.raises(BuildError, match=r"neither a folder.*Llama-3\.1-8B"):
        find_shape("nobody/nothing", tmp_path)
