# SPDX-License-Identifier: Apache-2.0
"""Convert between Triton's Python objects and plain values, and read a step's configuration."""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from quorum.serving.copies import copy_of, is_copy
from quorum.tasks.catalogue import CATALOGUE_FILE
from quorum_contract import GATE
from quorum_contract.errors import QuorumError, with_code

# gRPC carries an error in a header of limited size.
_MAX_MESSAGE = 1000
PARAMETER = "quorum"
"""The one entry in a model's ``parameters``: its settings, as JSON."""


def settings_of(args: Mapping[str, str]) -> dict[str, Any]:
    """Read the model's settings from its configuration."""
    parameters = json.loads(args["model_config"])["parameters"]
    settings: dict[str, Any] = json.loads(parameters[PARAMETER]["string_value"])
    return settings


def root_of(args: Mapping[str, str]) -> Path:
    """The base of relative paths: ``QUORUM_ROOT``, else the folder that holds the model repository."""
    return Path(os.environ.get("QUORUM_ROOT") or catalogue_path(args).parents[2])


def catalogue_path(args: Mapping[str, str]) -> Path:
    """Path of the catalogue, rendered once into the gate's folder and read by every step.

    A copy of a step reads that of the gate's copy, if there is one: the catalogue is about to change.
    """
    # The argument is the folder of the model itself.
    model = Path(args["model_repository"]).resolve()
    copied = model.parent / copy_of(GATE) / CATALOGUE_FILE
    if is_copy(model.name) and copied.exists():
        return copied
    return model.parent / GATE / CATALOGUE_FILE


def packed_inputs(request: Any) -> dict[str, bytes]:
    """All inputs of a step behind the gate, UINT8 tensors, as bytes.

    One pass: Triton's own look-up by name creates an object of every tensor on each call.
    """
    return {tensor.name(): tensor.as_numpy().tobytes() for tensor in request.inputs()}


def packed_tensor(name: str, data: bytes) -> Any:
    """A UINT8 tensor."""
    return pb_utils.Tensor(name, np.frombuffer(data, np.uint8))


def text_tensor(name: str, values: Sequence[str], shape: Sequence[int] = (-1,)) -> Any:
    """A BYTES tensor of ``values``."""
    return pb_utils.Tensor(name, np.array([v.encode("utf-8") for v in values], dtype=object).reshape(shape))


def floats(numbers: Sequence[float | None], shape: Sequence[int] = (-1,)) -> npt.NDArray[np.float32]:
    """An FP32 array, NaN for None; several times as fast as by NumPy."""
    data = array("f", [math.nan if number is None else number for number in numbers])
    return np.frombuffer(data, np.float32).reshape(shape)


def tensor(name: str, values: Any, dtype: type[np.generic], shape: Sequence[int] = (-1,)) -> Any:
    """A numeric tensor."""
    return pb_utils.Tensor(name, np.asarray(values, dtype=dtype).reshape(shape))


def floats_tensor(name: str, numbers: Sequence[float | None], shape: Sequence[int] = (-1,)) -> Any:
    """An FP32 tensor of :func:`floats`."""
    return pb_utils.Tensor(name, floats(numbers, shape))


def answer(*tensors: Any) -> Any:
    """A response."""
    return pb_utils.InferenceResponse(output_tensors=list(tensors))


def refusal(error: QuorumError, status: int) -> Any:
    """Fail the request with a status of ``pb_utils.TritonError``; the error's code ends the message."""
    message = with_code(error, _MAX_MESSAGE)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, status))
