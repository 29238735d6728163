# SPDX-License-Identifier: Apache-2.0
"""The memory plan: the arithmetic, every order of loading, fixes that fit."""

import json
from dataclasses import replace

import pytest
from gpu_support import (
    H100,
    LLAMA_8B,
    QWEN_7B,
    deployment,
    member,
    write_adapter,
)

from quorum.build import BuildError
from quorum.build.shapes import find_shape
from quorum.capacity.memory import UNCHANGED, read_llm
from quorum.capacity.plan import DRIVER_BYTES, plan_memory
from quorum.hardware import GIB, known_gpu


def test_no_gpu_at_all_is_a_problem_not_an_error(tmp_path):
    plan = plan_memory(deployment(tmp_path, member("a", LLAMA_8B)), [])
    assert "GPU 0: member a wants it, 0 are here" in plan.problems[0]


def test_need_adds_up_and_is_split_over_gpus(tmp_path):
    one = read_llm(deployment(tmp_path, member("a", LLAMA_8B)).members, tmp_path)(UNCHANGED)
    two = read_llm(deployment(tmp_path, member("a", LLAMA_8B, tensor_parallel=2)).members, tmp_path)(
        UNCHANGED
    )
    assert one.weights == 2 * 8_030_261_248
    assert two.weights == one.weights // 2
    assert two.gpus == (0, 1)
    assert two.kv_per_token == one.kv_per_token // 2
    wide = 2 * 4096 + 3 * 14_336
    assert one.activations == int(1.25 * (4096 * wide * 2 + 64 * 128_256 * 12))
    assert one.fixed == one.weights + one.context + one.activations


