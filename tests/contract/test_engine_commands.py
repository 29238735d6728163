# SPDX-License-Identifier: Apache-2.0
"""Every command of an engine's build fits TensorRT-LLM's tables: any family, quantisation, option."""

import itertools
from pathlib import Path

import pytest
import yaml
from support import trtllm_tools
from support.standin import write_adapter

from quorum.build.checkpoint import BuildError
from quorum.build.shapes import QUANTISATIONS
from quorum.build.trtllm import Tools, engine_build_steps
from quorum.deployment import load_deployment

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct",
    "mistralai/Mistral-7B-Instruct-v0.3",
)
LORA = {"name": "fashion", "path": "adapters/fashion", "rank": 16}
EXAMPLES = Path("/app/examples")


@pytest.fixture(autouse=True)
def adapter(tmp_path):
    """The adapter that :data:`LORA` names: of q and v alone, as many are."""
    return write_adapter(tmp_path / LORA["path"], rank=16)


def commands(folder: Path, **options):
    given = {"engine": "engines/m", "max_seq_len": 2048, "dtype": "bfloat16", **options}
    file = folder / "deploy.yaml"
    members = [
        {"name": "m", "runtime": "engine", "options": {k: v for k, v in given.items() if v is not None}}
    ]
    file.write_text(yaml.safe_dump({"members": members, "attributes": {"color": {}}}))
    spec = load_deployment(file)
    return engine_build_steps(spec.members[0].name, spec.members[0].options, spec.root, Tools(EXAMPLES)).steps


def check(command: tuple[str, ...]) -> dict[str, str]:
    if command[0] == "trtllm-build":
        return trtllm_tools.check("bin/trtllm-build", list(command[1:]))
    assert command[0] == "python3"
    script = Path(command[1]).relative_to(EXAMPLES)
    return trtllm_tools.check(f"examples/{script}", list(command[2:]))


@pytest.mark.parametrize(
    ("model", "quantization", "parallel", "lora"),
    [*itertools.product(MODELS, (None, *QUANTISATIONS), (1, 2), (None, LORA))],
)
def test_commands_fit_the_documented_flags(tmp_path, model, quantization, parallel, lora):
    steps = commands(tmp_path, model=model, quantization=quantization, tensor_parallel=parallel, lora=lora)
    flags = [check(step.command) for step in steps]
    assert len(steps) == (4 if lora else 3)
    # One step's output is the next one's input, and ranks agree.
    assert flags[0]["--output_dir"] == flags[1]["--checkpoint_dir"]
    assert flags[2]["--output_dir"] == flags[1]["--output_dir"]
    assert flags[0]["--tp_size"] == flags[1]["--workers"] == str(parallel)
    assert int(flags[1]["--max_input_len"]) < int(flags[1]["--max_seq_len"])
    if quantization in ("fp8", "nvfp4", "int4_awq", "w4a8_awq", "int8_sq"):
        assert flags[0]["--qformat"] == quantization
    if lora:
        assert flags[1]["--max_lora_rank"] == "16"
        # Upstream's loader adds what is missing of q, k and v.
        assert flags[1]["--lora_target_modules"] == "attn_k attn_q attn_v"
        assert flags[3]["--storage-type"] == "bfloat16"


@pytest.mark.parametrize(
    ("changed", "modules"),
    [
        (("q_proj",), "attn_k attn_q attn_v"),
        (("o_proj", "down_proj"), "attn_dense mlp_4h_to_h"),
        (("up_proj", "gate_proj", "k_proj"), "attn_k attn_q attn_v mlp_gate mlp_h_to_4h"),
    ],
)
def test_an_engine_is_built_for_the_modules_of_its_adapter(tmp_path, changed, modules):
    write_adapter(tmp_path / "other", rank=4, modules=changed)
    steps = commands(tmp_path, model=MODELS[0], lora={"path": "other", "rank": 4})
    assert check(steps[1].command)["--lora_target_modules"] == modules


@pytest.mark.parametrize(
    ("lora", "says"),
    [
        ({"path": "missing", "rank": 4}, "missing.*adapter_config.json"),
        ({"path": LORA["path"], "rank": 4}, "rank 4, but the adapter .* has 16"),
        ({"path": "head"}, "changes lm_head; only q_proj"),
    ],
)
def test_an_adapter_that_no_engine_can_be_built_for_is_refused(tmp_path, lora, says):
    write_adapter(tmp_path / "head", modules=("lm_head",))
    with pytest.raises(BuildError, match=rf"(?s)member m: .*{says}"):
        commands(tmp_path, model=MODELS[0], lora=lora)


def test_unguided_engines_need_no_tokenizer_description(tmp_path):
    assert len(commands(tmp_path, model=MODELS[0], guided=False)) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--checkpoint_dir", "a"],
        ["--checkpoint_dir", "a", "--output_dir", "b", "--use_paged_context_fmha", "true"],
        ["--checkpoint_dir", "a", "--output_dir", "b", "--gemm_plugin", "yes"],
        ["--checkpoint_dir", "a", "--output_dir", "b", "--max_batch", "8"],
        ["--checkpoint_dir", "a", "--output_dir", "b", "--max_batch_size", "many"],
        ["--checkpoint_dir", "a", "--output_dir", "b", "--lora_plugin", "auto", "--max_lora_rank", "8"],
        ["--checkpoint_dir", "a", "--output_dir", "b", "--lora_target_modules", "q_proj"],
        ["--checkpoint_dir", "a", "--output_dir", "b", "--lora_target_modules", "--workers", "1"],
    ],
)
def test_the_tables_refuse_what_the_program_would(arguments):
    with pytest.raises(ValueError):
        trtllm_tools.check("bin/trtllm-build", arguments)
