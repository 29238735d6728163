# SPDX-License-Identifier: Apache-2.0
"""Deployments, checkpoints and adapters of known shapes; no weights in them beyond a few bytes."""

import json
from pathlib import Path

import yaml

from quorum.deployment import Deployment, load_deployment
from quorum.hardware import GIB, Gpu

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"
H100 = Gpu("NVIDIA H100 80GB HBM3", "sm_90", 80 * GIB)
OPTIONS = {"dtype": "bfloat16", "max_batch_size": 64, "max_num_tokens": 4096, "max_seq_len": 2048}

TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 320,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
TINY_TENSORS = {
    "model.embed_tokens.weight": [320, 64],
    "lm_head.weight": [320, 64],
    "model.norm.weight": [64],
    **{
        f"model.layers.{layer}.{name}.weight": shape
        for layer in (0, 1)
        for name, shape in {
            "self_attn.q_proj": [64, 64],
            "self_attn.k_proj": [32, 64],
            "self_attn.v_proj": [32, 64],
            "self_attn.o_proj": [64, 64],
            "mlp.gate_proj": [128, 64],
            "mlp.up_proj": [128, 64],
            "mlp.down_proj": [64, 128],
            "input_layernorm": [64],
            "post_attention_layernorm": [64],
        }.items()
    },
}


def deployment(folder: Path, *members: dict, **more) -> Deployment:
    """A deployment with these members."""
    file = folder / "deploy.yaml"
    file.write_text(
        yaml.safe_dump({"members": list(members), "attributes": {"color": {"values": ["red"]}}, **more})
    )
    return load_deployment(file)


def member(name: str, model: str, runtime: str = "tensorrt_llm", **options) -> dict:
    """One member; options that are None are left out."""
    given = {**OPTIONS, "model": model, **options}
    return {"name": name, "runtime": runtime, "options": {k: v for k, v in given.items() if v is not None}}


def write_safetensors(file: Path, tensors: dict[str, list[int]]) -> None:
    """A file with these shapes in BF16, all zero."""
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 2
        for number in shape:
            size *= number
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def write_tiny(folder: Path, **changes) -> Path:
    """A whole checkpoint of a tiny llama."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**TINY, **changes}))
    (folder / "tokenizer.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", TINY_TENSORS)
    return folder


def write_adapter(
    folder: Path, *, base: str = LLAMA_8B, hidden: int = 4096, kv: int = 1024, layers: int = 32, rank: int = 8
) -> Path:
    """A LoRA adapter on the query and value projections, as PEFT saves it."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "base_model_name_or_path": base,
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for layer in range(layers):
        for module, out in (("q_proj", hidden), ("v_proj", kv)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = [rank, hidden]
            tensors[f"{name}.lora_B.weight"] = [out, rank]
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder
