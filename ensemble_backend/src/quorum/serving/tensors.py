# SPDX-License-Identifier: Apache-2.0
"""Between Triton's Python objects and plain values, and what every step reads from its configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from quorum.contract import GATE

PARAMETER = "quorum"
"""The one entry in a model's ``parameters``: its settings, as JSON."""


def settings_of(args: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the renderer put into the model's configuration."""
    config = json.loads(args["model_config"])
    settings: dict[str, Any] = json.loads(config["parameters"][PARAMETER]["string_value"])
    return settings


def repository_of(args: Mapping[str, str]) -> Path:
    """The model repository: ``args["model_repository"]`` is the folder of the model itself."""
    return Path(args["model_repository"]).resolve().parent


def root_of(args: Mapping[str, str]) -> Path:
    """Where relative paths start: ``QUORUM_ROOT``, else the folder that holds the model repository."""
    return Path(os.environ.get("QUORUM_ROOT") or repository_of(args).parent)


def catalogue_path(args: Mapping[str, str]) -> Path:
    """The catalogue, rendered once beside the gate and read by every step."""
    return repository_of(args) / GATE / "catalogue.json"


def raw(request: Any, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """An input tensor as an array; BYTES become ``bytes`` objects."""
    array: np.ndarray[Any, np.dtype[Any]] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def packed(request: Any, name: str) -> bytes:
    """A UINT8 tensor that an earlier step wrote; see :mod:`quorum.serving.packing`."""
    return raw(request, name).tobytes()


def packed_tensor(name: str, data: bytes) -> Any:
    """A UINT8 tensor."""
    return pb_utils.Tensor(name, np.frombuffer(data, np.uint8))


def text_tensor(name: str, values: Sequence[str], shape: Sequence[int] = (-1,)) -> Any:
    """A BYTES tensor of ``values``."""
    return pb_utils.Tensor(name, np.array([v.encode("utf-8") for v in values], dtype=object).reshape(shape))


def tensor(name: str, values: Any, dtype: type[np.generic], shape: Sequence[int] = (-1,)) -> Any:
    """A numeric tensor."""
    return pb_utils.Tensor(name, np.asarray(values, dtype=dtype).reshape(shape))


def answer(*tensors: Any) -> Any:
    """A response."""
    return pb_utils.InferenceResponse(output_tensors=list(tensors))