@pytest.mark.parametrize(("kv", "each"), [(None, 2), ("FP8", 1), ("INT8", 1)])
def test_an_engine_that_others_built_is_planned_from_its_own_files(tmp_path, kv, each):
    folder = tmp_path / "engine"
    folder.mkdir()
    pretrained = {
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_size": 128,
        "max_position_embeddings": 131_072,
        "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1},
        "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": kv},
    }
    config = {"version": "1.2.1", "pretrained_config": pretrained, "build_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    for rank in (0, 1):
        (folder / f"rank{rank}.engine").write_bytes(bytes(4096))
    options = {"model": None, "engine": "engine", "tensor_parallel": 2, "kv_cache_gib": 4}
    said = member("a", "", "engine")
    said["options"] = {k: v for k, v in {**said["options"], **options}.items() if v is not None}
    need = read_llm(deployment(tmp_path, said).members, tmp_path)(UNCHANGED)
    assert need.weights == 4096, "the size of one rank's file"
    assert need.kv_per_token == 2 * 32 * 4 * 128 * each
    assert need.gpus == (0, 1)


def test_limits_in_bytes_fit_in_any_order(tmp_path):
    spec = deployment(tmp_path, *(member(n, m, kv_cache_gib=8) for n, m in (("a", LLAMA_8B), ("b", QWEN_7B))))
    plan = plan_memory(spec, [H100])
    assert plan.fits, plan.problems
    assert [share.kv for share in plan.gpus[0].shares] == [8 * GIB, 8 * GIB]
    assert plan.gpus[0].shares[0].tokens == 8 * GIB // 131_072
    assert not [note for note in plan.notes if "order" in note]


def test_one_member_with_a_fraction_takes_it_of_what_is_free_after_loading(tmp_path):
    spec = deployment(tmp_path, member("a", LLAMA_8B, kv_cache_fraction=0.5))
    share = plan_memory(spec, [H100]).gpus[0].shares[0]
    assert share.kv == int((80 * GIB - DRIVER_BYTES - share.need.fixed) * 0.5)


def test_two_fractions_that_exceed_the_gpu_are_refused_with_what_would_fit(tmp_path):
    spec = deployment(
        tmp_path, *(member(n, m, kv_cache_fraction=0.6) for n, m in (("a", LLAMA_8B), ("b", QWEN_7B)))
    )
    plan = plan_memory(spec, [H100])
    assert not plan.fits
    assert "KV caches exceed it" in plan.problems[0]
    assert "a 0.6 x" in plan.problems[0]
    assert "kv_cache_gib" in plan.problems[0]
    assert plan.fixes[0].startswith("for every member `kv_cache_gib:")


def test_fractions_are_refused_when_one_order_of_loading_fails(tmp_path):
    # Together 0.5 + 0.45 stay below 1, but who loads second finds no room for its weights on this GPU.
    gpu = replace(H100, memory=42 * GIB)
    spec = deployment(
        tmp_path,
        member("a", LLAMA_8B, kv_cache_fraction=0.5),
        member("b", QWEN_7B, kv_cache_fraction=0.45),
    )
    plan = plan_memory(spec, [gpu])
    assert not plan.fits
    assert "when it loads after" in plan.problems[0]
    assert plan_memory(spec, [H100]).fits


def test_caches_that_depend_on_the_order_are_told(tmp_path):
    spec = deployment(
        tmp_path, *(member(n, m, kv_cache_fraction=0.4) for n, m in (("a", LLAMA_8B), ("b", QWEN_7B)))
    )
    plan = plan_memory(spec, [H100])
    assert plan.fits
    assert [note for note in plan.notes if "by the order of loading" in note]
    share = plan.gpus[0].shares[0]
    assert share.kv < share.kv_most


def test_every_mend_fits_when_it_is_taken(tmp_path):
    members = [("a", LLAMA_8B), ("b", QWEN_7B), ("c", "mistralai/Mistral-7B-Instruct-v0.3")]
    spec = deployment(tmp_path, *(member(n, m) for n, m in members))
    plan = plan_memory(spec, [known_gpu("l40s-48")])
    assert not plan.fits
    assert "before any KV cache" in plan.problems[0]
    assert plan.fixes
    for fix in plan.fixes:
        if "on " in fix and "--gpu" in fix:
            continue
        options = {}
        for key, value in (part.split(": ") for part in fix.split("`")[1::2]):
            options[key] = value if key == "quantization" else float(value) if "gib" in key else int(value)
        ending = "-fp8" if "quantization" in options else ""
        changed = deployment(tmp_path, *(member(n, m + ending, **options) for n, m in members))
        assert plan_memory(changed, [known_gpu("l40s-48")]).fits, fix


def test_an_option_quantises_no_checkpoint_that_is_loaded_as_it_is(tmp_path):
    spec = deployment(tmp_path, member("a", LLAMA_8B, quantization="fp8"))
    with pytest.raises(BuildError, match=r"member a: .*is not quantised; .*Llama-3\.1-8B-Instruct-fp8"):
        plan_memory(spec, [H100])
    quantised = deployment(tmp_path, member("a", f"{LLAMA_8B}-FP8", quantization="fp8"))
    need = plan_memory(quantised, [H100]).gpus[0].shares[0].need
    assert need.weights == find_shape(LLAMA_8B, tmp_path).weight_bytes(quantisation="fp8")
    assert need.kv_per_token == 65_536


def test_fp8_is_not_proposed_where_the_gpu_has_none(tmp_path):
    spec = deployment(tmp_path, *(member(n, m, kv_cache_gib=2) for n, m in (("a", LLAMA_8B), ("b", QWEN_7B))))
    plan = plan_memory(spec, [known_gpu("a100-40")])
    assert not plan.fits or plan.gpus
    small = plan_memory(spec, [replace(known_gpu("a100-40"), memory=30 * GIB)])
    assert not [fix for fix in small.fixes if "fp8" in fix]


def test_a_cache_too_small_for_one_question_is_refused(tmp_path):
    spec = deployment(tmp_path, member("a", LLAMA_8B, kv_cache_gib=0.1))
    plan = plan_memory(spec, [H100])
    assert "one question may take 2048" in plan.problems[0]


def test_what_others_hold_is_taken_off(tmp_path):
    spec = deployment(tmp_path, member("a", LLAMA_8B, kv_cache_gib=20))
    assert not [note for note in plan_memory(spec, [H100]).notes if "asks for" in note]
    tight = plan_memory(spec, [replace(H100, used=60 * GIB)])
    # A limit is an upper one: TensorRT-LLM takes less where less is free.
    assert tight.fits
    assert [note for note in tight.notes if "of the 20.0 GiB that it asks for" in note]
    assert not plan_memory(spec, [replace(H100, used=65 * GIB)]).fits


def test_more_gpus_wanted_than_there_are(tmp_path):
    spec = deployment(tmp_path, member("a", LLAMA_8B, tensor_parallel=2, kv_cache_gib=4))
    assert "GPU 1: member a wants it" in plan_memory(spec, [H100]).problems[0]
    assert plan_memory(spec, [H100, replace(H100, index=1)]).fits


def test_members_of_other_runtimes_are_named_not_planned(tmp_path):
    votes = {"name": "r", "runtime": "replay", "options": {"votes": "votes.jsonl"}}
    plan = plan_memory(deployment(tmp_path, member("a", LLAMA_8B, kv_cache_gib=4), votes), [H100])
    assert plan.elsewhere == ["r"]


def test_an_adapter_of_its_base_is_counted(tmp_path):
    write_adapter(tmp_path / "lora")
    lora = {"name": "fashion", "path": "lora", "rank": 8}
    spec = deployment(tmp_path, member("a", LLAMA_8B, lora=lora, kv_cache_gib=4))
    share = plan_memory(spec, [H100]).gpus[0].shares[0]
    assert share.need.adapter == (tmp_path / "lora" / "adapter_model.safetensors").stat().st_size
    assert share.need.lora_share > 0


def test_adapters_on_one_base_take_the_memory_of_one(tmp_path):
    names = ("fashion", "toys", "books")
    for name in names:
        write_adapter(tmp_path / name)
    loras = [{"name": name, "path": name, "rank": 8} for name in names]
    members = [member(x["name"], LLAMA_8B, lora=x, kv_cache_gib=4) for x in loras]
    (share,) = plan_memory(deployment(tmp_path, *members), [H100]).gpus[0].shares
    assert share.need.member == "fashion, toys, books"
    assert share.need.weights == 2 * 8_030_261_248
    size = (tmp_path / "toys" / "adapter_model.safetensors").stat().st_size
    assert share.need.adapter == 3 * size
    # One that attributes and members name is there once.
    members[0]["options"]["adapters"] = {"color": "toys"}
    (share,) = plan_memory(deployment(tmp_path, *members), [H100]).gpus[0].shares
    assert share.need.adapter == 3 * size


@pytest.mark.parametrize(
    ("model", "adapter", "says"),
    [
        (QWEN_7B, {}, r"layer 31, the base has 28 layers"),
        (QWEN_7B, {"layers": 28}, r"reads 4096 values, q_proj of the base gets 3584"),
        (LLAMA_8B, {"kv": 512}, r"v_proj.*writes 512 values, v_proj of the base 1024"),
        (
            LLAMA_8B,
            {"base": "mistralai/Mistral-7B-Instruct-v0.3"},
            r"trained on mistralai.*not on meta-llama",
        ),
    ],
)
def test_an_adapter_of_another_base_is_refused(tmp_path, model, adapter, says):
    write_adapter(tmp_path / "lora", **adapter)
    lora = {"name": "fashion", "path": "lora", "rank": 8}
    with pytest.raises(BuildError, match=rf"(?s)member a: .*lora.*{says}"):
        plan_memory(deployment(tmp_path, member("a", model, lora=lora)), [H100])


def test_an_encoder_on_a_gpu_is_named_but_not_counted(tmp_path):
    folder = tmp_path / "ner"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(bytes(GIB // 10))
    options = {"model": "ner", "triton": True}
    spec = deployment(tmp_path, {"name": "ner", "runtime": "encoder", "options": options})
    found = plan_memory(spec, [H100])
    (note,) = found.notes
    assert note.startswith("ner is on a GPU but not counted: an encoder, model.onnx is 0.1 GiB")
    assert (found.fits, found.elsewhere) == (True, ["ner"])
    on_cpu = deployment(tmp_path, {"name": "ner", "runtime": "encoder", "options": {"model": "ner"}})
    assert not plan_memory(on_cpu, [H100]).notes
