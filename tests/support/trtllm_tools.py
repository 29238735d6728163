# SPDX-License-Identifier: Apache-2.0
"""TensorRT-LLM's programs as documented, for tests: strict about flags, quick about work.

The tables are those of 1.x: ``tensorrt_llm/commands/build.py`` with the plugin flags of ``PluginConfig``, and
under ``examples/`` ``quantization/quantize.py``, ``models/core/{llama,qwen}/convert_checkpoint.py``,
``generate_xgrammar_tokenizer_info.py`` and ``hf_lora_convert.py``. A program that is called with anything
else ends with exit code 2, as argparse does; one that is called well writes what the real one writes.
"""

import json
import os
import sys
import textwrap
from pathlib import Path

DTYPES = ("auto", "float16", "bfloat16", "float32")
PLUGIN_TYPES = ("auto", "float16", "float32", "bfloat16", "int32", "disable")
SWITCH = ("enable", "disable")

# Names of modules that an adapter may change: LoraManager.LORA_MODULE_IDS of the 1.2 line.
LORA_MODULES = (
    "attn_qkv", "attn_q", "attn_k", "attn_v", "attn_dense", "mlp_h_to_4h", "mlp_4h_to_h", "mlp_gate",
    "cross_attn_qkv", "cross_attn_q", "cross_attn_k", "cross_attn_v", "cross_attn_dense", "moe_h_to_4h",
    "moe_4h_to_h", "moe_gate", "moe_router", "mlp_router", "mlp_gate_up",
)  # fmt: skip

# Flag -> what it takes: a type, a tuple of choices, a list with one of these for one or more values
# (argparse's nargs="+"), or None for a switch without a value.
CONVERT = {
    "--model_dir": str,
    "--output_dir": str,
    "--dtype": DTYPES,
    "--tp_size": int,
    "--pp_size": int,
    "--use_weight_only": None,
    "--weight_only_precision": ("int8", "int4", "int4_gptq", "int8_gptq"),
    "--int8_kv_cache": None,
    "--load_model_on_cpu": None,
    "--workers": int,
}
QUANTIZE = {
    "--model_dir": str,
    "--output_dir": str,
    "--dtype": DTYPES,
    "--qformat": ("nvfp4", "fp8", "int8_sq", "int4_awq", "w4a8_awq", "int8_wo", "int4_wo", "full_prec"),
    "--kv_cache_dtype": ("int8", "fp8"),
    "--calib_dataset": str,
    "--calib_size": int,
    "--batch_size": int,
    "--tp_size": int,
    "--pp_size": int,
    "--awq_block_size": int,
    "--device_map": ("auto", "sequential", "cpu", "gpu"),
    "--export_format": ("tensorrt_llm", "hf"),
}
BUILD = {
    "--checkpoint_dir": str,
    "--output_dir": str,
    "--max_batch_size": int,
    "--max_input_len": int,
    "--max_seq_len": int,
    "--max_beam_width": int,
    "--max_num_tokens": int,
    "--opt_num_tokens": int,
    "--kv_cache_type": ("continuous", "paged", "disabled"),
    "--input_timing_cache": str,
    "--output_timing_cache": str,
    "--profiling_verbosity": ("layer_names_only", "detailed", "none"),
    "--workers": int,
    "--log_level": str,
    "--monitor_memory": None,
    "--logits_dtype": ("float16", "float32"),
    "--gather_context_logits": None,
    "--gather_generation_logits": None,
    "--lora_dir": [str],
    "--lora_ckpt_source": ("hf", "nemo"),
    "--lora_target_modules": [LORA_MODULES],
    "--max_lora_rank": int,
    "--gpt_attention_plugin": PLUGIN_TYPES,
    "--gemm_plugin": (*PLUGIN_TYPES, "fp8", "nvfp4"),
    "--lora_plugin": PLUGIN_TYPES,
    "--nccl_plugin": PLUGIN_TYPES,
    "--context_fmha": SWITCH,
    "--remove_input_padding": SWITCH,
    "--reduce_fusion": SWITCH,
    "--user_buffer": SWITCH,
    "--tokens_per_block": int,
    "--use_paged_context_fmha": SWITCH,
    "--use_fp8_context_fmha": SWITCH,
    "--multiple_profiles": SWITCH,
}
TOKENIZER = {"--model_dir": str, "--output_dir": str}
LORA = {"-i": str, "-o": str, "--storage-type": ("float32", "float16", "bfloat16")}

PROGRAMS = {
    "bin/trtllm-build": BUILD,
    "examples/quantization/quantize.py": QUANTIZE,
    "examples/models/core/llama/convert_checkpoint.py": CONVERT,
    "examples/models/core/qwen/convert_checkpoint.py": CONVERT,
    "examples/generate_xgrammar_tokenizer_info.py": TOKENIZER,
    "examples/hf_lora_convert.py": LORA,
}
REQUIRED = ("--model_dir", "--output_dir", "--checkpoint_dir", "-i", "-o")

_PROGRAM = """#!{python}
import sys
sys.path.insert(0, {support!r})
from trtllm_tools import act
act({name!r}, sys.argv[1:])
"""
_PYTHON = """#!{python}
import json, os, sys
if sys.argv[1] == "-c":
    print(json.dumps({{"tensorrt_llm": {version!r}, "tensorrt": "10.14.1.48"}}))
else:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""
_SMI = """#!{python}
import sys
assert sys.argv[1:] == [
    "--query-gpu=index,name,compute_cap,memory.total,memory.used,driver_version", "--format=csv,noheader"
], sys.argv
print({said!r})
"""
H100 = "0, NVIDIA H100 80GB HBM3, 9.0, 81559 MiB, 4 MiB, 590.48.01"
A100 = "0, NVIDIA A100-SXM4-80GB, 8.0, 81920 MiB, 3 MiB, 590.48.01"


def install(folder: Path, *, version: str = "1.2.1", smi: str = H100) -> Path:
    """Put all programs into a folder: ``bin`` for PATH, ``examples`` as TensorRT-LLM's."""
    python, support = sys.executable, str(Path(__file__).parent)
    texts = {name: _PROGRAM.format(python=python, support=support, name=name) for name in PROGRAMS}
    texts["bin/python3"] = _PYTHON.format(python=python, version=version)
    texts["bin/nvidia-smi"] = _SMI.format(python=python, said=smi)
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        file.chmod(0o755)
    return folder


