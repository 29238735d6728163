# SPDX-License-Identifier: Apache-2.0
"""The GPU check, in its smallest form on a CPU: real runtimes, a real server, every check of it held.

``QUORUM_LONG=1`` also serves two members of runtime ``hf`` as an ensemble, asks the stand-in outside the
graph, and exports the encoder's network from PyTorch, in whose place is a table of words else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoders import SPECIAL, network, tokenizer

from quorum.runtimes.encoder_folder import MODEL_FILE, TOKENIZER_FILE
from quorum.runtimes.heads.spans import tags_of
from quorum_bench.gpu.worker import listings

LONG = bool(os.environ.get("QUORUM_LONG"))
HAS_ONNX = bool(find_spec("onnxscript") and find_spec("onnxruntime"))
PROMPTS = 3
TYPES = ("brand", "color", "thing")
SMALL = (
    *("--device", "cpu", "--shape", "tiny", "--new-tokens", "64", "--concurrency", "1,4"),
    *("--seconds", "0.5", "--rounds", "1", "--prompts", str(PROMPTS), "--redeploys", "3"),
)
pytestmark = [
    # Counted with the fixtures of the module, which run real servers.
    pytest.mark.timeout(900),
    # Found without importing them, which takes seconds in every process that collects the tests.
    pytest.mark.skipif(
        not (find_spec("torch") and find_spec("transformers")),
        reason="PyTorch is not installed here: run `make setup-hf`",
    ),
]


def check(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    places = ("--out", str(folder / "gpu.json"), "--work", str(folder / "work"))
    return subprocess.run(
        [sys.executable, "-m", "quorum_bench.cli.gpu_check", *SMALL, *places, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("gpu-check")
    return folder, check(folder, "--only", "tiny/answers")


@pytest.mark.skipif(not LONG, reason="a long form: set QUORUM_LONG=1")
def test_an_ensemble_holds_on_a_cpu(tmp_path: Path) -> None:
    run = check(tmp_path, "--only", "tiny/answers", "--only", "tiny/ensemble", "--members", "2")
    assert run.returncode == 0, run.stdout + run.stderr
    ensemble = json.loads((tmp_path / "gpu.json").read_text())["parts"]["hf-tiny/ensemble"]
    assert ensemble["members"] == 2
    assert ensemble["same_answers"] == {"of": 8, "same": 8}
    assert ensemble["redeploy"]["failed"] == 0
    assert ensemble["redeploy"]["live"] == ensemble["redeploy"]["redeploys"]
    assert [load["concurrency"] for load in ensemble["loads"]] == [1, 4]
    for load in ensemble["loads"]:
        assert load["failed"] == load["abstained"] == 0
        assert load["graph_rate"] > 0
        assert load["bare_rate"] > 0
    assert "| hf-tiny | graph of 2 | 4 |" in run.stdout


def test_everything_holds_on_a_cpu(done) -> None:
    folder, run = done
    assert run.returncode == 0, run.stdout + run.stderr
    parts = json.loads((folder / "gpu.json").read_text())["parts"]
    answers = parts["hf-tiny/answers"]
    assert answers["tokens"] > 100
    for way in ("alone", "together"):
        assert answers[way] == {"same_answers": answers["prompts"], "same_tokens": answers["tokens"]}
    assert answers["guided"] == {"answers": 4 * PROMPTS, "valid": 4 * PROMPTS}
    # Dynamic batching keeps no cache between batches.
    told = answers["prompt_tokens"]
    assert told["reused"] == 0 < told["all"]
    assert f"0 of {told['all']} prompt tokens came from the KV cache" in run.stdout
    assert "random weights" in run.stdout


def test_what_was_measured_is_not_measured_again(done) -> None:
    folder, _ = done
    before = (folder / "gpu.json").read_text()
    run = check(folder, "--only", "tiny/answers")
    assert run.returncode == 0
    assert "measured already" in run.stderr
    assert json.loads((folder / "gpu.json").read_text())["parts"] == json.loads(before)["parts"]


def test_a_part_that_fails_is_told_and_not_kept(done) -> None:
    folder, _ = done
    run = check(folder, "--only", "tiny/batching", "--option", "dtype=int3")
    assert run.returncode == 1
    assert "FAILED       hf-tiny/batching" in run.stdout
    assert "hf-tiny/batching" not in json.loads((folder / "gpu.json").read_text())["parts"]


def test_without_a_server_the_other_parts_stand(done, tmp_path: Path) -> None:
    folder, _ = done
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # A package of that name that cannot be imported, as on a machine that does not have it.
    (hidden / "tritonclient.py").write_text("raise ModuleNotFoundError('hidden', name='tritonclient')\n")
    run = check(folder, "--only", "tiny/graph", PYTHONPATH=str(hidden))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "not measured hf-tiny/graph: graph not measured: tritonclient is not installed" in run.stdout


def test_an_unknown_part_names_the_known(tmp_path: Path) -> None:
    run = check(tmp_path, "--only", "huge/answers")
    assert run.returncode == 1
    assert "tiny/answers, tiny/batching, tiny/graph, tiny/ensemble, tiny-bert/encoder" in run.stderr


def write_network(folder: Path) -> None:
    """An encoder of spans that has logits for each word of some listings."""
    words = sorted({word for product in listings().products[:50] for word in product.text.lower().split()})
    rows = np.random.default_rng(0).normal(size=(len(SPECIAL) + len(words), len(tags_of(TYPES))))
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(network(rows.astype(np.float32), pooled=False))
    (folder / TOKENIZER_FILE).write_text(tokenizer([*SPECIAL, *words]), "utf-8")


@pytest.fixture(scope="module")
def stood_in(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The parts that a stand-in for TensorRT-LLM can check, and what was printed."""
    folder, wanted = tmp_path_factory.mktemp("stood-in"), ["demo-llama/graph"]
    if HAS_ONNX:
        wanted.append("tiny-bert/encoder")
        if not LONG:
            write_network(folder / "work" / "tiny-bert")
    if LONG:
        wanted.append("demo-llama/answers")
    arguments = ["--runtime", "tensorrt_llm", "--standin", "--concurrency", "4", "--redeploys", "1"]
    run = check(folder, *arguments, *(word for part in wanted for word in ("--only", part)))
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads((folder / "gpu.json").read_text())["parts"], run.stdout


