# SPDX-License-Identifier: Apache-2.0
"""Engines are built by the documented commands, step by step; what is done is not done again."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from gpu_support import LLAMA_8B, deployment, member, write_adapter, write_tiny
from support import trtllm_tools

from quorum.build import BuildError, inspect_checkpoint
from quorum.build.compile import compile_engine
from quorum.build.manifest import MANIFEST, read_engine_manifest
from quorum.build.quantise import quantise_steps
from quorum.build.shapes import read_shape
from quorum.build.trtllm import Tools, engine_build_steps
from quorum.runtimes.engine_names import TOKENIZER_INFO


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A GPU box with TensorRT-LLM, as far as a build looks at it."""
    folder = trtllm_tools.install(tmp_path / "box")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("NVIDIA_TRITON_SERVER_VERSION", "26.07")
    return folder


def tools(box: Path) -> Tools:
    return Tools(box / "examples", str(box / "bin" / "python3"))


def layout(tmp_path: Path, box: Path, **options):
    if not (tmp_path / "tiny").exists():
        write_tiny(tmp_path / "tiny")
    given = {"engine": "engines/tiny", "tokenizer": "tiny", "max_tokens": 256, **options}
    spec = deployment(tmp_path, member("tiny", given.pop("model", "tiny"), "engine", **given))
    return engine_build_steps(spec.members[0].name, spec.members[0].options, spec.root, tools(box))


def test_builds_step_by_step_and_writes_the_manifest(tmp_path, box):
    plan, steps, lines = layout(tmp_path, box), [], []
    manifest = compile_engine(
        plan, tools(box), on_step=lambda n, step, done: steps.append((n, done)), on_line=lines.append
    )
    assert steps == [(0, False), (1, False), (2, False)]
    assert trtllm_tools.calls(box) == [
        "convert_checkpoint",
        "trtllm-build",
        "generate_xgrammar_tokenizer_info",
    ]
    assert lines == [f"{name} at work" for name in trtllm_tools.calls(box)]
    assert manifest == read_engine_manifest(plan.engine)
    assert {file.name for file in plan.engine.iterdir()} == {
        "config.json",
        "rank0.engine",
        TOKENIZER_INFO,
        MANIFEST,
    }
    assert (manifest.architecture, manifest.gpu) == ("sm_90", "NVIDIA H100 80GB HBM3")
    assert (manifest.tensorrt_llm, manifest.tensorrt, manifest.container) == ("1.2.1", "10.14.1.48", "26.07")
    assert manifest.checkpoint_hash == inspect_checkpoint(tmp_path / "tiny").hash
    assert manifest.flags["--max_seq_len"] == "2048"
    assert manifest.flags["--max_input_len"] == "1792"
    assert [command[0] for command in manifest.commands][1] == "trtllm-build"


def test_a_build_that_is_done_runs_nothing(tmp_path, box):
    plan = layout(tmp_path, box)
    first = compile_engine(plan, tools(box))
    before, steps = len(trtllm_tools.calls(box)), []
    assert compile_engine(plan, tools(box), on_step=lambda n, step, done: steps.append(done)) == first
    assert len(trtllm_tools.calls(box)) == before
    assert steps == [True, True, True]


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path, box, monkeypatch):
    plan = layout(tmp_path, box)
    monkeypatch.setenv("TRTLLM_FAIL", "trtllm-build")
    with pytest.raises(
        BuildError, match=r"(?s)compile the engine: trtllm-build failed \(exit code 1\).*as it were"
    ):
        compile_engine(plan, tools(box))
    assert not plan.engine.exists()
    monkeypatch.delenv("TRTLLM_FAIL")
    steps = []
    compile_engine(plan, tools(box), on_step=lambda n, step, done: steps.append(done))
    assert steps == [True, False, False]
    assert trtllm_tools.calls(box).count("convert_checkpoint") == 1
    assert read_engine_manifest(plan.engine).guided


def test_other_flags_keep_the_converted_checkpoint(tmp_path, box):
    compile_engine(layout(tmp_path, box), tools(box))
    plan = layout(tmp_path, box, max_batch_size=8)
    manifest = compile_engine(plan, tools(box))
    assert manifest.flags["--max_batch_size"] == "8"
    assert trtllm_tools.calls(box).count("convert_checkpoint") == 1
    assert trtllm_tools.calls(box).count("trtllm-build") == 2


