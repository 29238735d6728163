# SPDX-License-Identifier: Apache-2.0
"""The study of encoders: every engine on the same batches, compared with OpenVINO in float32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.encoders import write_encoder
from typer.testing import CliRunner

from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum_bench.cli.app import app

CATALOGUE = Catalogue.of([Attribute("shade", values=("red", "blue"), kind="label", allow_na=False)])
HEADS = {"label": ["red", "blue"], "spans": ["O", "B-red"], "value": []}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": "red " * (n % 5 + 1)}) + "\n" for n in range(64)))
    return path


@pytest.mark.parametrize("head", HEADS)
def test_engines_are_compared(tmp_path: Path, texts: Path, head: str) -> None:
    pytest.importorskip("onnx", reason="needs onnx: run `make setup-tune`")
    pytest.importorskip("onnxruntime")
    write_encoder(tmp_path / "e", head, {"red": [4.0, 1.0]}, CATALOGUE, ["shade"], HEADS[head])
    written = tmp_path / "rows.json"
    how = ["--texts", str(texts), "--rounds", "8", "--json", str(written)]
    shown = CliRunner().invoke(app, ["study", "encoder", str(tmp_path / "e"), *how])
    assert shown.exit_code == 0, shown.output
    rows = json.loads(written.read_text())["rows"]
    assert {(row["engine"], row["batch"]) for row in rows} == {
        (engine, size)
        for engine in ("openvino f32", "openvino bf16", "onnxruntime f32", "onnxruntime int8")
        for size in (1, 32)
    }
    for row in rows:
        assert row["same"] == 1.0
        assert row["difference"] < 0.1
        assert row["per_cpu_s"] > 0


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx: run `make setup-tune`")
    write_encoder(tmp_path / "e", "label", {"red": [4.0, 1.0]}, CATALOGUE, ["shade"], ["red", "blue"])
    few = tmp_path / "few.jsonl"
    few.write_text('{"text": "red"}\n')
    shown = CliRunner().invoke(app, ["study", "encoder", str(tmp_path / "e"), "--texts", str(few)])
    assert shown.exit_code == 2
    assert "too few" in shown.output
