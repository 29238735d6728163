# SPDX-License-Identifier: Apache-2.0
"""Export an encoder as ONNX, and in int8."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from quorum.tune.onnx_check import INPUTS, OPSET, OUTPUT

if TYPE_CHECKING:
    from quorum.tune.encoder_model import Network


def export(network: Network, path: Path) -> None:
    """Write a network to one file, weights inside, with batch and length dynamic.

    Args:
        network: On the CPU, in evaluation mode, without LoRA.
        path: The file.
    """
    import torch

    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in INPUTS)
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            network,
            example,
            path,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=dict.fromkeys(INPUTS, dynamic),
            verbose=False,
        )


def quantise(path: Path) -> None:
    """Replace a model by one whose matrix products are int8, one scale per output channel.

    Embeddings stay float32: with them in int8 span F1 of QueryNER was 1.2 points lower.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = Path(scratch) / path.name
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)
        try:
            quantize_dynamic(
                path, small, per_channel=True, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8
            )
        finally:
            root.setLevel(level)
        small.replace(path)
