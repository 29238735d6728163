# SPDX-License-Identifier: Apache-2.0
"""What would only fail when Triton loads it is refused before: what, where, what next."""

import json
from dataclasses import replace

import pytest
from gpu_support import H100, LLAMA_8B, QWEN_7B, deployment, member, write_adapter, write_tiny
from support import trtllm_tools

from quorum.build.manifest import MANIFEST, EngineManifest
from quorum.capacity.preflight import preflight
from quorum.hardware import GIB, known_gpu

GOOD = EngineManifest(
    checkpoint="Llama-3.1-8B-Instruct",
    checkpoint_hash="sha256:0",
    family="llama",
    architecture="sm_90",
    gpu="NVIDIA H100 80GB HBM3",
    tensorrt="10.14.1.48",
    tensorrt_llm="1.2.1",
    container="26.07",
    tensor_parallel=1,
    flags={"--max_batch_size": "64", "--max_num_tokens": "4096", "--max_seq_len": "2048"},
    commands=(("trtllm-build",),),
    guided=True,
    lora={},
    fingerprint="sha256:1",
    created="2026-11-21T00:00:00+00:00",
)


def engine_of(tmp_path, manifest=GOOD, **options):
    """A deployment of one engine member with this manifest."""
    folder = tmp_path / "engines" / "llama"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"version": "1.2.1"}))
    (folder / "xgrammar_tokenizer_info.json").write_text("{}")
    if manifest is not None:
        manifest.write(folder)
    given = {"engine": "engines/llama", "kv_cache_gib": 8, **options}
    return deployment(tmp_path, member("llama", LLAMA_8B, "engine", **given))


def test_a_fitting_machine_passes(tmp_path):
    found = preflight(engine_of(tmp_path), gpus=[H100], installed="1.2.1")
    assert (found.problems, found.checked) == ([], ["llama"])


def test_an_engine_of_another_architecture_is_refused(tmp_path):
    found = preflight(engine_of(tmp_path), gpus=[known_gpu("a100-80")], installed="1.2.1")
    assert len(found.problems) == 1
    for part in ("built for sm_90", "GPU 0 here is sm_80", "engines/llama", "quorum build llama --spec"):
        assert part in found.problems[0]


def test_the_architecture_is_that_of_the_gpu_it_is_for(tmp_path):
    mixed = [known_gpu("a100-80"), replace(H100, index=1)]
    assert preflight(engine_of(tmp_path / "1", gpus=[1]), gpus=mixed, installed="1.2.1").problems == []
    (problem,) = preflight(engine_of(tmp_path / "0", gpus=[0]), gpus=mixed, installed="1.2.1").problems
    assert "GPU 0 here is sm_80" in problem


def test_an_engine_of_another_version_is_refused(tmp_path):
    found = preflight(engine_of(tmp_path), gpus=[H100], installed="1.1.0")
    assert "built by TensorRT-LLM 1.2.1, here is 1.1.0" in found.problems[0]


def test_a_foreign_engine_is_checked_as_far_as_it_tells(tmp_path):
    spec = engine_of(tmp_path, manifest=None)
    found = preflight(spec, gpus=[H100], installed="1.2.1")
    assert found.problems == []
    assert MANIFEST in found.notes[0]
    assert "built by TensorRT-LLM 1.2.1" in preflight(spec, gpus=[H100], installed="1.1.0").problems[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 1}', "[" * 100_000])
def test_a_manifest_that_says_nothing_is_named(tmp_path, content):
    spec = engine_of(tmp_path)
    (tmp_path / "engines" / "llama" / MANIFEST).write_text(content)
    (problem,) = preflight(spec, gpus=[H100], installed="1.2.1").problems
    assert f"{spec.path}: member llama: " in problem
    assert "quorum-engine.json: cannot be read" in problem


def test_a_broken_manifest_and_no_engine(tmp_path):
    spec = engine_of(tmp_path)
    (tmp_path / "engines" / "llama" / MANIFEST).write_text("{")
    assert "cannot be read" in preflight(spec, gpus=[H100], installed="1.2.1").problems[0]
    (tmp_path / "engines" / "llama" / "config.json").unlink()
    assert "no engine there" in preflight(spec, gpus=[H100], installed="1.2.1").problems[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_batch_size": 128}, "built for max_batch_size 64, deploy says 128"),
        ({"max_seq_len": 4096}, "built for max_seq_len 2048"),
        ({"tensor_parallel": 2}, "built for 1 GPUs, deploy says 2"),
    ],
)
def test_more_than_was_built_is_refused(tmp_path, options, says):
    found = preflight(engine_of(tmp_path, **options), gpus=[H100, replace(H100, index=1)], installed="1.2.1")
    assert says in found.problems[0]


def test_guided_decoding_without_its_file_is_refused(tmp_path):
    spec = engine_of(tmp_path)
    (tmp_path / "engines" / "llama" / "xgrammar_tokenizer_info.json").unlink()
    assert "silently off" in preflight(spec, gpus=[H100], installed="1.2.1").problems[0]


def test_an_adapter_that_was_not_built_in_is_refused(tmp_path):
    write_adapter(tmp_path / "lora")
    spec = engine_of(tmp_path, lora={"name": "fashion", "path": "lora", "rank": 8})
    assert "without the adapter 'fashion'" in preflight(spec, gpus=[H100], installed="1.2.1").problems[0]


def test_fractions_that_exceed_the_gpu_are_refused(tmp_path):
    spec = deployment(
        tmp_path, *(member(n, m, kv_cache_fraction=0.6) for n, m in (("a", LLAMA_8B), ("b", QWEN_7B)))
    )
    found = preflight(spec, gpus=[H100], installed="1.2.1")
    assert "KV caches exceed it" in found.problems[0]
    assert "Would fit: for every member `kv_cache_gib:" in found.problems[0]


