# SPDX-License-Identifier: Apache-2.0
"""Configure the models that recommend keyphrases: the retriever, its channels, and its encoder on a GPU.

A deployment has them once a version of the retriever is published. On a GPU each version's encoder is a model
of Triton's backend ``onnxruntime``, which the version's step loads and asks; unverified on GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment.retriever import RetrieverSpec
from quorum.deployment.schema import Deployment
from quorum.repository.encoder_config import network_config
from quorum.repository.model_config import declare, python_model
from quorum.repository.state import RepositoryError, RetrieverState
from quorum.retrieval.manifest import ENCODER_FILE, ITEM_VECTOR, KEYPHRASE_VECTOR, ManifestError, read_student
from quorum.runtimes.engine_names import retriever_encoder
from quorum_contract import RECOMMEND_CHANNELS, RETRIEVER
from quorum_contract.tensors import RECOMMEND_ASKED, RECOMMENDED, SHARE

_OF_ROLLOUTS = {"heldout", "max_less_agreement", "max_less_recall"}
CACHE = ".quorum/tensorrt"
"""Folder of the compiled engines, next to ``deploy.yaml``: a version's own folder never changes."""


def retriever_configs(spec: Deployment, state: RetrieverState, repository: Path) -> dict[str, pb.ModelConfig]:
    """Model -> its configuration, for the models of the retriever, those first that others need.

    Args:
        spec: The deployment.
        state: The retriever's part of the state.
        repository: The model repository that has its versions; a fleet may have several.

    Raises:
        RepositoryError: A version whose encoder is to be computed on a GPU cannot be read.
    """
    settings = settings_of_retriever(spec)
    encoders = state.versions if settings.triton else ()
    return {
        **{retriever_encoder(version): encoder_of(settings, repository, version) for version in encoders},
        RETRIEVER: retriever_config(spec, state.versions),
        **{channel: recommend_config(channel, state.pins[channel]) for channel in RECOMMEND_CHANNELS},
    }


def settings_of_retriever(spec: Deployment) -> RetrieverSpec:
    """The section ``retriever``; its defaults where there is none."""
    return spec.retriever or RetrieverSpec()


def retriever_config(spec: Deployment, versions: Iterable[int]) -> pb.ModelConfig:
    """Configure the retriever, with exactly these versions loaded side by side.

    The canary's share is none of its settings (:mod:`quorum.serving.share`).
    """
    settings = settings_of_retriever(spec).model_dump(exclude=_OF_ROLLOUTS)
    settings |= spec.gate.model_dump(include={"max_bulk_in_flight", "timeout_s", "max_timeout_s"})
    config = python_model(
        RETRIEVER, RETRIEVER, settings, inputs=RECOMMEND_ASKED, outputs=[*RECOMMENDED, SHARE]
    )
    config.version_policy.specific.versions.extend(sorted(versions))
    return config


def recommend_config(channel: str, version: int) -> pb.ModelConfig:
    """Configure an ensemble whose one step is pinned to a version of the retriever."""
    config = pb.ModelConfig(name=channel, platform="ensemble", max_batch_size=0)
    outputs = [*RECOMMENDED, SHARE]
    declare(config, RECOMMEND_ASKED, outputs)
    config.ensemble_scheduling.step.add(
        model_name=RETRIEVER,
        model_version=version,
        input_map={tensor.name: tensor.name for tensor in RECOMMEND_ASKED},
        output_map={tensor.name: tensor.name for tensor in outputs},
    )
    return config


def encoder_of(settings: RetrieverSpec, repository: Path, version: int) -> pb.ModelConfig:
    """Configure the network of a version's encoder, for a GPU.

    Raises:
        RepositoryError: The version cannot be read.
    """
    folder = repository / RETRIEVER / str(version)
    try:
        student = read_student(folder)
    except ManifestError as error:
        raise RepositoryError(f"version {version} of the retriever: {error}") from error
    name = retriever_encoder(version)
    return network_config(
        name,
        repository,
        folder / ENCODER_FILE,
        {output: [student.dims[0]] for output in (ITEM_VECTOR, KEYPHRASE_VECTOR)},
        max_batch=settings.max_batch,
        max_tokens=student.max_tokens,
        precision=settings.precision,
        cache=f"{CACHE}/{name}",
    )
