# SPDX-License-Identifier: Apache-2.0
"""What can be told without the library: its absence, adapters that cannot be served."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support import standin

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.options import read_options
from quorum.runtimes.tensorrt_llm import _log_prob_of, checkpoint_kv_bytes
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import build_prompt


def start(root: Path, **options: Any) -> None:
    given = read_options("tensorrt_llm", {"model": "some/model", **options})
    create(RuntimeSettings("llama", root, given))


def adapter(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_a_machine_without_the_library_is_told_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeConfigError, match=r"TensorRT-LLM cannot be imported.*Triton container"):
        start(tmp_path)


@pytest.mark.parametrize(
    ("change", "parallel", "quantised", "size"),
    [
        ({}, 1, None, 2 * 32 * 8 * 128 * 2),
        ({}, 2, None, 2 * 32 * 4 * 128 * 2),
        ({}, 16, None, 2 * 32 * 1 * 128 * 2),
        ({"head_dim": 256}, 1, None, 2 * 32 * 8 * 256 * 2),
        ({}, 1, {"kv_cache_quant_algo": "FP8"}, 2 * 32 * 8 * 128),
        ({}, 1, {"kv_cache_quant_algo": None}, 2 * 32 * 8 * 128 * 2),
    ],
)
def test_a_limit_in_bytes_is_told_in_tokens_too(
    tmp_path: Path, change: dict[str, Any], parallel: int, quantised: dict[str, Any] | None, size: int
) -> None:
    shape = {
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **shape, **change}))
    if quantised:
        (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": quantised}))
    assert checkpoint_kv_bytes(str(tmp_path), parallel) == size


@pytest.mark.parametrize(
    ("config", "said", "message"),
    [
        ({"r": 8, "target_modules": ["q_proj"]}, {"rank": 16}, "rank 16, but the adapter"),
        ({"r": 8, "target_modules": ["lm_head", "q_proj"]}, {}, "changes lm_head"),
        ({"target_modules": ["q_proj"]}, {}, "no PEFT adapter"),
        ({"r": float("inf"), "target_modules": ["q_proj"]}, {}, "no PEFT adapter"),
        ({"r": 8, "target_modules": "all-linear"}, {}, "no PEFT adapter"),
        ({"r": 0, "target_modules": ["q_proj"]}, {}, "no PEFT adapter"),
        ({"r": 8, "target_modules": ["q_proj"], "use_dora": True}, {}, "has DoRA magnitudes, .* plain LoRA"),
        ({"r": 8, "target_modules": ["q_proj"], "use_rslora": True}, {}, "rsLoRA"),
        ({"r": 8, "target_modules": ["q_proj"], "bias": "all"}, {}, r"has biases \(all\)"),
        ({"r": 8, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, {}, "whole layers"),
        ({"r": 8, "target_modules": ["q_proj"], "rank_pattern": {"q_proj": 4}}, {}, "ranks of single layers"),
        ({"r": 8, "target_modules": ["q_proj"], "init_lora_weights": "pissa"}, {}, "the base's own weights"),
        ({"r": 8, "target_modules": ["q_proj"], "kasa_config": {"beta": 1}}, {}, "the setting kasa_config"),
    ],
)
def test_adapters_that_cannot_be_served_are_refused(
    tmp_path: Path, config: dict[str, Any], said: dict[str, Any], message: str
) -> None:
    adapter(tmp_path / "adapter", **config)
    with pytest.raises(RuntimeConfigError, match=message):
        start(tmp_path, lora={"path": "adapter", **said})


def test_what_listings_share_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Instructions first, product last: of the second listing only the product is new."""
    folder = standin.copy_model("demo-llama", tmp_path / "llama")
    monkeypatch.syspath_prepend(str(standin.STANDIN))
    said = yaml.safe_load((standin.ROOT / "deploy.gpu.yaml").read_text("utf-8"))["attributes"]
    catalogue = Catalogue.of(
        [
            Attribute(name, question=one["question"], values=tuple(one.get("values", ())))
            for name, one in said.items()
        ]
    )
    names = tuple(catalogue.attributes)
    options = {"model": "llama", "max_tokens": 4, "max_seq_len": 4096, "kv_cache_gib": 1, "guided": False}
    caplog.set_level("INFO", logger="quorum")
    try:
        runtime = create(RuntimeSettings("llama", tmp_path, read_options("tensorrt_llm", options)))
        texts = ("Velmora trail running shoes, navy, size 42, for men", "A steel watch of 40mm")
        texts += ("A steel<|endoftext|>watch [INST] of 40mm</s>",)
        prompts = [build_prompt(catalogue, "instruct", text, "", names) for text in texts]
        for prompt in prompts:
            replies: SimpleQueue[Any] = SimpleQueue()
            deadline = time.monotonic_ns() + 60 * 10**9
            runtime.submit(Question(prompt, "{}", prompt, "", names, deadline), replies.put)
            reply = replies.get(timeout=60)
            assert isinstance(reply, Generated)
            assert len(reply.log_probs) == len(reply.ends) == 4
            assert reply.ends[-1] == len(reply.text)
            assert all(log_prob < 0 for log_prob in reply.log_probs)
        reused = runtime.prompt_tokens
        runtime.close()
    finally:
        for module in [name for name in sys.modules if name.split(".")[0] == "tensorrt_llm"]:
            del sys.modules[module]
    first, second, third = standin.events(folder, "generate")
    # Imported late: Transformers takes seconds in every process that collects the tests.
    from quorum.runtimes.chat import ChatTokenizer

    tokens = [ChatTokenizer(str(folder)).encode(prompt) for prompt in prompts]
    shared = next(at for at, (one, other) in enumerate(zip(*tokens[:2], strict=False)) if one != other)
    assert first["cached"] == 0
    assert shared - 32 < second["cached"] <= shared
    assert second["cached"] > 0.6 * second["tokens"]
    # Control tokens in a text do not reach the LLM.
    assert tokens[2] == tokens[1]
    assert third["tokens"] == second["tokens"]
    cached = second["cached"] + third["cached"]
    assert reused == (cached, first["tokens"] + second["tokens"] + third["tokens"])
    assert f"{reused[0]} of {reused[1]} prompt tokens came from the cache" in caplog.text


@pytest.mark.parametrize(
    ("known", "log_prob"),
    [
        ({7: SimpleNamespace(logprob=-0.5, rank=1)}, -0.5),
        ({3: SimpleNamespace(logprob=-0.1, rank=1), 7: SimpleNamespace(logprob=-2, rank=9)}, -2.0),
        ({3: SimpleNamespace(logprob=-0.1, rank=1)}, math.nan),
        (-0.25, -0.25),
        (None, math.nan),
    ],
)
def test_a_log_probability_is_of_the_token_that_was_taken(known: Any, log_prob: float) -> None:
    assert _log_prob_of(7, known) == pytest.approx(log_prob, nan_ok=True)
