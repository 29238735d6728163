# SPDX-License-Identifier: Apache-2.0
"""Build the Triton model configurations of the serving graph, as ``ModelConfig`` protobufs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment.schema import Deployment, MemberSpec
from quorum.repository.lazy_rows import lazy_rows
from quorum.repository.model_config import declare, python_model
from quorum.repository.retriever_config import retriever_configs
from quorum.repository.state import State
from quorum.serving.open_question import open_tensor
from quorum_contract import (
    CANARY,
    CHANNELS,
    GATE,
    LAZY_OF,
    MEMBER_BACKEND,
    OPEN,
    QUESTION,
    VOTE,
    VOTES,
)
from quorum_contract.tensors import (
    ANSWERED,
    ASKED,
    CANARY_QUESTION,
    PACKED_CANARY_QUESTION,
    PACKED_OPEN,
    PACKED_QUESTION,
    PACKED_VOTES,
    SHARE,
)

HEADER = "# Rendered by `quorum render` from deploy.yaml. Do not edit: change deploy.yaml and render again.\n"


def catalogue_text(spec: Deployment) -> str:
    """The content of the file of the catalogue, which every step reads."""
    return json.dumps(spec.catalogue().to_json(), ensure_ascii=False, indent=2) + "\n"


def gate_config(spec: Deployment, canary_share: float) -> pb.ModelConfig:
    """Configure the gate: one instance without batching, so malformed requests meet no others."""
    settings = spec.gate.model_dump(exclude={"allow_direct"})
    settings["canary_share"] = canary_share
    # So that a running gate shows which catalogue it loaded.
    settings["catalogue"] = f"sha256:{hashlib.sha256(catalogue_text(spec).encode()).hexdigest()}"
    rows = [open_tensor(left + 1) for left in _rows_to_come(spec)]
    outputs = [PACKED_QUESTION, PACKED_CANARY_QUESTION, SHARE, *rows]
    return python_model(GATE, GATE, settings, inputs=ASKED, outputs=outputs)


def member_config(spec: Deployment, model: str, members: Sequence[MemberSpec]) -> pb.ModelConfig:
    """Configure one member, or several that share an LLM; options are written with their defaults."""
    settings: dict[str, Any] = {
        "allow_direct": spec.gate.allow_direct,
        "members": [_settings(member) for member in members],
        "grace": None,
    }
    if spec.vote.grace_ms is not None:
        settings["grace"] = {
            "grace_ms": spec.vote.grace_ms,
            "min_members": spec.vote.min_members,
            "voters": spec.member_names,
        }
    inputs = [PACKED_QUESTION]
    if spec.lazy:
        inputs.append(PACKED_OPEN)
    outputs = [PACKED_VOTES.named(made) for _, made in _votes(members)]
    return python_model(
        model, MEMBER_BACKEND, settings, inputs=inputs, outputs=outputs, optional=[PACKED_OPEN.name]
    )


def _settings(member: MemberSpec) -> dict[str, Any]:
    """A member's settings; its price only for its budget: else a new one would load its LLM again."""
    settings = member.model_dump(exclude={"price", "budget"})
    if member.budget is not None:
        settings["budget"] = member.budget.model_dump()
        if member.budget.is_money and (price := member.priced):
            settings["price"] = price._asdict()
    return settings


def _votes(members: Sequence[MemberSpec]) -> Iterator[tuple[str, str]]:
    """Names of each member's votes tensor in the ensemble and in its model."""
    for member in members:
        wire = f"{member.name}_{VOTES}"
        yield wire, wire if len(members) > 1 else VOTES


def _rows_to_come(spec: Deployment) -> range:
    """How many rows of members may still come after one: at most one for each other model."""
    return range(1, len(spec.models()) if spec.lazy else 1)


def vote_config(spec: Deployment, versions: Iterable[int]) -> pb.ModelConfig:
    """Configure the vote, with exactly these versions loaded side by side.

    With lazy channels it also stands between rows, where the votes of later rows are not there yet.
    """
    settings: dict[str, Any] = {"members": spec.member_names, "allow_direct": spec.gate.allow_direct}
    settings["prices"] = [price and price._asdict() for price in spec.prices.values()]
    settings |= spec.vote.model_dump(include={"min_members", "min_weight"})
    votes = [PACKED_VOTES.named(f"{name}_{VOTES}") for name in spec.member_names]
    inputs, outputs, optional = [PACKED_QUESTION, *votes], [*ANSWERED], list[str]()
    if spec.lazy:
        settings |= spec.lazy.model_dump(include={"flip_risk", "whole_questions"})
        inputs.append(PACKED_OPEN)
        outputs += [open_tensor(left) for left in _rows_to_come(spec)]
        optional = [tensor.name for tensor in inputs[1:]]
    config = python_model(VOTE, VOTE, settings, inputs=inputs, outputs=outputs, optional=optional)
    config.version_policy.specific.versions.extend(sorted(versions))
    return config


