# SPDX-License-Identifier: Apache-2.0
"""Hand out constants, as a Triton model; copied into a repository by :mod:`quorum_bench.targets.floor`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Return the same tensors for every request, without reading it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Make the tensors."""
        config = json.loads(args["model_config"])
        outputs = json.loads(config["parameters"]["outputs"]["string_value"])
        self._arrays = {name: _array(*output) for name, output in outputs.items()}

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Return the tensors."""
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, a) for name, a in self._arrays.items()])
            for _ in requests
        ]


def _array(kind: str, shape: Sequence[int], packed: str) -> Any:
    if packed:
        return np.frombuffer(bytes.fromhex(packed), np.uint8).reshape(shape)
    if kind == "TYPE_STRING":
        return np.full(shape, b"value 3", dtype=object)
    return np.zeros(shape, pb_utils.triton_string_to_numpy(kind))
