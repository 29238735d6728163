# SPDX-License-Identifier: Apache-2.0
"""Make the servers of a deployment what ``deploy.yaml`` says, while they serve."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from quorum.bulk.callbacks import Note, ignore
from quorum.capacity.preflight import preflight
from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights
from quorum.deployment.load import DeploymentError
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.operations.describe import check_files
from quorum.operations.servers import servers_of
from quorum.records import Record
from quorum.repository.configs import parse_config, settings_of
from quorum.repository.store import CONFIG_FILE
from quorum.rollout.apply import Applying, Wanted
from quorum.rollout.fleet import SharedRepository
from quorum.rollout.fleet_apply import apply_all, plan_all
from quorum.rollout.graph_change import GraphChange
from quorum.rollout.lock import RolloutError
from quorum.rollout.plan_lines import ApplyPlan
from quorum.server.control import Control
from quorum.server.probe import probe_decision
from quorum.server.runfile import endpoint_of, find_running
from quorum.serving.copies import copy_of

_PROBE_S = 20.0
_LOAD_S = 600.0
"""An LLM may take minutes to load."""
_ADDRESS = ("host", "trusted_network")
"""Settings that the command line of `quorum up` may change."""


@dataclass(frozen=True, slots=True)
class ApplyReport(Record):
    """What an apply changes, or has changed, on each server.

    Attributes:
        servers: Addresses that share a repository -> their plan.
        remarks: What else to know.
    """

    servers: dict[str, ApplyPlan]
    remarks: tuple[str, ...] = ()


def apply(
    deployment: Deployment,
    weights: Weights | str | Path | None = None,
    *,
    dry_run: bool = False,
    note: Note = ignore,
) -> ApplyReport:
    """Make every server of a deployment what it says, without a failed request; what fails is undone.

    Args:
        deployment: The deployment, as it should be served.
        weights: For its members, or a file of them. Needed where members change and the running weights would
            decide otherwise without them.
        dry_run: Check everything and change nothing.
        note: Takes a line for each step.

    Raises:
        RolloutError: It takes a restart, does not fit, or failed and was undone.
        WeightsError: No weights are known for these members.
        MisfitError: A file that the deployment names is missing or cannot be used.
    """
    remarks = _check_settings(deployment)
    if find_running(deployment) is not None:
        # Servers elsewhere have files of their own.
        check_files(deployment)
    loaded = weights_file.load(weights) if isinstance(weights, str | Path) else weights
    wanted = Wanted(deployment, loaded, partial(_check_memory, deployment))
    key = endpoint_of(deployment).admin_key
    with ExitStack() as controls:
        servers = {}
        for repository, urls in servers_of(deployment).items():
            shared = SharedRepository(
                {
                    url: (
                        controls.enter_context(Control(url, key, _LOAD_S)),
                        partial(probe_decision, deployment, url, timeout_s=_PROBE_S),
                    )
                    for url in urls
                }
            )
            servers[", ".join(urls)] = Applying(wanted, shared, shared.probe, repository, note)
        plans = plan_all(servers) if dry_run else apply_all(servers)
    return ApplyReport({name: replace(plan, planned=dry_run) for name, plan in plans.items()}, remarks)


def _check_settings(deployment: Deployment) -> tuple[str, ...]:
    """Refuse a change of what Triton gets on its command line; remarks on what may come from there."""
    running = find_running(deployment)
    if running is None:
        return ()
    if not deployment.fleet and running.repository.resolve() != deployment.repository_path.resolve():
        raise RolloutError(
            f"repository: the server serves {running.repository}, deploy.yaml names "
            f"{deployment.repository_path}; restart it to serve another one"
        )
    if running.settings is None:
        return ()
    now = deployment.server.model_dump(mode="json")
    changed = {
        key: (old, now[key]) for key, old in running.settings.items() if key in now and old != now[key]
    }
    fixed = [
        line
        for key, (old, new) in changed.items()
        if key not in _ADDRESS
        for line in changes_of(f"server.{key}", old, new)
    ]
    if fixed:
        raise RolloutError(
            f"{', '.join(fixed)}: a running server keeps its addresses and settings. Put that back and apply "
            "the rest, or stop `quorum up`, run `quorum render` and start it again"
        )
    return tuple(
        f"server.{key}: the running server has {old}; another value takes a restart"
        for key, (old, _) in changed.items()
    )


def changes_of(name: str, old: object, new: object) -> list[str]:
    """How a setting changes, or each key of a section, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
        return [line for key in keys for line in changes_of(f"{name}.{key}", old.get(key), new.get(key))]
    if old is None:
        return [f"{name} added"]
    return [f"{name} removed" if new is None else f"{name} {old} -> {new}"]


def _check_memory(deployment: Deployment, change: GraphChange) -> None:
    """Refuse what does not fit the GPUs while the old members are still loaded."""
    report = preflight(deployment.model_copy(update={"members": _at_once(deployment, change)}))
    if report.problems:
        raise RolloutError(
            f"{'; '.join(report.problems)} (counted with the members that stay loaded until the channels "
            "have gone over; where that is too much, restart the server instead)"
        )


def _at_once(deployment: Deployment, change: GraphChange) -> list[MemberSpec]:
    """The members that are loaded at the same time: the new ones, and those that they replace."""
    before = [*_members(change, (*change.changed, *change.removed))]
    return [*deployment.members, *(m.model_copy(update={"name": copy_of(m.name)}) for m in before)]


def _members(change: GraphChange, models: tuple[str, ...]) -> list[MemberSpec]:
    found = []
    for model in models:
        text = change.before.get(f"{model}/{CONFIG_FILE}")
        settings: dict[str, Any] = json.loads(settings_of(parse_config(text)) or "{}") if text else {}
        for member in settings.get("members", ()):
            if isinstance(member, dict):
                # What it may spend takes no memory.
                kept = {key: value for key, value in member.items() if key not in ("budget", "price")}
                found.append(_member(kept))
    return found


def _member(settings: dict[str, Any]) -> MemberSpec:
    try:
        return MemberSpec(**settings)
    except ValueError as error:
        raise DeploymentError(
            f"a member that is loaded cannot be read: {error}; restart the server"
        ) from error