@pytest.mark.parametrize("change", ["checkpoint", "version", "gpu"])
def test_another_checkpoint_version_or_gpu_starts_anew(tmp_path, box, change):
    first = compile_engine(layout(tmp_path, box), tools(box))
    if change == "checkpoint":
        (tmp_path / "tiny" / "tokenizer.json").write_text('{"other": 1}')
    elif change == "version":
        trtllm_tools.install(box, version="1.2.2")
    else:
        trtllm_tools.install(box, smi=trtllm_tools.A100)
    second = compile_engine(layout(tmp_path, box), tools(box))
    assert second.fingerprint != first.fingerprint
    assert trtllm_tools.calls(box).count("convert_checkpoint") == 2


@pytest.mark.parametrize("damage", ["manifest", "schema", "engine"])
def test_what_is_damaged_is_built_again(tmp_path, box, damage):
    plan = layout(tmp_path, box)
    first = compile_engine(plan, tools(box))
    manifest = plan.engine / MANIFEST
    if damage == "manifest":
        manifest.write_text("{")
    elif damage == "schema":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 0}))
    else:
        (plan.engine / "rank0.engine").unlink()
    again = compile_engine(plan, tools(box))
    assert again.fingerprint == first.fingerprint == read_engine_manifest(plan.engine).fingerprint
    assert (plan.engine / "rank0.engine").is_file()
    assert trtllm_tools.calls(box).count("trtllm-build") == 2


def test_an_adapter_that_was_trained_further_is_converted_again(tmp_path, box):
    write_adapter(tmp_path / "lora", base="tiny", hidden=64, kv=32, layers=2, rank=4)
    first = compile_engine(layout(tmp_path, box, lora={"path": "lora"}), tools(box))
    assert compile_engine(layout(tmp_path, box, lora={"path": "lora"}), tools(box)) == first
    weights = tmp_path / "lora" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    second = compile_engine(layout(tmp_path, box, lora={"path": "lora"}), tools(box))
    assert second.fingerprint != first.fingerprint
    assert trtllm_tools.calls(box).count("hf_lora_convert") == 2
    assert trtllm_tools.calls(box).count("convert_checkpoint") == 1


def test_a_failed_rebuild_keeps_the_old_engine(tmp_path, box, monkeypatch):
    plan = layout(tmp_path, box)
    compile_engine(plan, tools(box))
    monkeypatch.setenv("TRTLLM_FAIL", "generate_xgrammar_tokenizer_info")
    with pytest.raises(BuildError, match="describe the tokenizer"):
        compile_engine(layout(tmp_path, box, max_batch_size=8), tools(box))
    assert read_engine_manifest(plan.engine).flags["--max_batch_size"] == "64"


def test_every_gpu_gets_its_part(tmp_path, box):
    plan = layout(tmp_path, box, tensor_parallel=2)
    manifest = compile_engine(plan, tools(box))
    assert manifest.tensor_parallel == 2
    assert {file.name for file in plan.engine.glob("*.engine")} == {"rank0.engine", "rank1.engine"}


@pytest.mark.parametrize("lora", [{"name": "lora", "path": "lora", "rank": 4}, {"path": "lora"}])
def test_an_adapter_is_converted_beside_the_engine(tmp_path, box, lora):
    write_adapter(tmp_path / "lora", base="tiny", hidden=64, kv=32, layers=2, rank=4)
    plan = layout(tmp_path, box, lora=lora)
    manifest = compile_engine(plan, tools(box))
    assert manifest.flags["--lora_plugin"] == "auto"
    assert manifest.flags["--max_lora_rank"] == "4"
    assert (plan.engine / manifest.lora["lora"] / "model.lora_weights.npy").is_file()


def test_an_adapter_of_another_base_is_refused_before_anything_runs(tmp_path, box):
    write_adapter(tmp_path / "lora", hidden=128, kv=32, layers=2, rank=4)
    with pytest.raises(BuildError, match="reads 128 values"):
        layout(tmp_path, box, lora={"name": "fashion", "path": "lora", "rank": 4})
    assert trtllm_tools.calls(box) == []


def test_no_gpu_no_build_but_a_plan(tmp_path, box):
    (box / "bin" / "nvidia-smi").unlink()
    plan = layout(tmp_path, box)
    with pytest.raises(BuildError, match=r"no GPU here.*--dry-run"):
        compile_engine(plan, tools(box))


