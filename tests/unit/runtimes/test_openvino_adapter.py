# SPDX-License-Identifier: Apache-2.0
"""An adapter of the ``openvino`` runtime gives the answers of a model that it is merged into."""

from __future__ import annotations

import json
import re
import shutil
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.option_base import OptionError
from quorum.runtimes.options import OpenVinoOptions, read_options
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema

MODEL = Path(__file__).parents[3] / "examples" / "demo" / "models" / "demo-llama"
CATALOGUE = Catalogue.of([Attribute("brand"), Attribute("color", values=("navy blue", "red"))])
NAMES = tuple(CATALOGUE.attributes)
TEXTS = ("red shoe 42", "Velmora größe № 5 trail running shoes, navy", "navy")
RANK, WIDE = 4, 192
LAYERS = [f"layers.{layer}.self_attn.{name}" for layer in range(4) for name in ("q_proj", "o_proj")]
MATRICES: dict[str, tuple[np.ndarray, np.ndarray]] = {
    name: (
        np.random.default_rng(number).normal(0, 0.1, (RANK, WIDE)).astype(np.float32),
        np.random.default_rng(100 + number).normal(0, 0.1, (WIDE, RANK)).astype(np.float32),
    )
    for number, name in enumerate(LAYERS)
}


def write_adapter(folder: Path, *, times: float = 1.0, wide: int = WIDE, **settings: Any) -> str:
    """PEFT's files, with the second matrices ``times`` as large."""
    tensors = {}
    for name, (first, second) in MATRICES.items():
        tensors[f"base_model.model.model.{name}.lora_A.weight"] = first[:, :wide]
        tensors[f"base_model.model.model.{name}.lora_B.weight"] = second * np.float32(times)
    header, body = {}, b""
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor).tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return str(folder)


def write_merged(folder: Path, scale: float) -> Path:
    """The demo's model with the adapter added to its weights, in FP32."""
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("openvino_model.*"))
    core = openvino.Core()
    model = core.read_model(MODEL / "openvino_model.xml")
    for node in model.get_ordered_ops():
        found = re.search(r"model\.(layers\.\d+\.self_attn\.[qo]_proj)/.*MatMul", node.get_friendly_name())
        if not found or node.get_type_name() != "MatMul":
            continue
        weights = node.input(1).get_source_output()
        small = openvino.Model([ops.result(weights)], [])
        (values,) = core.compile_model(small, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([]).values()
        first, second = MATRICES[found[1]]
        merged = values.astype(np.float32) + scale * (second @ first)
        node.input(1).replace_source_output(ops.constant(merged).output(0))
    openvino.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    return folder


def ask(folder: Path, lora: str | None = None) -> list[Generated]:
    options = OpenVinoOptions(model=folder.name, lora=lora, chat=False, max_new_tokens=48)
    runtime = create(RuntimeSettings("m", folder.parent, options))
    schema = json.dumps(answer_schema(CATALOGUE, NAMES))
    replies: dict[str, Any] = {}
    left = threading.Semaphore(0)

    def keep(text: str, reply: Any) -> None:
        replies[text] = reply
        left.release()

    for text in TEXTS:
        prompt = f"{', '.join(NAMES)}\nshoes\n{text}\n"
        asked = Question(prompt, schema, text, "shoes", NAMES, time.monotonic_ns() + 60 * 10**9)
        runtime.submit(asked, lambda reply, text=text: keep(text, reply))  # type: ignore[misc]
    for _ in TEXTS:
        assert left.acquire(timeout=60)
    runtime.close()
    return [replies[text] for text in TEXTS]


def assert_alike(replies: list[Generated], others: list[Generated]) -> None:
    for one, other in zip(replies, others, strict=True):
        assert one[:2] == other[:2]
        # The demo's weights are quantised, and the merged ones are not.
        assert one.log_probs == pytest.approx(other.log_probs, abs=0.03)


def test_answers_are_those_of_the_merged_model(tmp_path: Path) -> None:
    base, adapted = ask(MODEL), ask(MODEL, write_adapter(tmp_path / "a"))
    assert_alike(adapted, ask(write_merged(tmp_path / "merged", 2.0)))
    changes = [
        np.subtract(a.log_probs, b.log_probs) for a, b in zip(adapted, base, strict=True) if a[:2] == b[:2]
    ]
    assert len(changes) < len(TEXTS) or max(np.abs(change).max() for change in changes) > 0.3
    # Scaled by alpha / rank, or by alpha / root of the rank.
    assert_alike(ask(MODEL, write_adapter(tmp_path / "b", times=2, lora_alpha=RANK)), adapted)
    rooted = write_adapter(tmp_path / "c", times=0.5, lora_alpha=2 * RANK, use_rslora=True)
    assert_alike(ask(MODEL, rooted), adapted)
    assert_alike(ask(MODEL, write_adapter(tmp_path / "zero", times=0)), base)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "has DoRA magnitudes, which .* merge_and_unload"),
        ({"bias": "all", "peft_type": "ADALORA"}, r"has type ADALORA, biases \(all\)"),
        ({"modules_to_save": ["lm_head"]}, "whole layers"),
        ({"rank_pattern": {"q_proj": 2}}, "single layers"),
        ({"init_lora_weights": "pissa"}, "the base's own weights"),
        ({"r": 0}, "adapter_config.json cannot be read"),
        ({"wide": 100}, "does not fit the model in"),
    ],
)
def test_an_adapter_that_would_be_applied_in_part_is_refused(
    tmp_path: Path, settings: Mapping[str, Any], said: str
) -> None:
    lora = write_adapter(tmp_path / "a", **settings)
    with pytest.raises(RuntimeConfigError, match=f"member 'm': lora: .*{said}"):
        create(RuntimeSettings("m", MODEL.parent, OpenVinoOptions(model=MODEL.name, lora=lora)))


def test_adapters_of_attributes_are_refused_with_the_fix() -> None:
    with pytest.raises(OptionError, match="runtime `hf`, which has `adapters`") as error:
        read_options("openvino", {"model": "m", "adapters": {"color": "a"}})
    assert error.value.key == "adapters"
