# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Triton's backend ``onnxruntime``: takes its configuration as rendered; computes on the CPU.

It refuses what the backend or TensorRT refuses: an unknown parameter, and inputs outside of the profile.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

KNOWN = {
    "precision_mode", "max_workspace_size_bytes", "trt_layer_norm_fp32_fallback", "trt_engine_cache_enable",
    "trt_engine_cache_path", "trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes",
}  # fmt: skip


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        (accelerator,) = config["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]
        assert accelerator["name"] == "tensorrt"
        said = accelerator["parameters"]
        assert said.keys() <= KNOWN, said
        assert said["precision_mode"] in ("FP32", "FP16", "BF16", "INT8")
        self._least, self._most = (shapes(said[f"trt_profile_{name}_shapes"]) for name in ("min", "max"))
        self._outputs = {output["name"] for output in config["output"]}
        version = Path(args["model_repository"]) / args["model_version"]
        self._session = onnxruntime.InferenceSession(
            version / config["default_model_filename"], providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        inputs = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._least}
        for name, given in inputs.items():
            sizes = zip(self._least[name], given.shape, self._most[name], strict=True)
            if not all(least <= size <= most for least, size, most in sizes):
                error = pb_utils.TritonError(f"{name} {given.shape} is outside of the profile")
                return pb_utils.InferenceResponse([], error)
        names = list(request.requested_output_names())
        assert {*names} <= self._outputs, names
        found = self._session.run(names, inputs)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, each.astype(np.float32)) for name, each in zip(names, found, strict=True)]
        )


def shapes(text: str) -> dict[str, list[int]]:
    """``a:1x2,b:1x2`` as lists by name."""
    parts = (part.split(":") for part in text.split(","))
    return {name: [int(size) for size in sizes.split("x")] for name, sizes in parts}
