# SPDX-License-Identifier: Apache-2.0
"""Members of runtime ``hf`` on a GPU: the estimate by hand, beside TensorRT-LLM, in any order, and fixes."""

from dataclasses import replace

import pytest
from gpu_support import H100, LLAMA_8B, QWEN_7B, deployment, member, write_adapter, write_tiny

from quorum.build import BuildError
from quorum.capacity.plan import DRIVER_BYTES, plan_memory
from quorum.capacity.torch_memory import gpu_of
from quorum.deployment import DeploymentError
from quorum.hardware import GIB
from quorum.operations.plan import plan
from quorum.runtimes.option_base import OptionError
from quorum.runtimes.options import read_options

LLAMA_BYTES = 2 * 8_030_261_248
PER_TOKEN = 2 * 32 * 8 * 128 * 2


def hf(name, model=LLAMA_8B, **options):
    return {"name": name, "runtime": "hf", "options": {"model": model, "device": "cuda", **options}}


def need(tmp_path, **options):
    (share,) = plan_memory(deployment(tmp_path, hf("a", **options)), [H100]).gpus[0].shares
    return share.need


def test_a_full_batch_by_hand(tmp_path):
    found = need(tmp_path, max_batch=8, max_seq_len=1024, max_new_tokens=224)
    wide = 2 * 4096 + 3 * 14_336
    assert found.weights == LLAMA_BYTES
    assert found.activations == int(1.25 * (8 * 800 * wide * 2 + 8 * 128_256 * 20))
    assert found.kv_room == 8 * 1024 * PER_TOKEN
    assert found.late == found.activations + found.kv_room
    assert found.at_start == LLAMA_BYTES + found.context
    assert found.arithmetic["kv_cache"] == "8 questions x 1024 tokens (estimate)"


def test_what_is_not_said_is_assumed_and_told(tmp_path):
    plan = plan_memory(deployment(tmp_path, hf("a")), [H100])
    (share,) = plan.gpus[0].shares
    assert share.kv == 32 * 2048 * PER_TOKEN
    assert plan.fits
    (note,) = plan.notes
    assert "a: an estimate" in note
    assert "2048 tokens (assumed; `max_seq_len` says otherwise)" in note


def test_continuous_batching_keeps_the_cache_that_it_is_given(tmp_path):
    found = need(tmp_path, batching="continuous", kv_cache_tokens=8192, max_batch=4)
    assert found.kv_room == 8192 * PER_TOKEN
    assert found.activations == int(1.25 * (2048 * (2 * 4096 + 3 * 14_336) * 2 + 4 * 128_256 * 20))
    small = deployment(tmp_path, hf("a", batching="continuous", kv_cache_tokens=4096))
    (told,) = [note for note in plan_memory(small, [H100]).notes if "at once" in note]
    assert "2 questions of 2048 tokens at once, not its max_batch of 32" in told


def test_fp32_stays_fp32(tmp_path):
    write_tiny(tmp_path / "tiny", torch_dtype="float32")
    found = need(tmp_path, model="tiny", max_seq_len=512)
    assert found.weights == (tmp_path / "tiny" / "model.safetensors").stat().st_size
    assert found.kv_per_token == 2 * 2 * 2 * 16 * 4
    half = need(tmp_path, model="tiny", max_seq_len=512, dtype="float16")
    assert half.kv_per_token == found.kv_per_token // 2


@pytest.mark.parametrize(
    ("device", "auto", "gpu"),
    [
        ("cpu", True, None),
        ("auto", True, 0),
        ("auto", False, None),
        ("cuda", False, 0),
        ("cuda:3", False, 3),
        ("mps", True, None),
    ],
)
def test_where_a_member_runs(tmp_path, device, auto, gpu):
    (one,) = deployment(tmp_path, hf("a", device=device)).members
    assert gpu_of(one.options, auto=auto) == gpu
    assert gpu_of(deployment(tmp_path, member("a", LLAMA_8B)).members[0].options) is None


