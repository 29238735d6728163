# SPDX-License-Identifier: Apache-2.0
"""Build the parts that the configurations of quorum's own models have in common."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from quorum_contract.tensors import Tensor

# The type whose name in configurations differs.
_KINDS = {"BYTES": pb.TYPE_STRING}


def python_model(
    name: str,
    backend: str,
    settings: dict[str, Any],
    *,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    optional: Collection[str] = (),
) -> pb.ModelConfig:
    """Configure a model of one of quorum's backends: one instance, settings as JSON, no batches by Triton.

    An ensemble may leave out the inputs named in ``optional``.
    """
    config = pb.ModelConfig(name=name, backend=backend, max_batch_size=0)
    declare(config, inputs, outputs)
    for declared in config.input:
        # Where it is not set, it is not printed.
        if declared.name in optional:
            declared.optional = True
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    config.parameters["quorum"].string_value = json.dumps(settings, ensure_ascii=False, sort_keys=True)
    return config


def declare(config: pb.ModelConfig, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Add the inputs and outputs of a model."""
    for declared, tensors in ((config.input, inputs), (config.output, outputs)):
        for tensor in tensors:
            kind = _KINDS.get(tensor.datatype) or pb.DataType.Value(f"TYPE_{tensor.datatype}")
            declared.add(name=tensor.name, data_type=kind, dims=tensor.dims)
