# SPDX-License-Identifier: Apache-2.0
"""Encoders that cannot serve are refused, with the reason and the fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoder_members import (
    CATALOGUE,
    ENGINES,
    ask,
    settings,
)
from support.encoders import network

import quorum
from quorum.files import hash_file
from quorum.runtimes import create
from quorum.runtimes.base import RuntimeConfigError, RuntimeSettings
from quorum.runtimes.option_base import OptionError
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum_contract import Status


def test_a_tokenizer_with_more_words_than_the_network_is_refused(encoders: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    said = broken(encoders, tmp_path, model=network(np.zeros((3, 2), np.float32), pooled=True))
    with pytest.raises(RuntimeConfigError, match="fails for 32 tokens of number 7"):
        create(settings(said.root, "broken", engine="onnxruntime"))


def broken(encoders: Path, tmp_path: Path, **files: Any) -> RuntimeSettings[EncoderOptions]:
    """A copy of the label encoder with other files: bytes, changes of JSON, or None for a missing one."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in (encoders / "label").iterdir():
        content = files.get(path.stem, path.read_bytes())
        if isinstance(content, dict):
            content = json.dumps(json.loads(path.read_text()) | content).encode()
        if content is not None:
            (folder / path.name).write_bytes(content)
    return settings(tmp_path, "broken")


PLAIN = np.zeros((8, 2), np.float32)

HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no network": ({"model": None}, "has no model.onnx"),
    "no tokenizer": ({"tokenizer": None}, "has no tokenizer.json"),
    "no description": ({"encoder": None}, "has no encoder.json"),
    "garbage network": ({"model": b"\x00garbage" * 99}, "model.onnx cannot be read"),
    "empty network": ({"model": b""}, "model.onnx"),
    "garbage tokenizer": ({"tokenizer": b"{}"}, "tokenizer.json is no tokenizer"),
    "garbage description": ({"encoder": b"[1"}, "encoder.json cannot be read"),
    "newer description": ({"encoder": {"schema_version": 2}}, "encoder.json cannot be read"),
    "unknown head": ({"encoder": {"head": "other"}}, "encoder.json cannot be read"),
    "two attributes": ({"encoder": {"attributes": ["shade", "brand"]}}, "exactly one attribute"),
    "no attributes": ({"encoder": {"attributes": []}}, "exactly one attribute"),
    "no labels": ({"encoder": {"labels": []}}, "has no labels"),
    "equal labels": ({"encoder": {"labels": ["red", "red"]}}, "two labels are equal"),
    "foreign label": ({"encoder": {"labels": ["red", "pink"]}}, "'pink' is no value of 'shade'"),
    "label that is a tag elsewhere": ({"encoder": {"labels": ["red", "O"]}}, "'O' is no value of 'shade'"),
    "tags of keyphrases": (
        {"encoder": {"head": "spans", "labels": ["O"], "attributes": [""]}}, "by head 'label' without fields"
    ),
    "fields of keyphrases": (
        {"encoder": {"attributes": [""], "fields": ["a"]}}, "by head 'label' without fields"
    ),
    "labels of places": ({"encoder": {"head": "value"}}, "it has labels"),
    "no tag": ({"encoder": {"head": "spans", "labels": ["O", "red"]}}, "tag 'red' is none of O, B-type"),
    "tag of no type": ({"encoder": {"head": "spans", "labels": ["O", "B-"]}}, "'' is no value of 'shade'"),
    "too few labels": ({"encoder": {"labels": ["red"]}}, "has logits [1, 2], and encoder.json needs [1, 1]"),
    "short inputs": ({"encoder": {"max_tokens": 2}}, "max_tokens is 2"),
    "no inputs": (
        {"encoder": {"head": "value", "labels": [], "max_tokens": 0}}, "max_tokens is 0, and 8 to 8192"
    ),
    "endless inputs": ({"encoder": {"max_tokens": 1 << 40}}, "max_tokens is 1099511627776"),
    "another head": ({"encoder": {"head": "spans", "labels": ["O", "B-red"]}}, "float32 [?, ?, outputs]"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_cannot_serve_says_why(encoders: Path, tmp_path: Path, name: str) -> None:
    files, message = HOSTILE[name]
    with pytest.raises(RuntimeConfigError) as refused:
        create(broken(encoders, tmp_path, **files))
    assert message in str(refused.value)
    assert "quorum tune" in str(refused.value)


def test_a_changed_catalogue_is_refused_with_both_hashes(encoders: Path) -> None:
    changed = Catalogue.of([Attribute("shade", values=("red", "blue", "pink"), kind="label")])
    with pytest.raises(RuntimeConfigError) as refused:
        create(settings(encoders, "label", changed))
    for part in (CATALOGUE.hashes["shade"], changed.hashes["shade"], "quorum tune"):
        assert part in str(refused.value)
    with pytest.raises(RuntimeConfigError, match="lists none of these"):
        create(settings(encoders, "label", Catalogue.of([Attribute("brand")])))


def test_attributes_that_the_catalogue_lists_no_longer_are_left_out(encoders: Path) -> None:
    runtime = create(settings(encoders, "value", Catalogue.of([Attribute("brand")])))
    statuses = [vote.status for vote in ask(runtime, "Acme grip", "brand", "size")]
    runtime.close()
    assert statuses == [Status.ANSWERED, Status.NOT_ASKED]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ("input_ids", "has inputs"),
        ("logits", "has outputs"),
        ("batch", "shape [3, ?], expected int64 [?, ?]"),
    ],
)
def test_a_network_with_other_tensors_is_refused(
    encoders: Path, tmp_path: Path, engine: str, rename: str, message: str
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip(engine)
    model = onnx.load_from_string(network(PLAIN, pooled=True))
    graph = model.graph
    for tensor in (*graph.input, *graph.output):
        if rename == "batch":
            tensor.type.tensor_type.shape.dim[0].dim_value = 3
        elif tensor.name == rename:
            tensor.name = "other"
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == rename:
                    names[at] = "other"
    said = broken(encoders, tmp_path, model=model.SerializeToString())
    with pytest.raises(RuntimeConfigError) as refused:
        create(settings(said.root, "broken", engine=engine))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"precision": "int8"}, "precision"),
        ({"engine": "onnxruntime", "precision": "bf16"}, "precision"),
        ({"engine": "tensorflow"}, "engine"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_tokens": 7}, "max_tokens"),
        ({"triton": True, "precision": "int8"}, "precision"),
        ({"triton": True, "memory_limit_gib": 1.0}, "memory_limit_gib"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(OptionError) as refused:
        EncoderOptions(model="m", **options)
    assert refused.value.key == key


def test_longer_inputs_than_it_was_tuned_on_are_refused(encoders: Path) -> None:
    with pytest.raises(RuntimeConfigError, match="tuned on 32 tokens"):
        create(settings(encoders, "label", max_tokens=64))


def test_an_engine_that_is_not_installed_is_named(encoders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(RuntimeConfigError, match="pip install onnxruntime"):
        create(settings(encoders, "label", engine="onnxruntime"))


def test_validate_compares_the_folder_with_the_catalogue(encoders: Path, tmp_path: Path) -> None:
    member = {"name": "small", "runtime": "encoder", "options": {"model": str(encoders / "label")}}
    shade = {"kind": "label", "values": ["red", "blue"]}
    path = tmp_path / "deploy.yaml"
    path.write_text(json.dumps({"members": [member], "attributes": {"shade": shade}}))
    quorum.validate(quorum.load_deployment(path))
    shade["values"] = ["red", "blue", "green"]
    path.write_text(json.dumps({"members": [member], "attributes": {"shade": shade}}))
    with pytest.raises(quorum.QuorumError, match=r"members\[0\]\.options\.model: .*`quorum tune`"):
        quorum.validate(quorum.load_deployment(path))


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_validate_refuses_files_of_another_encoder(encoders: Path, tmp_path: Path, name: str) -> None:
    """What the start refuses, with both hashes and what to do; nothing is opened for it."""
    files = {file: hash_file(encoders / "label" / file) for file in ("model.onnx", "tokenizer.json")}
    broken(encoders, tmp_path, encoder={"files": files})
    member = {"name": "small", "runtime": "encoder", "options": {"model": "broken"}}
    shade = {"kind": "label", "values": ["red", "blue"]}
    path = tmp_path / "deploy.yaml"
    path.write_text(json.dumps({"members": [member], "attributes": {"shade": shade}}))
    quorum.validate(quorum.load_deployment(path))
    (tmp_path / "broken" / name).write_bytes((encoders / "value" / name).read_bytes())
    with pytest.raises(quorum.QuorumError) as refused:
        quorum.validate(quorum.load_deployment(path))
    for part in (
        "members[0].options.model: member 'small': ", str(tmp_path / "broken" / name),
        hash_file(tmp_path / "broken" / name)[:23], files[name][:23], "copy the whole folder again",
    ):  # fmt: skip
        assert part in str(refused.value)


def test_validate_refuses_more_tokens_than_it_was_tuned_on(encoders: Path, tmp_path: Path) -> None:
    options = {"model": str(encoders / "label"), "max_tokens": 64}
    shade = {"kind": "label", "values": ["red", "blue"]}
    member = {"name": "small", "runtime": "encoder", "options": options}
    (tmp_path / "deploy.yaml").write_text(json.dumps({"members": [member], "attributes": {"shade": shade}}))
    with pytest.raises(quorum.QuorumError, match="tuned on 32 tokens; give at most that"):
        quorum.validate(quorum.load_deployment(tmp_path / "deploy.yaml"))


def test_an_int8_file_is_read_with_a_warning(
    encoders: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quantised = pytest.importorskip("onnxruntime.quantization")
    from onnx import TensorProto, helper, numpy_helper

    ids, weights = "input_ids", np.eye(8, 2, dtype=np.float32)
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", ids], ["each"], axis=0),
            helper.make_node("MatMul", ["each", "weights"], ["words"]),
            helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "last"], ["mask"]),
            helper.make_node("Mul", ["words", "mask"], ["logits"]),
        ],
        "int8",
        [tensor(name, TensorProto.INT64, ["b", "l"]) for name in (ids, "attention_mask")],
        [tensor("logits", TensorProto.FLOAT, ["b", "l", 2])],
        [
            numpy_helper.from_array(np.ones((9, 8), np.float32), "table"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([2], np.int64), "last"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    plain.write_bytes(model.SerializeToString())
    quantised.quantize_dynamic(plain, small, op_types_to_quantize=["MatMul"])
    said = broken(encoders, tmp_path, model=small.read_bytes(), encoder={"head": "value", "labels": []})
    (said.root / "broken" / "encoder.json").write_text(
        json.dumps(json.loads((encoders / "value" / "encoder.json").read_text()) | {"attributes": ["brand"]})
    )
    create(settings(said.root, "broken")).close()
    assert "engine: onnxruntime" in caplog.text


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_files_of_another_encoder_are_refused(encoders: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    folder = encoders / "label"
    files = {
        path.name: hash_file(path)
        for path in folder.iterdir()
        if path.name in ("model.onnx", "tokenizer.json")
    }
    said = broken(encoders, tmp_path, encoder={"files": files})
    create(settings(said.root, "broken", engine="onnxruntime")).close()
    path = tmp_path / "broken" / name
    path.write_bytes((encoders / "value" / name).read_bytes())
    with pytest.raises(
        RuntimeConfigError, match=f"{name} is not the file that was written with encoder.json"
    ):
        create(settings(said.root, "broken", engine="onnxruntime"))
