# SPDX-License-Identifier: Apache-2.0
"""Versions of a retriever with a tiny encoder: the mean of its words' vectors, of 8 dimensions or 4."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from quorum.deployment import Deployment
from quorum.files import hash_file
from quorum.repository.render import render
from quorum.repository.state import RetrieverState
from quorum.repository.store import Store
from quorum.retrieval.filters import normal_form
from quorum.retrieval.manifest import (
    ENCODER_FILE,
    KEYPHRASES_FILE,
    STUDENT_FILES,
    TOKENIZER_FILE,
    VECTORS_FILE,
    RetrieverManifest,
    StudentManifest,
    file_hashes,
    write_manifest,
)
from quorum_contract import RECOMMEND, RECOMMEND_CANARY, RETRIEVER

_WORDS = """red blue green black white leather cotton wool running trail hiking dress shirt shoe shoes boots
jacket bag wallet phone case charger cable desk lamp for men women kids waterproof slim large small"""
WORDS = _WORDS.split()
DIMS = (8, 4)
Vectors = npt.NDArray[np.float32]


class Encoder:
    """What the network computes, in NumPy: the mean of the vectors of the words, times a matrix.

    Args:
        seed: Of the vectors and matrices.
    """

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.table = draw.standard_normal((len(WORDS) + 1, DIMS[0])).astype(np.float32)
        self.item = (np.eye(DIMS[0]) + 0.1 * draw.standard_normal((DIMS[0],) * 2)).astype(np.float32)
        self.keyphrase = (np.eye(DIMS[0]) + 0.1 * draw.standard_normal((DIMS[0],) * 2)).astype(np.float32)

    def items(self, texts: Sequence[str], dims: int = DIMS[0]) -> Vectors:
        """(n, dims) vectors of length 1."""
        return self._cut(texts, self.item, dims)

    def keyphrases(self, texts: Sequence[str], dims: int = DIMS[0]) -> Vectors:
        """(n, dims) vectors of length 1."""
        return self._cut(texts, self.keyphrase, dims)

    def _cut(self, texts: Sequence[str], matrix: Vectors, dims: int) -> Vectors:
        ids = [[1 + WORDS.index(w) if w in WORDS else 0 for w in text.split()] for text in texts]
        found = np.array([self.table[row].mean(0) @ matrix for row in ids], np.float32)[:, :dims]
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def write(self, folder: Path) -> None:
        """Write a student's files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ENCODER_FILE).write_bytes(self._network())
        vocabulary = {"[UNK]": 0} | {word: number for number, word in enumerate(WORDS, 1)}
        tokenizer = {
            "version": "1.0",
            "added_tokens": [],
            # What a file stores must not count: it would read six words, and pad them to 128.
            "truncation": {"direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0},
            "padding": {
                "strategy": {"Fixed": 128},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 3,
                "pad_type_id": 0,
                "pad_token": "blue",
            },
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        }
        (folder / TOKENIZER_FILE).write_text(json.dumps(tokenizer), "utf-8")
        files = file_hashes(folder, (ENCODER_FILE, TOKENIZER_FILE))
        write_manifest(folder, StudentManifest(dims=DIMS, max_tokens=64, files=files))

    def _network(self) -> bytes:
        from onnx import TensorProto, checker, helper, numpy_helper

        node, constant = helper.make_node, numpy_helper.from_array
        nodes = [
            node("Gather", ["table", "input_ids"], ["words"]),
            node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["mask", "last"], ["weights"]),
            node("Mul", ["words", "weights"], ["kept"]),
            node("ReduceSum", ["kept", "second"], ["total"], keepdims=0),
            node("ReduceSum", ["weights", "second"], ["count"], keepdims=0),
            node("Div", ["total", "count"], ["mean"]),
            node("MatMul", ["mean", "item"], ["item_vector"]),
            node("MatMul", ["mean", "keyphrase"], ["keyphrase_vector"]),
        ]
        constants = [
            constant(self.table, "table"),
            constant(self.item, "item"),
            constant(self.keyphrase, "keyphrase"),
            constant(np.array([2], np.int64), "last"),
            constant(np.array([1], np.int64), "second"),
        ]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", DIMS[0]])
            for name in ("item_vector", "keyphrase_vector")
        ]
        graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model)
        written: bytes = model.SerializeToString()
        return written


def write_version(
    folder: Path,
    keyphrases: Mapping[str, Sequence[str]],
    encoder: Encoder,
    dims: int = DIMS[0],
    **changed: Any,
) -> Path:
    """Write a version's folder with an exact index.

    Args:
        folder: To write into.
        keyphrases: Keyphrase -> its categories.
        encoder: What embeds them.
        dims: Of the index.
        changed: Fields of ``retriever.json`` that are to say something else.
    """
    encoder.write(folder)
    columns = {
        "keyphrase": pa.array([*keyphrases], pa.string()),
        "categories": pa.array([[*names] for names in keyphrases.values()], pa.list_(pa.string())),
        "normal": pa.array([normal_form(text) for text in keyphrases], pa.string()),
    }
    pq.write_table(pa.table(columns), folder / KEYPHRASES_FILE)
    np.save(folder / VECTORS_FILE, encoder.keyphrases([*keyphrases], dims))
    manifest = RetrieverManifest(
        student=hash_file(folder / ENCODER_FILE),
        dims=dims,
        index="exact",
        keyphrases=len(keyphrases),
        files=file_hashes(folder, (*STUDENT_FILES, KEYPHRASES_FILE, VECTORS_FILE)),
    )
    changed = {name: getattr(manifest, name) for name in manifest.__struct_fields__} | changed
    write_manifest(folder, RetrieverManifest(**changed))
    return folder


def publish_by_hand(
    spec: Deployment, versions: Sequence[int], stable: int, canary: int, share: float = 0.0
) -> None:
    """List versions of the retriever that lie in the repository, and write the files that follow."""
    render(spec)
    store = Store(spec.repository_path)
    pins = {RECOMMEND: stable, RECOMMEND_CANARY: canary}
    store.write_state(replace(store.state(), retriever=RetrieverState(tuple(versions), pins, share)))
    render(spec)


def version_folder(spec: Deployment, version: int) -> Path:
    """Where a version lies."""
    return spec.repository_path / RETRIEVER / str(version)
