# SPDX-License-Identifier: Apache-2.0
"""Check an ONNX file against what the runtime ``encoder`` needs, and compute with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.runtimes.encoder_input import IDS, LOGITS, MASK
from quorum_contract.errors import QuorumError

INPUTS = (IDS, MASK)
OPSET = 18
TOLERANCE = 1e-4
"""Largest difference of a number between ONNX and PyTorch."""
_INT64, _FLOAT32 = 7, 1


class OnnxError(QuorumError, RuntimeError):
    """An exported model is not what it should be; nothing is written."""

    code = "ONNX_INVALID"


Shapes = Mapping[str, Sequence[int | None]]
"""Name of an output -> sizes of its dimensions; None: dynamic."""


def check_onnx(path: Path, outputs: Shapes) -> None:
    """Refuse a file that serving would not load.

    Args:
        path: The file.
        outputs: What it needs to have, in this order; all are float32.

    Raises:
        OnnxError: The file is no valid ONNX, has weights outside, another opset, or other inputs or outputs.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        raise OnnxError(f"{path}: is no valid ONNX: {error!s:.300}") from error
    for problem in _problems(model, outputs):
        raise OnnxError(f"{path}: {problem}; export it again with this quorum")


def _problems(model: Any, outputs: Shapes) -> list[str]:
    found = []
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset != OPSET:
        found.append(f"opset {opset}, needed is {OPSET}")
    if any(entry.data_location == 1 for entry in model.graph.initializer):
        found.append("weights lie outside of the file")
    names = tuple(entry.name for entry in model.graph.input)
    if names != INPUTS:
        found.append(f"inputs {', '.join(names)}; needed are {', '.join(INPUTS)}")
    found += [
        f"input {entry.name}: {_shape(entry)}; needed is int64 of two dynamic dimensions"
        for entry in model.graph.input
        if entry.type.tensor_type.elem_type != _INT64 or _shape(entry) != [None, None]
    ]
    given = [entry.name for entry in model.graph.output]
    if given != [*outputs]:
        return [*found, f"outputs {', '.join(given)}; needed are {', '.join(outputs)}"]
    found += [
        f"output {entry.name}: {_shape(entry)}; needed is float32 of {[*outputs[entry.name]]}"
        for entry in model.graph.output
        if entry.type.tensor_type.elem_type != _FLOAT32 or _shape(entry) != [*outputs[entry.name]]
    ]
    return found


def _shape(entry: Any) -> list[int | None]:
    """Sizes of the dimensions; None for dynamic ones."""
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in entry.type.tensor_type.shape.dim]


class OnnxNetwork:
    """An ONNX file in ONNX Runtime, on one CPU thread."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])

    def __call__(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Logits of a batch."""
        (logits,) = self._session.run([LOGITS], dict(zip(INPUTS, (ids, mask), strict=True)))
        found: npt.NDArray[np.float32] = logits
        return found


def largest_difference(pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """The largest difference between two arrays of a pair; infinite where one is no number."""
    worst = 0.0
    for ours, theirs in pairs:
        difference = np.abs(np.asarray(ours, np.float64) - theirs)
        worst = max(worst, float(difference.max()) if np.isfinite(difference).all() else float("inf"))
    return worst


def refuse_difference(pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> None:
    """Raise OnnxError where outputs of ONNX and of PyTorch differ by more than :data:`TOLERANCE`."""
    difference = largest_difference(pairs)
    if not difference <= TOLERANCE:
        raise OnnxError(
            f"the ONNX model differs from the trained one by {difference:.2g}, and {TOLERANCE:g} is allowed"
            "; nothing is written: use the versions of requirements/tune.txt"
        )
