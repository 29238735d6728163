# SPDX-License-Identifier: Apache-2.0
"""The rendered configuration of an encoder's network, for Triton's backend of ONNX Runtime with TensorRT.

Names of accelerator parameters: ``LoadModel`` of triton-inference-server/onnxruntime_backend,
src/onnxruntime.cc at 02ffb9ed, read in November 2026. Unverified on GPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment import DeploymentError, load_deployment
from quorum.repository.configs import parse_config, print_config
from quorum.repository.encoder_config import encoder_config, encoders
from quorum.repository.render import difference, render

KNOWN = {
    "precision_mode", "max_workspace_size_bytes", "trt_layer_norm_fp32_fallback", "trt_engine_cache_enable",
    "trt_engine_cache_path", "trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes",
}  # fmt: skip
PRECISIONS = {"auto": "FP16", "f32": "FP32", "bf16": "BF16"}


def load(folder: Path, described: dict[str, Any] | None = None, **options: Any) -> Any:
    model = folder / "encoders" / "ner"
    model.mkdir(parents=True)
    said = {"schema_version": 1, "head": "spans", "attributes": ["entities"], "labels": ["O", "B-x", "I-x"]}
    (model / "encoder.json").write_text(json.dumps(said | {"max_tokens": 64} | (described or {})))
    chosen = {"model": "encoders/ner", "triton": True, "max_batch": 64, **options}
    spec = {
        "attributes": {"entities": {"kind": "spans", "values": ["x"]}},
        "members": [{"name": "ner", "runtime": "encoder", "options": chosen}],
    }
    (folder / "deploy.yaml").write_text(yaml.safe_dump(spec))
    return load_deployment(folder / "deploy.yaml")


def rendered(folder: Path, **how: Any) -> Any:
    spec = load(folder, **how)
    return parse_config(print_config(encoder_config(spec, spec.members[0])))


def test_tensors_are_those_of_the_folders_contract(tmp_path: Path) -> None:
    config = rendered(tmp_path)
    assert (config.name, config.platform, config.backend) == ("quorum_encoder_ner", "onnxruntime_onnx", "")
    assert config.max_batch_size == 64
    assert not config.HasField("dynamic_batching")
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("input_ids", pb.TYPE_INT64, [-1]),
        ("attention_mask", pb.TYPE_INT64, [-1]),
    ]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [("logits", pb.TYPE_FP32, [-1, 3])]
    (group,) = config.instance_group
    assert (group.kind, group.count) == (pb.ModelInstanceGroup.KIND_GPU, 1)


@pytest.mark.parametrize(
    ("described", "dims"),
    [
        ({"head": "label", "labels": ["a", "b", "c", "d"]}, [4]),
        ({"head": "value", "labels": []}, [-1, 2]),
    ],
)
def test_logits_follow_the_head(tmp_path: Path, described: dict[str, Any], dims: list[int]) -> None:
    assert list(rendered(tmp_path, described=described).output[0].dims) == dims


def test_tensorrt_has_a_profile_and_a_cache(tmp_path: Path) -> None:
    (accelerator,) = rendered(
        tmp_path, max_tokens=48
    ).optimization.execution_accelerators.gpu_execution_accelerator
    said = dict(accelerator.parameters)
    assert accelerator.name == "tensorrt"
    assert said.keys() == KNOWN
    assert said["trt_profile_min_shapes"] == "input_ids:1x2,attention_mask:1x2"
    assert said["trt_profile_opt_shapes"] == "input_ids:16x12,attention_mask:16x12"
    assert said["trt_profile_max_shapes"] == "input_ids:64x48,attention_mask:64x48"
    assert said["trt_engine_cache_enable"] == "1"
    assert said["trt_engine_cache_path"] == "encoders/ner/tensorrt"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions_are_those_of_the_backend(tmp_path: Path, precision: str) -> None:
    config = rendered(tmp_path, precision=precision)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["precision_mode"] == PRECISIONS[precision]


def test_the_file_is_found_from_the_folder_of_the_version(tmp_path: Path) -> None:
    spec = load(tmp_path)
    (spec.root / "encoders" / "ner" / "model.onnx").write_bytes(b"")
    render(spec)
    version = spec.repository_path / "quorum_encoder_ner" / "1"
    config = parse_config((version.parent / "config.pbtxt").read_text("utf-8"))
    assert not Path(config.default_model_filename).is_absolute()
    assert (version / config.default_model_filename).samefile(spec.root / "encoders/ner/model.onnx")


@pytest.mark.parametrize("triton", [True, False])
def test_only_with_triton_there_is_such_a_model(tmp_path: Path, triton: bool) -> None:
    spec = load(tmp_path, triton=triton)
    models = {path.parent.name for path in map(Path, difference(spec).write) if path.name == "config.pbtxt"}
    assert ("quorum_encoder_ner" in models) == (encoders(spec).keys() == {"quorum_encoder_ner"}) == triton


def test_a_folder_that_is_no_encoder_is_named(tmp_path: Path) -> None:
    spec = load(tmp_path, {"head": "other"})
    with pytest.raises(DeploymentError, match=r"member ner: .*encoder\.json cannot be read"):
        render(spec)
