# SPDX-License-Identifier: Apache-2.0
"""``quorum plan`` and ``quorum build --spec`` as people call them."""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from support import trtllm_tools
from support.fault_server import free_port
from support.standin import write_adapter
from typer.testing import CliRunner

from quorum.cli import app

ROOT = Path(__file__).parents[3]
MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct")


@pytest.fixture(autouse=True)
def no_gpu_here(tmp_path, monkeypatch):
    """Whatever this machine has, these tests look at one without."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def write(tmp_path, *options, runtime="tensorrt_llm"):
    file = tmp_path / "deploy.yaml"
    base = {"max_seq_len": 2048, "max_num_tokens": 4096, "max_batch_size": 64}
    members = [
        {"name": f"m{n}", "runtime": runtime, "options": {"model": MODELS[n], **base, **given}}
        for n, given in enumerate(options)
    ]
    file.write_text(yaml.safe_dump({"members": members, "attributes": {"color": {}}}))
    return file


def test_the_shipped_deployment_fits_an_80_gb_gpu_and_shows_its_arithmetic():
    result = run("plan", ROOT / "deploy.gpu.yaml")
    for part in ("8.03 G parameters x 2 B", "2 x 32 layers x 8 heads x 128 wide x 2 B = 128 KiB per token"):
        assert part in result.stdout
    assert "h100-80 is assumed" in result.stderr
    assert "fits; computed, not measured" in result.stderr


def test_the_deployment_is_named_as_in_other_commands(tmp_path, monkeypatch):
    file = write(tmp_path, {})
    for named in ((file,), ("--deploy", file), ("-d", file)):
        assert json.loads(run("plan", *named, "--json").stdout)["fits"]
    monkeypatch.setenv("QUORUM_DEPLOY", str(file))
    assert json.loads(run("plan", "--json").stdout)["fits"]
    monkeypatch.setenv("QUORUM_DEPLOY", str(tmp_path / "none.yaml"))
    assert "none.yaml: No such file" in run("plan", code=1).stderr
    assert json.loads(run("plan", file, "--json").stdout)["fits"]
    assert "name one deployment" in run("plan", file, "--deploy", file, code=1).stderr


@pytest.mark.parametrize("gpu", ["a100-80", "h100-80", "h200-141", "b200-180"])
def test_the_shipped_deployment_fits_what_it_says(gpu):
    run("plan", ROOT / "deploy.gpu.yaml", "--gpu", gpu)


@pytest.mark.parametrize("gpu", ["l40s-48", "h100-80"])
def test_its_fp8_twin_fits_smaller_ones(gpu):
    result = run("plan", ROOT / "deploy.gpu-fp8.yaml", "--gpu", gpu)
    assert "6.98 G parameters as fp8" in result.stdout
    assert "128 wide x 1 B = 64 KiB per token" in result.stdout


def test_json_holds_the_same_sums():
    plan = json.loads(run("plan", ROOT / "deploy.gpu.yaml", "--gpu", "h100-80", "--json").stdout)
    (gpu,) = plan["gpus"]
    assert plan["fits"]
    assert [m["member"] for m in gpu["members"]] == ["llama", "qwen", "mistral"]
    parts = ("weights_bytes", "runtime_bytes", "activation_bytes", "lora_bytes")
    assert gpu["fixed_bytes"] == sum(m[part] for m in gpu["members"] for part in parts)
    assert gpu["fixed_bytes"] + sum(m["kv_bytes"] for m in gpu["members"]) <= gpu["usable_bytes"]


def test_members_of_hf_are_counted_and_marked_as_an_estimate(tmp_path):
    file = write(tmp_path, {"kv_cache_gib": 8})
    said = yaml.safe_load(file.read_text())
    options = {"model": MODELS[1], "device": "cuda", "max_batch": 16, "max_seq_len": 1024}
    said["members"].append({"name": "h", "runtime": "hf", "options": options})
    file.write_text(yaml.safe_dump(said))
    result = run("plan", file, "--gpu", "h100-80")
    assert "h (estimate)" in result.stdout
    assert "= 56 KiB per token x 16 questions x 1024 tokens (estimate) = 0.9 GiB" in result.stdout
    assert "fits; computed, not measured; estimates of what PyTorch takes among it" in result.stderr
    assert "h: an estimate, as PyTorch takes memory as it goes" in result.stderr
    plan = json.loads(run("plan", file, "--gpu", "h100-80", "--json").stdout)
    assert [one["estimate"] for one in plan["gpus"][0]["members"]] == [False, True]
    said["members"][1]["options"]["device"] = "cpu"
    file.write_text(yaml.safe_dump(said))
    assert "not planned, on no GPU or of unknown shape: h" in run("plan", file, "--gpu", "h100-80").stderr


def test_what_cannot_fit_exits_1_and_says_what_would(tmp_path):
    result = run("plan", write(tmp_path, {"kv_cache_fraction": 0.6}, {"kv_cache_fraction": 0.6}), code=1)
    assert "does not fit: GPU 0" in result.stderr
    assert "would fit: for every member `kv_cache_gib:" in result.stderr
    small = run("plan", ROOT / "deploy.gpu.yaml", "--gpu-memory", "24GiB", code=1)
    assert "would fit: as it is, on a100-80" in small.stderr


def test_cost_is_the_formula(tmp_path):
    arguments = ("plan", ROOT / "deploy.gpu.yaml", "--listings", "1e6", "--rate", "8", "--price", "2.5")
    cost = json.loads(run(*arguments, "--json").stdout)["cost"]
    assert cost["gpu_hours"] == pytest.approx(1e6 / 8 / 3600)
    assert cost["total"] == pytest.approx(1e6 / 8 / 3600 * 2.5)
    assert "34.7 GPU hours x 2.5 = 86.81" in run(*arguments).stdout
    assert "--rate" in run("plan", ROOT / "deploy.gpu.yaml", "--listings", "1e6", code=1).stderr


def test_gpus_of_this_machine_are_taken_when_there_are_some(tmp_path):
    trtllm_tools.install(tmp_path)
    result = run("plan", write(tmp_path, {"kv_cache_gib": 4}))
    assert "those of this machine" in result.stderr
    assert "NVIDIA H100 80GB HBM3, 79.6 GiB" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--gpu", "rtx"), "use one of l40s-48"),
        (("--gpu-memory", "lots"), "80GiB"),
        (("--gpu", "h100-80", "--gpu-memory", "80GiB"), "give one of them"),
    ],
)
def test_wrong_gpus_are_refused(tmp_path, arguments, says):
    assert says in run("plan", write(tmp_path, {}), *arguments, code=1).stderr


def test_dry_run_prints_commands_that_can_be_pasted(tmp_path):
    result = run("build", "--spec", ROOT / "deploy.engine.yaml", "--dry-run")
    commands = [shlex.split(line) for line in result.stdout.splitlines()]
    assert [Path(c[1] if c[0] == "python3" else c[0]).name for c in commands] == [
        "quantize.py",
        "trtllm-build",
        "generate_xgrammar_tokenizer_info.py",
    ]
    trtllm_tools.check("bin/trtllm-build", commands[1][1:])
    assert not (ROOT / "engines" / "llama.build").exists()


def test_a_dry_build_prints_the_modules_that_an_adapter_changes(tmp_path):
    write_adapter(tmp_path / "adapter")
    options = {"engine": "engine", "lora": {"path": "adapter"}}
    result = run("build", "--spec", write(tmp_path, options, runtime="engine"), "--dry-run")
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("trtllm-build "))
    assert line.endswith("--lora_target_modules attn_k attn_q attn_v")
    trtllm_tools.check("bin/trtllm-build", shlex.split(line)[1:])


def test_members_that_load_checkpoints_need_no_build():
    result = run("build", "--spec", ROOT / "deploy.gpu.yaml", "--dry-run")
    assert result.stdout == ""
    for name in ("llama", "qwen", "mistral"):
        assert f"{name}: nothing to build; the LLM API loads the checkpoint itself" in result.stderr
    result = run("build", "--spec", ROOT / "deploy.gpu-fp8.yaml", "--dry-run")
    assert f"there is no {ROOT / 'checkpoints' / 'Qwen2.5-7B-Instruct'} to make" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("build",), "name a checkpoint and a folder"),
        (("build", "nobody", "--spec", ROOT / "deploy.gpu.yaml"), "no member 'nobody'; it has llama, qwen"),
        (("build", "a", "b", "--spec", ROOT / "deploy.gpu.yaml"), "leave OUT out"),
        (("build", "a", "b", "--dry-run"), "goes with --spec"),
        (("build", "--spec", ROOT / "deploy.engine.yaml"), "no GPU here"),
    ],
)
def test_wrong_builds_are_refused(arguments, says):
    assert says in run(*arguments, code=1).stderr


def test_preflight_by_validate_and_before_up(tmp_path):
    file = write(tmp_path, {"kv_cache_gib": 4})
    run("validate", "--spec", file)
    for command in (("validate", "--preflight"), ("up",)):
        refused = run(*command, "--spec", file, code=1).stderr
        assert "TensorRT-LLM is not installed here" in refused
        assert "no GPU here" in refused


@pytest.mark.parametrize("price", [{"per_call": 0.5}, {"per_second": 1.0}, None])
def test_requests_are_estimated_without_a_server(tmp_path, monkeypatch, price):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "votes.jsonl").touch()
    (tmp_path / "listings.jsonl").write_text('{"title": "red shoe"}\n{"title": "blue shoe"}\n')
    members = [
        {"name": name, "runtime": "replay", "options": {"votes": "votes.jsonl"}, "price": own}
        for name, own in (("a", {"per_call": 1.0}), ("b", price))
    ]
    # Another server of this machine may listen at the usual port.
    server = {"grpc_port": free_port()}
    spec = {"members": members, "attributes": {"color": {}}, "currency": "EUR", "server": server}
    (tmp_path / "deploy.yaml").write_text(yaml.safe_dump(spec))
    found = run("plan", "--requests", "listings.jsonl").stderr
    assert "4 calls" in found
    assert ("cost about" in found) == (price == {"per_call": 0.5})
    assert ("cost not known of b" in found) == (price != {"per_call": 0.5})
    assert "cost not known of a" not in found
    (tmp_path / "deploy.yaml").rename(tmp_path / "other.yaml")
    assert "4 calls" in run("plan", "-d", "other.yaml", "--requests", "listings.jsonl").stderr