def test_no_tensorrt_llm(tmp_path, box):
    (box / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(BuildError, match="has no tensorrt_llm"):
        compile_engine(layout(tmp_path, box), tools(box))


def test_no_builder(tmp_path, box):
    (box / "bin" / "trtllm-build").rename(box / "bin" / "elsewhere")
    (box / "bin" / "trtllm-build").mkdir()
    with pytest.raises(BuildError, match="trtllm-build cannot be started"):
        compile_engine(layout(tmp_path, box), tools(box))


def test_disk_too_small(tmp_path, box, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(BuildError, match="GB free"):
        compile_engine(layout(tmp_path, box), tools(box))
    assert trtllm_tools.calls(box) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_tokens": 2048}, "leaves nothing of max_seq_len"),
        ({"max_seq_len": 5000}, "more than the 4096 positions"),
        ({"model": None}, "no `model`"),
        ({"model": "google/gemma-2-9b-it"}, r"no converter.*runtime: tensorrt_llm"),
        ({"model": "nowhere"}, "neither a folder"),
    ],
)
def test_what_cannot_be_built_is_refused_by_the_plan(tmp_path, box, options, says):
    with pytest.raises(BuildError, match=rf"member tiny.*{says}"):
        layout(tmp_path, box, **options)


def test_a_quantised_checkpoint_is_not_quantised_again(tmp_path, box):
    folder = write_tiny(tmp_path / "tiny")
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "FP8"}}))
    with pytest.raises(BuildError, match="quantised already"):
        layout(tmp_path, box, quantization="fp8")


def quantise_of(tmp_path, box, model, **options):
    spec = deployment(tmp_path, member("tiny", model, **options))
    return quantise_steps(spec.members[0].name, spec.members[0].options, spec.root, tools(box))


def test_a_quantised_checkpoint_for_the_llm_api(tmp_path, box):
    write_tiny(tmp_path / "tiny")
    plan = quantise_of(tmp_path, box, "tiny-fp8", quantization="fp8")
    manifest = compile_engine(plan, tools(box))
    assert trtllm_tools.calls(box) == ["quantize"]
    assert trtllm_tools.check("examples/quantization/quantize.py", list(plan.steps[0].command[2:])) == {
        "--model_dir": str(tmp_path / "tiny"),
        "--output_dir": str(tmp_path / "tiny-fp8.build" / "engine"),
        "--dtype": "bfloat16",
        "--qformat": "fp8",
        "--calib_dataset": "cnn_dailymail",
        "--export_format": "hf",
        "--kv_cache_dtype": "fp8",
    }
    made = tmp_path / "tiny-fp8"
    assert read_shape(made).quantisation == "fp8"
    assert (made / "tokenizer.json").read_bytes() == (tmp_path / "tiny" / "tokenizer.json").read_bytes()
    assert manifest == read_engine_manifest(made)
    compile_engine(quantise_of(tmp_path, box, "tiny-fp8", quantization="fp8"), tools(box))
    assert trtllm_tools.calls(box) == ["quantize"], "what is done is not done again"


def test_nothing_to_quantise(tmp_path, box):
    write_tiny(tmp_path / "tiny")
    assert quantise_of(tmp_path, box, "tiny") is None
    assert quantise_of(tmp_path, box, "nvidia/Llama-3.1-8B-Instruct-FP8", quantization="fp8") is None
    with pytest.raises(BuildError, match=r"int8_wo cannot be exported; use one of fp8"):
        quantise_of(tmp_path, box, "tiny-int8_wo")


@pytest.mark.parametrize("content", [None, "{", '{"schema_version": 99}', '{"schema_version": 1}'])
def test_unreadable_manifest(tmp_path, content):
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(BuildError, match="quorum build MEMBER"):
        read_engine_manifest(tmp_path)


def test_known_models_need_no_checkpoint_for_a_plan(tmp_path, box):
    given = {"engine": "engines/llama", "max_tokens": 256, "quantization": "fp8"}
    spec = deployment(tmp_path, member("llama", LLAMA_8B, "engine", **given))
    steps = engine_build_steps(spec.members[0].name, spec.members[0].options, spec.root, tools(box)).steps
    assert "--qformat" in steps[0].command
    with pytest.raises(BuildError, match="no such folder"):
        compile_engine(
            engine_build_steps(spec.members[0].name, spec.members[0].options, spec.root, tools(box)),
            tools(box),
        )
