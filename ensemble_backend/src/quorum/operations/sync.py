# SPDX-License-Identifier: Apache-2.0
"""Bring the repository of a new or stale server to the state of its fleet."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.operations.servers import servers_of
from quorum.repository.store import Store
from quorum.rollout.fleet import SharedRepository
from quorum.rollout.lock import RolloutError
from quorum.rollout.sync import Synced, plan_sync, source_of, sync_offline, sync_running
from quorum.server.control import Control
from quorum.server.probe import probe_decision, probe_recommend
from quorum.server.runfile import endpoint_of, find_running, last_attempt

_PROBE_S = 20.0


def sync(
    deployment: Deployment, repository: Path, source: Path | None = None, *, dry_run: bool = False
) -> Synced:
    """Bring a model repository to the state of another one: versions, pins and the canary's share.

    A server of the deployment that reads it loads what changed; where none runs, files are written. One of
    another machine that does not answer counts as stopped.

    Args:
        deployment: The deployment that is served.
        repository: The one to bring up to date; it may not exist yet.
        source: The one to take all from; None: the others of the fleet, which must agree.
        dry_run: Check everything, change nothing.

    Raises:
        RolloutError: The others differ, a version has another content, a server of this machine reads it and
            does not answer (it starts, or hangs), or it failed and was undone.
        RepositoryError: The source has no state.
    """
    servers = servers_of(deployment)
    origin = Store(source or source_of([*servers], repository))
    target = Store(repository)
    if origin.path.resolve() == target.path.resolve():
        raise RolloutError(f"{repository}: source and target are the same; name another one with --from")
    urls = next(
        (addresses for path, addresses in servers.items() if path.resolve() == target.path.resolve()), []
    )
    key = endpoint_of(deployment).admin_key
    with ExitStack() as controls:
        live = {url: controls.enter_context(Control(url, key)) for url in urls}
        answering = {url: control for url, control in live.items() if control.is_live()}
        if answering and len(answering) < len(live):
            dead = ", ".join(url for url in live if url not in answering)
            raise RolloutError(f"{dead} reads {repository} and does not answer; start or stop all that do")
        check = partial(_check_stopped, deployment, target.path)
        if not answering and not dry_run:
            return sync_offline(deployment, origin, target, check)
        if not answering:
            check()
        plan = plan_sync(deployment, origin, target)
        plan = replace(plan, is_served=bool(answering), planned=dry_run)
        if dry_run or plan.is_empty:
            return plan
        deciding, recommending = (
            SharedRepository({url: (control, partial(probe, url)) for url, control in answering.items()})
            for probe in (partial(_decides, deployment), _recommends)
        )
        sync_running(deployment, origin, target, deciding, (deciding.probe, recommending.probe))
    return plan


def _check_stopped(deployment: Deployment, repository: Path) -> None:
    """Raise RolloutError where a server of this machine reads the repository, though it does not answer."""
    running, attempt = find_running(deployment), last_attempt(deployment)
    readers = []
    if running:
        why = f"tritonserver (pid {running.pid}) reads it and does not answer"
        readers.append((running.repository, why))
    if attempt and attempt.is_alive:
        why = f"`quorum up` (pid {attempt.pid}) is starting or stopping a server that reads it"
        readers.append((attempt.repository or deployment.repository_path, why))
    for path, why in readers:
        if path.resolve() == repository.resolve():
            raise RolloutError(
                f"{repository}: {why}; wait with `quorum status --wait 120`, or stop it, then sync again"
            )


def _decides(deployment: Deployment, url: str, channel: str) -> int:
    return probe_decision(deployment, url, channel, _PROBE_S)


def _recommends(url: str, channel: str) -> int:
    return probe_recommend(url, channel, _PROBE_S)
