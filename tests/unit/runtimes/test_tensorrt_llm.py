# SPDX-License-Identifier: Apache-2.0
"""What can be told without the library: its absence, adapters that cannot be served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quorum.runtimes import create
from quorum.runtimes.base import RuntimeConfigError, RuntimeSettings


def start(root: Path, **options: Any) -> None:
    create("tensorrt_llm", RuntimeSettings("llama", root, {"model": "some/model", **options}))


def adapter(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_a_machine_without_the_library_is_told_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeConfigError, match=r"TensorRT-LLM cannot be imported.*Triton container"):
        start(tmp_path)


def test_a_model_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeConfigError, match=r"'model' is missing.*Hugging Face id"):
        create("tensorrt_llm", RuntimeSettings("llama", tmp_path, {}))


@pytest.mark.parametrize(
    ("config", "said", "message"),
    [
        ({"r": 8, "target_modules": ["q_proj"]}, {"rank": 16}, "rank 16, but the adapter"),
        ({"r": 8, "target_modules": ["lm_head", "q_proj"]}, {}, "changes lm_head"),
        ({"target_modules": ["q_proj"]}, {}, "no PEFT adapter"),
        ({"r": 8, "target_modules": ["q_proj"]}, {"scale": 2}, "may have name and rank"),
    ],
)
def test_adapters_that_cannot_be_served_are_refused(
    tmp_path: Path, config: dict[str, Any], said: dict[str, Any], message: str
) -> None:
    adapter(tmp_path / "adapter", **config)
    with pytest.raises(RuntimeConfigError, match=message):
        start(tmp_path, lora={"path": "adapter", **said})