@pytest.mark.skipif(not HAS_ONNX, reason="needs onnx: run `make setup-tune`")
def test_the_gpu_road_of_an_encoder_is_checked_with_the_stand_in(stood_in) -> None:
    parts, printed = stood_in
    part = parts["encoder-tiny-bert/encoder"]
    assert part["answered"] == {"cpu": 4 * PROMPTS, "gpu": 4 * PROMPTS}
    assert part["same"] == 4 * PROMPTS
    assert part["largest_gap"] < 1e-3
    assert part["loads"][0]["failed"] == part["loads"][0]["abstained"] == 0
    assert part["loads"][0]["gpu_rate"] > 0
    assert "ok           encoder-tiny-bert/encoder as on the CPU" in printed
    assert "not measured encoder-tiny-bert/encoder compiled: a stand-in computed" in printed
    assert "| encoder-tiny-bert | graph, gpu | 4 |" in printed


def test_without_a_gpu_the_encoder_says_what_it_needs(tmp_path: Path) -> None:
    run = check(tmp_path, "--only", "tiny-bert/encoder")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "not measured encoder-tiny-bert/encoder: needs a GPU, or" in run.stdout


def test_the_road_of_tensorrt_llm_is_checked_with_the_stand_in(stood_in) -> None:
    parts, printed = stood_in
    assert "not judged   tensorrt_llm-demo-llama/graph latency" in printed
    part = parts["tensorrt_llm-demo-llama/graph"]
    assert part["same_answers"] == {"of": 8, "same": 8}
    assert part["redeploy"]["errors"] == []
    assert part["redeploy"]["failed"] == 0
    assert part["loads"][0]["failed"] == part["loads"][0]["abstained"] == 0
    counts = part["bare_prompt_tokens"]
    assert 0 < counts[0]["reused"] < counts[0]["all"]
    if LONG:
        counts.append(parts["tensorrt_llm-demo-llama/answers"]["prompt_tokens"])
        assert 0.4 * counts[1]["all"] < counts[1]["reused"] < counts[1]["all"]
    for one in counts:
        assert f"{one['reused']} of {one['all']} prompt tokens came from the KV cache" in printed
