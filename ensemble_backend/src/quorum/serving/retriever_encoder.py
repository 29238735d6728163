# SPDX-License-Identifier: Apache-2.0
"""Open the encoder of a version of the retriever: in this step, or as a Triton model of its own on a GPU."""

from __future__ import annotations

import itertools
import logging
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

logger = logging.getLogger(__name__)


def open_encoder(folder: Path, settings: Mapping[str, Any]) -> TextEncoder:
    """Open the encoder of a version's folder by the rendered settings of the retriever.

    Raises:
        ManifestError: It cannot be read, or its engine is not installed.
    """
    most = int(settings["max_batch"])
    if settings["triton"]:
        return TextEncoder(folder, max_batch=most, network=_in_triton(folder))
    return TextEncoder(
        folder, settings["engine"], settings["precision"], int(settings["threads"]), max_batch=most
    )


def _in_triton(folder: Path) -> Network:
    """The network of a version as a model that this server computes; loaded here when it is published."""
    model, numbers = retriever_encoder(int(folder.name)), itertools.count(1)
    try:
        if not pb_utils.is_model_ready(model):
            pb_utils.load_model(model)
    except pb_utils.TritonModelException as error:
        # As the server starts it says nothing of models yet, and loads this one itself.
        logger.warning("%s may not be loaded: %s", model, error)
    dims = read_student(folder).dims[0]

    def compute(ids: Tokens, mask: Tokens, output: str) -> Floats:
        number = f"{model}-{next(numbers)}"
        return inner.call(model, {IDS: ids, MASK: mask}, (output,), number)[output]

    inputs: dict[str, list[int | None]] = {IDS: [None, None], MASK: [None, None]}
    outputs: dict[str, list[int | None]] = {ITEM_VECTOR: [None, dims], KEYPHRASE_VECTOR: [None, dims]}
    return Network(compute, inputs, outputs, {})