def test_members_on_the_cpu_are_elsewhere(tmp_path):
    spec = deployment(tmp_path, hf("a"), hf("b", device="cpu"), hf("c", device="auto"))
    plan = plan_memory(spec, [H100])
    assert plan.elsewhere == ["b"]
    assert [share.need.member for share in plan.gpus[0].shares] == ["a", "c"]
    assert plan_memory(spec, [H100], pytorch_sees_gpus=False).elsewhere == ["b", "c"]


def test_a_gpu_that_is_not_there(tmp_path):
    plan = plan_memory(deployment(tmp_path, hf("a", device="cuda:1")), [H100])
    assert "GPU 1: member a wants it, 1 are here; choose another device" in plan.problems[0]


def test_beside_tensorrt_llm_the_sums_add_up(tmp_path):
    spec = deployment(tmp_path, member("a", LLAMA_8B, kv_cache_gib=8), hf("b", QWEN_7B, max_batch=16))
    plan = plan_memory(spec, [H100])
    assert plan.fits, plan.problems
    a, b = plan.gpus[0].shares
    assert (a.kv, b.kv) == (8 * GIB, 16 * 2048 * 2 * 28 * 4 * 128 * 2)
    assert plan.gpus[0].fixed == a.need.fixed + b.need.fixed
    assert plan.gpus[0].fixed + a.kv + b.kv <= plan.gpus[0].usable
    tight = plan.gpus[0].fixed + a.kv + b.kv + DRIVER_BYTES
    assert plan_memory(spec, [replace(H100, memory=tight)]).fits
    # A byte less: TensorRT-LLM takes a smaller cache than it asks for, and who loads first takes it whole.
    assert not plan_memory(spec, [replace(H100, memory=tight - 1)]).fits


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kv_cache_gib": 60}, "14.9 GiB of it for full batches of hf members (estimate)"),
        ({"kv_cache_fraction": 0.9}, "KV caches exceed it"),
        ({"kv_cache_gib": 40}, "give each a `kv_cache_gib` that leaves them theirs"),
    ],
)
def test_a_cache_that_takes_the_room_of_batches_is_refused(tmp_path, options, says):
    alone = plan_memory(deployment(tmp_path, member("a", LLAMA_8B, **options)), [H100])
    assert alone.fits
    plan = plan_memory(deployment(tmp_path, member("a", LLAMA_8B, **options), hf("b")), [H100])
    assert says in plan.problems[0]
    assert plan.fixes[0].startswith("for every member of tensorrt_llm and engine `kv_cache_gib:")


def test_a_fraction_is_tried_before_and_after_batches_came(tmp_path):
    # 0.6 of what is free beside idle PyTorch leaves room for its batches; loaded first, it does not.
    spec = deployment(tmp_path, member("a", LLAMA_8B, kv_cache_fraction=0.6), hf("b"))
    (problem,) = plan_memory(spec, [H100]).problems
    assert "full batches of hf members need 14.9 GiB (estimate) and find" in problem
    assert "in the order a, b" in problem
    fitting = plan_memory(deployment(tmp_path, member("a", LLAMA_8B, kv_cache_fraction=0.4), hf("b")), [H100])
    assert fitting.fits
    assert [note for note in fitting.notes if note.startswith("a gets") and "by the order" in note]


def test_what_cannot_fit_says_which_batch_would(tmp_path):
    gpu = replace(H100, memory=24 * GIB)
    plan = plan_memory(deployment(tmp_path, hf("a")), [gpu])
    assert "with full batches of hf members, by estimate" in plan.problems[0]
    assert "for every member of hf `max_batch: 8`" in plan.fixes
    assert plan_memory(deployment(tmp_path, hf("a", max_batch=8)), [gpu]).fits
    assert not plan_memory(deployment(tmp_path, hf("a", max_batch=16)), [gpu]).fits


