# SPDX-License-Identifier: Apache-2.0
"""Check that what an apply loads fits the GPUs next to the members that serve."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from quorum.capacity.plan import plan_memory
from quorum.capacity.preflight import preflight
from quorum.deployment.load import DeploymentError
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.hardware import Gpu, GpuError, find_gpus
from quorum.repository.configs import parse_config, settings_of
from quorum.repository.store import CONFIG_FILE
from quorum.rollout.graph_change import Files, GraphChange
from quorum.rollout.lock import RolloutError
from quorum.runtimes.engine_names import PREFIX
from quorum.serving.copies import copy_of

Llm = Sequence[MemberSpec]
"""The members of one LLM in memory."""


def check_memory(
    deployment: Deployment,
    change: GraphChange,
    *,
    gpus: Sequence[Gpu] | None = None,
    installed: str | None = None,
) -> None:
    """Refuse what does not fit into the GPU memory that is free while the server serves.

    First new members and copies are loaded next to what serves; then each step that changes is unloaded and
    loaded anew, next to its copy.

    Args:
        deployment: As it should be served.
        change: What changes.
        gpus: Of the server's machine; looked up unless given.
        installed: Version of TensorRT-LLM; looked up unless given.

    Raises:
        RolloutError: It does not fit, or members cannot be loaded here.
    """
    steps = [*_llms(change, change.after, (*change.added, *change.changed))]
    if not steps:
        return
    copies = [*_llms(change, change.after, change.copied)]
    early = [*_llms(change, change.after, [m for m in change.added if m not in change.copied])]
    if gpus is None:
        # What cannot be read is reported below, where members need a GPU.
        with suppress(GpuError):
            gpus = find_gpus()
    named = [[member.model_copy(update={"name": copy_of(member.name)}) for member in llm] for llm in copies]
    members = [member for llm in steps for member in llm]
    spec = deployment.model_copy(update={"members": members})
    stages = [(early + named, gpus), (early + named + copies, _freed(deployment, change, gpus))]
    for llms, free in stages if copies else [(steps, gpus)]:
        if problems := preflight(spec, gpus=free, installed=installed, loaded=llms).problems:
            raise RolloutError(
                f"{'; '.join(problems)} (counted is what is loaded next to the members that serve, in the "
                "memory that is free now; where that is too much, restart the server instead)"
            )


def _freed(deployment: Deployment, change: GraphChange, gpus: Sequence[Gpu] | None) -> Sequence[Gpu] | None:
    """The GPUs once the steps that change are unloaded: without what they need for sure."""
    if not gpus:
        return gpus
    old = [*_llms(change, change.before, change.changed)]
    held = {gpu.index: 0 for gpu in gpus}
    for plan in plan_memory(deployment, gpus, loaded=old).gpus:
        for share in plan.shares:
            held[plan.gpu.index] += share.need.at_start + (share.need.kv_limit or 0)
    return [replace(gpu, used=max(gpu.used - held[gpu.index], 0)) for gpu in gpus]


def _llms(change: GraphChange, files: Files, models: Iterable[str]) -> Iterable[Llm]:
    """The LLMs of these models, without compiled engines that stay loaded: those are models of their own."""
    for model in models:
        text = files.get(f"{model}/{CONFIG_FILE}")
        settings: dict[str, Any] = json.loads(settings_of(parse_config(text)) or "{}") if text else {}
        found = [_member(member) for member in settings.get("members", ()) if isinstance(member, dict)]
        loaded = [m for m in found if m.runtime != "engine" or f"{PREFIX}{m.name}" in change.added]
        if loaded:
            yield loaded


def _member(settings: dict[str, Any]) -> MemberSpec:
    # What it may spend takes no memory.
    kept = {key: value for key, value in settings.items() if key not in ("budget", "price")}
    try:
        return MemberSpec(**kept)
    except ValueError as error:
        raise DeploymentError(
            f"a member that is loaded cannot be read: {error}; restart the server"
        ) from error