def calls(folder: Path) -> list[str]:
    """Names of the programs that ran, in order."""
    log = folder / "calls.txt"
    return log.read_text().split() if log.exists() else []


def check(name: str, arguments: list[str]) -> dict[str, str]:
    """Flags -> values, several joined by spaces, refusing what the program would refuse.

    Raises:
        ValueError: An unknown flag, a value of the wrong kind, a missing flag, or LoRA without modules.
    """
    table, found, rest = PROGRAMS[name], {}, list(arguments)
    while rest:
        flag = rest.pop(0)
        if flag not in table:
            raise ValueError(f"unrecognised argument: {flag}")
        if flag in found:
            raise ValueError(f"given twice: {flag}")
        kind = table[flag]
        many = isinstance(kind, list)
        count = next((at for at, word in enumerate(rest) if word.startswith("-")), len(rest)) if many else 1
        values = [] if kind is None else [rest.pop(0) for _ in range(count)]
        if many and not values:
            raise ValueError(f"argument {flag}: expected at least one argument")
        for value in values:
            _check_value(flag, kind[0] if many else kind, value)
        found[flag] = " ".join(values)
    missing = [flag for flag in REQUIRED if flag in table and flag not in found]
    if missing:
        raise ValueError(f"the following arguments are required: {missing}")
    if found.get("--lora_plugin", "disable") != "disable" and not (
        found.get("--lora_target_modules") or found.get("--lora_dir")
    ):
        raise ValueError(
            "lora_target_modules is empty. Please specify lora_target_modules or provide lora_dir to infer"
            " lora_target_modules."
        )
    return found


def _check_value(flag: str, kind: type | tuple[str, ...], value: str) -> None:
    if isinstance(kind, tuple) and value not in kind:
        raise ValueError(f"argument {flag}: invalid choice: {value!r} (choose from {kind})")
    if kind is int:
        int(value)


def act(name: str, arguments: list[str]) -> None:
    """Be that program."""
    folder = Path(sys.argv[0])
    while not (folder / "bin" / "trtllm-build").exists():
        folder = folder.parent
    with (folder / "calls.txt").open("a") as log:
        log.write(Path(name).stem + "\n")
    try:
        flags = check(name, arguments)
    except ValueError as error:
        sys.stderr.write(f"{name}: error: {error}\n")
        sys.exit(2)
    if Path(name).stem in os.environ.get("TRTLLM_FAIL", "").split(","):
        sys.stderr.write("out of memory, as it were\n")
        sys.exit(1)
    sys.stdout.write(f"{Path(name).stem} at work\n")
    globals()[f"_{Path(name).stem.replace('-', '_')}"](flags)


def _checkpoint(flags: dict[str, str], quantised: dict[str, str | None]) -> None:
    source, out, ranks = Path(flags["--model_dir"]), Path(flags["--output_dir"]), int(flags["--tp_size"])
    config = json.loads((source / "config.json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    ours = {
        "architecture": config["architectures"][0],
        "mapping": {"world_size": ranks},
        "quantization": quantised,
    }
    (out / "config.json").write_text(json.dumps(ours))
    for rank in range(ranks):
        (out / f"rank{rank}.safetensors").write_bytes(b"weights")


def _convert_checkpoint(flags: dict[str, str]) -> None:
    _checkpoint(flags, {"quant_algo": None})


def _quantize(flags: dict[str, str]) -> None:
    if flags.get("--export_format") == "hf":
        source, out = Path(flags["--model_dir"]), Path(flags["--output_dir"])
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text((source / "config.json").read_text())
        quantised = {"quant_algo": flags["--qformat"].upper(), "kv_cache_quant_algo": "FP8"}
        (out / "hf_quant_config.json").write_text(json.dumps({"quantization": quantised}))
        (out / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
        return
    _checkpoint(
        flags, {"quant_algo": flags["--qformat"], "kv_cache_quant_algo": flags.get("--kv_cache_dtype")}
    )


def _trtllm_build(flags: dict[str, str]) -> None:
    source, out = Path(flags["--checkpoint_dir"]), Path(flags["--output_dir"])
    config = json.loads((source / "config.json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(
        json.dumps({"version": "1.2.1", "pretrained_config": config, "build_config": flags})
    )
    for rank in range(config["mapping"]["world_size"]):
        (out / f"rank{rank}.engine").write_bytes((source / f"rank{rank}.safetensors").read_bytes())


def _generate_xgrammar_tokenizer_info(flags: dict[str, str]) -> None:
    assert (Path(flags["--model_dir"]) / "tokenizer.json").is_file()
    out = Path(flags["--output_dir"])
    info = {"encoded_vocab": [], "tokenizer_str": "{}", "stop_token_ids": [0]}
    (out / "xgrammar_tokenizer_info.json").write_text(json.dumps(info))


def _hf_lora_convert(flags: dict[str, str]) -> None:
    out = Path(flags["-o"])
    out.mkdir(parents=True, exist_ok=True)
    for name in ("model.lora_weights.npy", "model.lora_config.npy"):
        (out / name).write_bytes(b"adapter")