def test_mends_of_mixed_deployments_fit_when_they_are_taken(tmp_path):
    gpu = replace(H100, memory=48 * GIB)
    plan = plan_memory(deployment(tmp_path, member("a", LLAMA_8B, kv_cache_gib=8), hf("b", QWEN_7B)), [gpu])
    assert not plan.fits
    tried = 0
    for fix in plan.fixes:
        if "--gpu" in fix:
            continue
        said = dict(part.split(": ") for part in fix.split("`")[1::2])
        batch = {"max_batch": int(said.pop("max_batch"))} if "max_batch" in said else {}
        model = LLAMA_8B + ("-fp8" if said.pop("quantization", None) else "")
        options = {key: float(value) if "gib" in key else int(value) for key, value in said.items()}
        first = member("a", model, **{"kv_cache_gib": 8, **options})
        assert plan_memory(deployment(tmp_path, first, hf("b", QWEN_7B, **batch)), [gpu]).fits, fix
        tried += 1
    assert tried >= 2


def test_a_model_of_unknown_shape_is_told_and_stops_nobody(tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "rwkv"}')
    plan = plan_memory(deployment(tmp_path, hf("a", "odd"), hf("b")), [H100])
    assert plan.fits
    assert plan.elsewhere == ["a"]
    assert plan.notes[0].startswith("a is on a GPU but not counted: ")
    assert "must be of a decoder-only transformer" in plan.notes[0]


def test_an_adapter_of_another_base_is_refused(tmp_path):
    write_adapter(tmp_path / "lora")
    assert need(tmp_path, lora="lora").adapter == 0
    with pytest.raises(BuildError, match=r"member a: .*LoRA adapter of another base, not Qwen"):
        plan_memory(deployment(tmp_path, hf("a", QWEN_7B, lora="lora")), [H100])
    # PEFT reads other formats too.
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    assert plan_memory(deployment(tmp_path, hf("a", QWEN_7B, lora="lora")), [H100]).fits


def test_members_on_one_base_count_it_once_with_every_adapter(tmp_path):
    one, _ = (write_adapter(tmp_path / name) for name in ("one", "two"))
    bytes_of_one = (one / "adapter_model.safetensors").stat().st_size
    members = [
        hf("a", lora="one", max_new_tokens=64),
        hf("b", lora="two"),
        hf("c", adapters={"color": "one"}),
    ]
    spec = deployment(tmp_path, *members)
    found = plan_memory(spec, [H100])
    (share,) = found.gpus[0].shares
    assert share.need.member == "a, b, c"
    assert share.need.weights == LLAMA_BYTES
    assert share.need.adapter == 2 * bytes_of_one
    assert found.fits
    assert not found.elsewhere
    # The longest prompts are those of the shortest answers.
    assert share.need.activations == need(tmp_path, max_new_tokens=64).activations
    apart = plan_memory(deployment(tmp_path, *(hf(n, shared=False, lora=n) for n in ("one", "two"))), [H100])
    assert [(s.need.member, s.need.weights, s.need.adapter) for s in apart.gpus[0].shares] == [
        ("one", LLAMA_BYTES, 0),
        ("two", LLAMA_BYTES, 0),
    ]
    write_adapter(tmp_path / "other", hidden=3584, kv=512, layers=28, base=QWEN_7B)
    with pytest.raises(BuildError, match=r"member b: .*LoRA adapter of another base"):
        plan_memory(deployment(tmp_path, hf("a", lora="one"), hf("b", lora="other")), [H100])


def test_a_report_says_which_adapter_answers_what(tmp_path):
    for name in ("one", "two"):
        write_adapter(tmp_path / name)
    adapters = {"color": "one"}
    spec = deployment(tmp_path, hf("a", lora="two", adapters=adapters), hf("b"), hf("c", shared=False))
    report = plan(spec, gpu="h100-80")
    assert report.adapters == {"a": {"color": "one", "*": "two"}}
    assert report.to_json()["shared"] == [["a", "b"]]
    assert report.to_json()["adapters"] == report.adapters


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_batch": 0}, "0 is not a whole number of at least 1"),
        ({"max_seq_len": 256}, "the answer alone may take 256"),
        ({"max_seq_len": 100, "max_new_tokens": 100}, "the answer alone may take 100"),
    ],
)
def test_sizes_that_let_nothing_through_are_refused(tmp_path, options, says):
    with pytest.raises(OptionError, match=says):
        read_options("hf", {"model": "m", **options})
    with pytest.raises(DeploymentError, match=says):
        deployment(tmp_path, hf("a", **options))