def test_an_adapter_of_another_base_is_refused(tmp_path):
    write_adapter(tmp_path / "lora")
    lora = {"name": "fashion", "path": "lora", "rank": 8}
    spec = deployment(tmp_path, member("a", QWEN_7B, lora=lora, kv_cache_gib=4))
    found = preflight(spec, gpus=[H100], installed="1.2.1")
    assert "LoRA adapter of another base" in found.problems[0]
    assert "meta-llama/Llama-3.1-8B-Instruct" in found.problems[0]


def test_a_quantised_checkpoint_that_was_not_made_yet_is_refused(tmp_path):
    write_tiny(tmp_path / "tiny")
    spec = deployment(tmp_path, member("a", "tiny-fp8", quantization="fp8", kv_cache_gib=1))
    (problem,) = preflight(spec, gpus=[H100], installed="1.2.1").problems
    assert "tiny-fp8 is not there yet" in problem
    assert "quorum build a --spec" in problem


def test_too_little_memory_is_refused(tmp_path):
    spec = deployment(tmp_path, member("a", LLAMA_8B, kv_cache_gib=4))
    assert preflight(spec, gpus=[H100], installed="1.2.1").problems == []
    found = preflight(spec, gpus=[replace(H100, used=64 * GIB)], installed="1.2.1")
    assert "before any KV cache" in found.problems[0]


def test_no_gpu_and_no_tensorrt_llm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    spec = deployment(tmp_path, member("a", LLAMA_8B, kv_cache_gib=4))
    problems = " ".join(preflight(spec).problems)
    assert "TensorRT-LLM is not installed here" in problems
    assert "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3" in problems
    assert "no GPU here" in problems


def test_the_machine_is_asked(tmp_path, monkeypatch):
    box = trtllm_tools.install(tmp_path / "box", smi=trtllm_tools.A100)
    monkeypatch.setenv("PATH", f"{box / 'bin'}")
    found = preflight(engine_of(tmp_path), installed="1.2.1")
    assert "here is sm_80 (NVIDIA A100-SXM4-80GB)" in found.problems[0]
    (box / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert "NVIDIA-SMI has failed" in preflight(engine_of(tmp_path / "two"), installed="1.2.1").problems[0]


def test_an_old_driver_is_noted_not_refused(tmp_path):
    spec = engine_of(tmp_path)
    for driver, notes in (("550.90.12", 1), ("590.44", 0), ("610.43.02", 0), ("", 0)):
        found = preflight(spec, gpus=[replace(H100, driver=driver)], installed="1.2.1")
        assert found.problems == []
        assert len([note for note in found.notes if note.startswith(f"driver {driver} is older")]) == notes


def on_torch(device):
    return {"name": "h", "runtime": "hf", "options": {"model": LLAMA_8B, "device": device}}


def test_members_of_hf_need_no_tensorrt_llm_and_are_counted(tmp_path):
    spec = deployment(tmp_path, on_torch("cuda"))
    found = preflight(spec, gpus=[H100], torch="2.13.0")
    assert (found.problems, found.checked) == ([], ["h"])
    (problem,) = preflight(spec, gpus=[replace(H100, memory=24 * GIB)], torch="2.13.0").problems
    assert "with full batches of hf members, by estimate" in problem
    assert "Would fit: for every member of hf `max_batch: 8`" in problem


def test_hf_beside_tensorrt_llm_is_refused_when_both_do_not_fit(tmp_path):
    llm = member("a", QWEN_7B, kv_cache_gib=40)
    spec = deployment(tmp_path, llm, on_torch("auto"))
    (problem,) = preflight(spec, gpus=[H100], installed="1.2.1", torch="2.13.0").problems
    assert "for full batches of hf members (estimate)" in problem
    # The build for CPUs leaves the GPU to the other.
    left = preflight(spec, gpus=[H100], installed="1.2.1", torch="2.13.0+cpu")
    assert (left.problems, left.checked) == ([], ["a"])


def test_hf_that_is_bound_to_a_gpu_needs_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = preflight(deployment(tmp_path, on_torch("cuda")), torch="2.13.0").problems
    assert "h: no GPU here" in problem
    found = preflight(deployment(tmp_path, on_torch("cuda")), gpus=[H100], torch="2.13.0+cpu")
    assert "h: PyTorch here is the build for CPUs" in found.problems[0]


def test_hf_that_takes_what_there_is_starts_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    spec = deployment(tmp_path, on_torch("auto"))
    found = preflight(spec, torch="2.13.0")
    assert (found.problems, found.checked) == ([], [])
    box = trtllm_tools.install(tmp_path / "box")
    (box / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    monkeypatch.setenv("PATH", str(box / "bin"))
    found = preflight(spec, torch="2.13.0")
    assert (found.problems, found.checked) == ([], [])
    assert "NVIDIA-SMI has failed" in found.notes[0]


def test_deployments_without_gpu_members_are_left_alone(tmp_path):
    votes = {"name": "r", "runtime": "replay", "options": {"votes": "votes.jsonl"}}
    assert preflight(deployment(tmp_path, votes)).checked == []


def test_an_encoder_on_a_gpu_needs_one(tmp_path):
    options = {"model": "ner", "triton": True}
    found = preflight(
        deployment(tmp_path, {"name": "ner", "runtime": "encoder", "options": options}), gpus=[]
    )
    assert [problem for problem in found.problems if "ner: no GPU here" in problem]
    assert found.checked == ["ner"]