def channel_config(
    spec: Deployment, channel: str, version: int, rows: Sequence[Sequence[str]] | None = None
) -> pb.ModelConfig:
    """Configure an ensemble whose vote step is pinned to one version of the weights.

    Args:
        spec: The deployment.
        channel: The name of the ensemble.
        version: Of the weights.
        rows: Models of each row; after each but the last one, the vote says what is still open. None: all
            models in one row.
    """
    config = pb.ModelConfig(name=channel, platform="ensemble", max_batch_size=0)
    declare(config, ASKED, [*ANSWERED, SHARE])
    add, models = config.ensemble_scheduling.step.add, spec.models()
    rows = rows or [[*models]]
    asked = [open_tensor(left).name for left in range(len(rows), 0, -1)] if len(rows) > 1 else []
    is_canary = channel in (CANARY, LAZY_OF[CANARY])
    gated = {CANARY_QUESTION if is_canary else QUESTION: QUESTION} | {
        name: name for name in [SHARE.name, *asked[:1]]
    }
    asks = {tensor.name: tensor.name for tensor in ASKED}
    add(model_name=GATE, model_version=-1, input_map=asks, output_map=gated)
    votes = {QUESTION: QUESTION}
    for number, row in enumerate(rows):
        opened = {OPEN: asked[number]} if asked else {}
        if number:
            settled = {asked[number]: asked[number]}
            earlier = votes | {OPEN: asked[number - 1]}
            add(model_name=VOTE, model_version=version, input_map=earlier, output_map=settled)
        for model in row:
            made = {made: wire for wire, made in _votes(models[model])}
            question = {QUESTION: QUESTION} | opened
            add(model_name=model, model_version=-1, input_map=question, output_map=made)
            votes |= {wire: wire for wire in made.values()}
    answered = {tensor.name: tensor.name for tensor in ANSWERED}
    # By this it knows that members were left out.
    votes |= {OPEN: asked[-1]} if asked else {}
    add(model_name=VOTE, model_version=version, input_map=votes, output_map=answered)
    return config


def state_configs(spec: Deployment, state: State, repository: Path) -> dict[str, pb.ModelConfig]:
    """Model -> its configuration, for the models that follow a change of state of a repository."""
    return {
        GATE: gate_config(spec, float(state.canary_share)),
        VOTE: vote_config(spec, state.versions),
        **{channel: channel_config(spec, channel, state.pins[channel]) for channel in CHANNELS},
        **(_lazy_configs(spec, state, repository) if spec.lazy else {}),
        **(retriever_configs(spec, state.retriever, repository) if state.retriever else {}),
    }


def _lazy_configs(spec: Deployment, state: State, repository: Path) -> dict[str, pb.ModelConfig]:
    """The lazy channels, each pinned to the version of its namesake."""
    configs = {}
    for channel, lazy in LAZY_OF.items():
        version = state.pins[channel]
        rows = lazy_rows(spec, lazy, version, repository)
        configs[lazy] = channel_config(spec, lazy, version, rows)
    return configs


def print_config(config: pb.ModelConfig) -> str:
    """Print deterministic protobuf text, checked by parsing it back."""
    text = text_format.MessageToString(config)
    if parse_config(text) != config:
        raise AssertionError(f"{config.name}: protobuf text does not read back as written")
    if config.max_batch_size:
        return f"{HEADER}{text}"
    # Triton needs the explicit zero, which protobuf text omits as a default.
    first, rest = text.split("\n", 1)
    return f"{HEADER}{first}\nmax_batch_size: 0\n{rest}"


def parse_config(text: str) -> pb.ModelConfig:
    """Inverse of :func:`print_config`; raises ``text_format.ParseError`` for other texts."""
    return text_format.Parse(text, pb.ModelConfig())


def vote_step(channel: pb.ModelConfig) -> Any:
    """The first vote step of a channel, if any; its version, that of all, is the channel's pin."""
    return next((s for s in channel.ensemble_scheduling.step if s.model_name == VOTE), None)


def graph_of(config: pb.ModelConfig) -> str:
    """A model's settings and steps without versions, equal for a file and for Triton's copy of it."""
    steps = pb.ModelEnsembling()
    steps.CopyFrom(config.ensemble_scheduling)
    for step in steps.step:
        step.ClearField("model_version")
    return f"{settings_of(config)}{text_format.MessageToString(steps)}"


def settings_of(config: pb.ModelConfig) -> str:
    """The settings of one of quorum's own models, as JSON; empty for other models."""
    # Reading an absent entry of a protobuf map would create it.
    return config.parameters["quorum"].string_value if "quorum" in config.parameters else ""
