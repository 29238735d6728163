# SPDX-License-Identifier: Apache-2.0
"""Find the servers of a deployment: its fleet, else the one of this machine."""

from __future__ import annotations

from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.repository.store import Store
from quorum.rollout.fleet import by_repository
from quorum.server.runfile import endpoint_of, find_running


def servers_of(deployment: Deployment) -> dict[Path, list[str]]:
    """Repository -> servers that read it, in the spec's order; raises RolloutError for an unknown name."""
    return by_repository(_servers(deployment))


def store_of(deployment: Deployment) -> Store:
    """The repository that commands read: the local server's; in a fleet, the first server's."""
    return Store(_servers(deployment)[0][1])


def _servers(deployment: Deployment) -> list[tuple[str, Path]]:
    if deployment.fleet:
        return [(s.grpc, deployment.root / (s.repository or deployment.repository)) for s in deployment.fleet]
    running = find_running(deployment)
    repository = running.repository if running else deployment.repository_path
    return [(endpoint_of(deployment).grpc_url, repository)]
