# SPDX-License-Identifier: Apache-2.0
"""The rendered configurations of the models that recommend keyphrases.

Of the encoder on a GPU see ``test_encoder_config.py``. Unverified on GPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.deployment import write_deployment
from support.retrievers import Encoder, publish_by_hand, version_folder, write_version
from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment import Deployment, load_deployment
from quorum.repository.configs import parse_config, state_configs
from quorum.repository.render import difference, render, rendered_files
from quorum.repository.state import RepositoryError, RetrieverState, State
from quorum.repository.store import Store
from quorum_contract import CANARY, RECOMMEND, RECOMMEND_CANARY, RETRIEVER, STABLE

pytest.importorskip("onnx", reason="needs onnx: run `make setup-tune`")
WEIGHTS = State((1,), {STABLE: 1, CANARY: 1}, 0.0)
STATE = replace(WEIGHTS, retriever=RetrieverState((2, 5), {RECOMMEND: 2, RECOMMEND_CANARY: 5}, 0.25))
ENCODERS = ("quorum_encoder_quorum_retriever_2", "quorum_encoder_quorum_retriever_5")


def load(folder: Path, **section: Any) -> Deployment:
    more = {"retriever": section} if section else {}
    return load_deployment(write_deployment(folder, {"alpha": {}}, **more))


def with_versions(folder: Path, **section: Any) -> Deployment:
    spec = load(folder, **section)
    for version in (2, 5):
        write_version(version_folder(spec, version), {"red shoe": []}, Encoder(version))
    return spec


def models(spec: Deployment, state: State) -> dict[str, Any]:
    files = rendered_files(spec, state, spec.repository_path)
    return {Path(n).parent.name: parse_config(text) for n, text in files.items() if n.endswith(".pbtxt")}


def test_without_a_published_version_nothing_is_rendered(tmp_path: Path) -> None:
    spec = load(tmp_path, max_in_flight=8)
    files, other = rendered_files(spec, WEIGHTS, spec.repository_path), load(tmp_path / "other")
    assert not [name for name in files if "retriever" in name or "recommend" in name]
    assert files == rendered_files(other, WEIGHTS, other.repository_path)


def test_the_retriever_has_the_contracts_tensors_and_lists_its_versions(tmp_path: Path) -> None:
    config = models(load(tmp_path), STATE)[RETRIEVER]
    assert (config.backend, config.max_batch_size) == (RETRIEVER, 0)
    assert list(config.version_policy.specific.versions) == [2, 5]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("TEXT", pb.TYPE_STRING, [1]),
        ("CATEGORY", pb.TYPE_STRING, [1]),
        ("LIMIT", pb.TYPE_INT32, [1]),
        ("MIN_SCORE", pb.TYPE_FP32, [1]),
    ]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
        ("KEYPHRASES", pb.TYPE_STRING, [-1]),
        ("KEYPHRASE_SCORES", pb.TYPE_FP32, [-1]),
        ("RETRIEVER_VERSION", pb.TYPE_INT64, [1]),
        ("CANARY_SHARE", pb.TYPE_FP64, [1]),
    ]
    settings = json.loads(config.parameters["quorum"].string_value)
    assert settings == {
        "blocklist": None,
        "engine": "openvino",
        "max_batch": 32,
        "max_bulk_in_flight": 16,
        "max_in_flight": 256,
        "max_timeout_s": 120.0,
        "near_identical": None,
        "precision": "auto",
        "threads": 1,
        "timeout_s": 30.0,
        "triton": False,
    }


def test_each_channel_has_one_step_pinned_to_its_version(tmp_path: Path) -> None:
    configs = models(load(tmp_path), STATE)
    for channel, version in ((RECOMMEND, 2), (RECOMMEND_CANARY, 5)):
        (step,) = configs[channel].ensemble_scheduling.step
        assert (step.model_name, step.model_version) == (RETRIEVER, version)
        assert dict(step.input_map) == {t.name: t.name for t in configs[channel].input}
        assert dict(step.output_map) == {t.name: t.name for t in configs[channel].output}
        assert [t.name for t in configs[channel].output] == [t.name for t in configs[RETRIEVER].output]


def test_a_share_changes_no_configuration_of_the_retriever(tmp_path: Path) -> None:
    spec, served = load(tmp_path), STATE.retriever
    assert served is not None
    other = replace(STATE, retriever=replace(served, canary_share=0.5))
    assert state_configs(spec, STATE, spec.repository_path) == state_configs(
        spec, other, spec.repository_path
    )


def test_a_version_folder_stays_as_it_was_published(tmp_path: Path) -> None:
    spec = with_versions(tmp_path)
    before = {path: path.read_bytes() for path in version_folder(spec, 2).iterdir()}
    publish_by_hand(spec, [2, 5], 2, 5)
    assert {path: path.read_bytes() for path in version_folder(spec, 2).iterdir()} == before
    assert not (spec.repository_path / RETRIEVER / "1").exists()
    assert difference(spec).is_clean
    render(spec)
    assert (spec.repository_path / RETRIEVER / "config.pbtxt").exists()


def test_on_a_gpu_each_version_has_a_network_of_its_own(tmp_path: Path) -> None:
    spec = with_versions(tmp_path, triton=True, max_batch=8, precision="bf16")
    configs = state_configs(spec, STATE, spec.repository_path)
    for name, version in zip(ENCODERS, (2, 5), strict=True):
        config = configs[name]
        assert (config.name, config.platform, config.max_batch_size) == (name, "onnxruntime_onnx", 8)
        assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
            ("item_vector", pb.TYPE_FP32, [8]),
            ("keyphrase_vector", pb.TYPE_FP32, [8]),
        ]
        (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        said = accelerator.parameters
        assert said["precision_mode"] == "BF16"
        assert said["trt_profile_max_shapes"] == "input_ids:8x64,attention_mask:8x64"
        # Not in the folder of the version, whose files are hashed, and read again when one changes.
        assert said["trt_engine_cache_path"] == f".quorum/tensorrt/{name}"
        folder = spec.repository_path / name / "1"
        folder.mkdir(parents=True)
        network = version_folder(spec, version) / "encoder.onnx"
        assert (folder / config.default_model_filename).samefile(network)
    assert [*configs].index(ENCODERS[1]) < [*configs].index(RETRIEVER) < [*configs].index(RECOMMEND)


def test_a_version_without_its_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"version 2 of the retriever: .*student\.json is missing"):
        spec = load(tmp_path, triton=True)
        state_configs(spec, STATE, spec.repository_path)


def test_a_network_is_of_the_repository_that_is_rendered(tmp_path: Path) -> None:
    """A fleet may have several, and a version may be in one of them alone."""
    spec, other = load(tmp_path, triton=True), tmp_path / "west"
    write_version(other / RETRIEVER / "1", {"red shoe": []}, Encoder(1))
    render(spec, other)
    store = Store(other)
    pins = dict.fromkeys((RECOMMEND, RECOMMEND_CANARY), 1)
    store.write_state(replace(store.state(), retriever=RetrieverState((1,), pins, 0.0)))
    render(spec, other)
    name = "quorum_encoder_quorum_retriever_1"
    config = parse_config((other / name / "config.pbtxt").read_text("utf-8"))
    network = other / name / "1" / config.default_model_filename
    assert network.samefile(other / RETRIEVER / "1" / "encoder.onnx")
    assert difference(spec, other).is_clean
