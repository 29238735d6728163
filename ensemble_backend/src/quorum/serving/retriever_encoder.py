# SPDX-License-Identifier: Apache-2.0
"""Open the encoder of a version of the retriever: in this step, or as a Triton model of its own on a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.manifest import ITEM_VECTOR, KEYPHRASE_VECTOR, read_student
from quorum.runtimes.encoder_input import IDS, MASK
from quorum.runtimes.engine_names import retriever_encoder
from quorum.runtimes.onnx_network import Floats, Network, Tokens
from quorum.serving import inner


def open_encoder(folder: Path, settings: Mapping[str, Any], has_answered: bool) -> TextEncoder:
    """Open the encoder of a version's folder by the rendered settings of the retriever.

    ``has_answered``: whether the server has, and so is no longer starting.

    Raises:
        ManifestError: It cannot be read, or its engine is not installed.
    """
    most = int(settings["max_batch"])
    if settings["triton"]:
        return TextEncoder(folder, max_batch=most, network=_in_triton(folder, has_answered))
    return TextEncoder(
        folder, settings["engine"], settings["precision"], int(settings["threads"]), max_batch=most
    )


def _in_triton(folder: Path, has_answered: bool) -> Network:
    """The network of a version as a model that this server computes; loaded here when it is published."""
    model, numbers = retriever_encoder(int(folder.name)), itertools.count(1)
    # As the server starts it loads this model itself, and to ask for models then can end it.
    if has_answered and not pb_utils.is_model_ready(model):
        pb_utils.load_model(model)
    dims = read_student(folder).dims[0]

    def compute(ids: Tokens, mask: Tokens, output: str) -> Floats:
        number = f"{model}-{next(numbers)}"
        return inner.call(model, {IDS: ids, MASK: mask}, (output,), number)[output]

    inputs: dict[str, list[int | None]] = {IDS: [None, None], MASK: [None, None]}
    outputs: dict[str, list[int | None]] = {ITEM_VECTOR: [None, dims], KEYPHRASE_VECTOR: [None, dims]}
    return Network(compute, inputs, outputs, {})
