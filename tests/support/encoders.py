# SPDX-License-Identifier: Apache-2.0
"""Encoder folders that answer by a table: each word of a text has logits of its own, and no weights else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quorum.tasks.catalogue import Catalogue

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")


def write_encoder(
    folder: Path,
    head: str,
    table: Mapping[str, Sequence[float]],
    catalogue: Catalogue,
    attributes: Sequence[str],
    labels: Sequence[str] = (),
    **more: Any,
) -> Path:
    """Write the folder of an encoder.

    ``table`` has the logits of words, and of "[CLS]" where they are not 0. A text's logits are the sum of its
    words' (head ``label``), or each word's own. Needs ``onnx``.
    """
    folder.mkdir(parents=True)
    words = [*SPECIAL, *(word for word in table if word not in SPECIAL)]
    width = len(labels) or 2
    logits = np.zeros((len(words), width), np.float32)
    for word, row in table.items():
        logits[words.index(word)] = row
    (folder / "model.onnx").write_bytes(network(logits, pooled=head == "label"))
    (folder / "tokenizer.json").write_text(tokenizer(words), "utf-8")
    hashes = catalogue.hashes
    described = {
        "schema_version": 1,
        "head": head,
        "attributes": list(attributes),
        "labels": list(labels),
        "fields": [],
        "max_tokens": 32,
        "catalogue": {name: hashes[name] for name in attributes},
    }
    (folder / "encoder.json").write_text(json.dumps(described | more), "utf-8")
    return folder


def network(table: np.ndarray[Any, Any], *, pooled: bool) -> bytes:
    """An ONNX file: logits of tokens [words, outputs], or their sum over the text."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["each"], axis=0)]
    constants = [numpy_helper.from_array(table, "table")]
    if pooled:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "last"], ["weight"]),
            helper.make_node("Mul", ["each", "weight"], ["counted"]),
            helper.make_node("ReduceSum", ["counted", "words"], ["logits"], keepdims=0),
        ]
        constants.append(numpy_helper.from_array(np.array([2], np.int64), "last"))
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "words"))
    else:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "last"], ["weight"]),
            helper.make_node("Mul", ["each", "weight"], ["logits"]),
        ]
        constants.append(numpy_helper.from_array(np.array([2], np.int64), "last"))
    shape = ["batch", table.shape[1]] if pooled else ["batch", "length", table.shape[1]]
    graph = helper.make_graph(
        nodes,
        "table",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def tokenizer(words: Sequence[str]) -> str:
    """A tokenizer of whole words and marks, with the special tokens of BERT."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    text: str = made.to_str()
    return text
