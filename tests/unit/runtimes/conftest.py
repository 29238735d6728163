# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import write_checkpoint
from support.encoder_members import (
    CATALOGUE,
    ENGINES,
    ENTITIES,
    SHADES,
    TAGS,
    VALUES,
    settings,
)
from support.encoders import write_encoder

from quorum.runtimes import create
from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.options import HfOptions


@pytest.fixture(scope="package")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="needs onnx: run `make setup-tune`")
    root = tmp_path_factory.mktemp("encoders")
    write_encoder(root / "label", "label", SHADES, CATALOGUE, ["shade"], ["red", "blue"])
    write_encoder(root / "spans", "spans", ENTITIES, CATALOGUE, ["entities"], TAGS)
    write_encoder(root / "value", "value", VALUES, CATALOGUE, ["brand", "size"])
    return root


@pytest.fixture(params=ENGINES)
def encoder_engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture
def start_encoder(encoders: Path) -> Iterator[Callable[..., Any]]:
    started: list[Any] = []

    def start(model: str, **options: Any) -> Any:
        started.append(create(settings(encoders, model, **options)))
        return started[-1]

    yield start
    for runtime in started:
        runtime.close()


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random llama."""
    return write_checkpoint(tmp_path_factory.mktemp("hf") / "llama")


@pytest.fixture
def start_hf() -> Iterator[Callable[..., Any]]:
    """Starts members of runtime ``hf`` on the CPU, and closes them."""
    running: list[Any] = []

    def start(folder: Path, **options: Any) -> Any:
        settings = HfOptions(**{"model": folder.name, "device": "cpu", **options})
        running.append(create(RuntimeSettings("m", folder.parent, settings)))
        return running[-1]

    yield start
    for runtime in running:
        runtime.close()
