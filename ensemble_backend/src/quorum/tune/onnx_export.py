# SPDX-License-Identifier: Apache-2.0
"""Export an encoder as ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quorum.runtimes.encoder_input import LOGITS
from quorum.tune.onnx_check import INPUTS, OPSET

if TYPE_CHECKING:
    from torch import nn


def export(network: nn.Module, path: Path, outputs: Sequence[str] = (LOGITS,)) -> None:
    """Write a network to one file, weights inside, with batch and length dynamic.

    Args:
        network: On the CPU, in evaluation mode, without LoRA.
        path: The file.
        outputs: Names of what it returns.
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
            output_names=list(outputs),
            dynamic_shapes=dict.fromkeys(INPUTS, dynamic),
            verbose=False,
        )
