# SPDX-License-Identifier: Apache-2.0
"""Configure the Triton model that computes an encoder on a GPU by ONNX Runtime with TensorRT.

Names of parameters are those of Triton's backend ``onnxruntime`` (its ``LoadModel``). Unverified on GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment.load import DeploymentError
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.runtimes.encoder_folder import MODEL_FILE, EncoderFileError, read_encoder
from quorum.runtimes.encoder_input import IDS, LOGITS, MASK
from quorum.runtimes.engine_names import ENCODER_PREFIX
from quorum.runtimes.onnx_network import Precision
from quorum.runtimes.options import EncoderOptions

WORKSPACE_BYTES = 1 << 30
"""Most GPU memory that TensorRT takes in addition to weights and activations."""
# Batches of all sizes and lengths share one TensorRT engine, which is fastest at this share of the longest.
_USUAL_SHARE = 4
_SHORTEST = 2
_PRECISIONS = {"auto": "FP16", "f32": "FP32", "bf16": "BF16"}
CACHE = "tensorrt"
"""Folder of the compiled engines, in the encoder's folder."""


def encoders(spec: Deployment) -> dict[str, MemberSpec]:
    """Triton model that computes an encoder on a GPU -> the member that asks it."""
    return {
        f"{ENCODER_PREFIX}{member.name}": member
        for member in spec.members
        if isinstance(member.options, EncoderOptions) and member.options.triton
    }


def encoder_config(spec: Deployment, member: MemberSpec) -> pb.ModelConfig:
    """Configure the network of a member of runtime ``encoder`` with ``triton: true``.

    Without a profile TensorRT would compile an engine for every new shape, which takes minutes; without a
    cache it would compile at every start.

    Raises:
        DeploymentError: ``encoder.json`` does not say what the network takes and gives.
    """
    options = member.options
    assert isinstance(options, EncoderOptions), member.runtime
    try:
        described = read_encoder(spec.root / options.model)
    except EncoderFileError as error:
        raise DeploymentError(f"{spec.path}: member {member.name}: {error}") from error
    return network_config(
        f"{ENCODER_PREFIX}{member.name}",
        spec.repository_path,
        spec.root / options.model / MODEL_FILE,
        {LOGITS: [*[-1] * (described.dims - 2), described.outputs]},
        max_batch=options.max_batch,
        max_tokens=options.max_tokens or described.max_tokens,
        precision=options.precision,
        cache=str(Path(options.model) / CACHE),
    )


def network_config(
    name: str,
    repository: Path,
    file: Path,
    outputs: Mapping[str, Sequence[int]],
    *,
    max_batch: int,
    max_tokens: int,
    precision: Precision,
    cache: str,
) -> pb.ModelConfig:
    """Configure an ONNX network of token ids and attention mask, on a GPU.

    Args:
        name: Of the model.
        repository: The model repository.
        file: The network, which stays where it is.
        outputs: Name -> dimensions without that of the batch.
        max_batch: The most rows at once.
        max_tokens: The longest row.
        precision: ``auto`` is FP16.
        cache: Folder of the compiled engines, relative to ``deploy.yaml``.
    """
    config = pb.ModelConfig(name=name, platform="onnxruntime_onnx", max_batch_size=max_batch)
    config.default_model_filename = os.path.relpath(file, repository / name / "1")
    for tensor in (IDS, MASK):
        config.input.add(name=tensor, data_type=pb.TYPE_INT64, dims=[-1])
    for output, dims in outputs.items():
        config.output.add(name=output, data_type=pb.TYPE_FP32, dims=dims)
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_GPU)
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    for key, value in _tensorrt(max_batch, max_tokens, precision, cache).items():
        accelerator.parameters[key] = value
    return config


def _tensorrt(most: int, longest: int, precision: Precision, cache: str) -> dict[str, str]:
    usual = max(most // _USUAL_SHARE, 1), max(longest // _USUAL_SHARE, _SHORTEST)
    return {
        "precision_mode": _PRECISIONS[precision],
        "max_workspace_size_bytes": str(WORKSPACE_BYTES),
        "trt_layer_norm_fp32_fallback": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_profile_min_shapes": _shapes(1, _SHORTEST),
        "trt_profile_opt_shapes": _shapes(*usual),
        "trt_profile_max_shapes": _shapes(most, longest),
    }


def _shapes(rows: int, length: int) -> str:
    return ",".join(f"{name}:{rows}x{length}" for name in (IDS, MASK))
