# SPDX-License-Identifier: Apache-2.0
"""Follow a deployment that `quorum apply` changes while its server runs."""

from __future__ import annotations

from pathlib import Path

from quorum.deployment.load import load_deployment
from quorum.deployment.schema import Deployment
from quorum.repository.render import difference
from quorum.repository.state import STATE_FILE
from quorum_contract import GATE
from quorum_contract.errors import QuorumError


def fits(spec: Deployment, repository: Path) -> bool:
    """Whether a repository was rendered from a deployment, whatever versions it serves."""
    try:
        changes = difference(spec, repository)
    except QuorumError:
        return False
    steps = {GATE, *spec.models()}
    # A change of versions may be half done: only what it cannot change counts.
    return not changes.remove and not any(
        name.split("/")[0] in steps for name in changes.write if name != STATE_FILE
    )


def applied(spec: Deployment, repository: Path) -> Deployment | None:
    """The deployment that a repository was rendered from: the file as it is, or as it was read; else None.

    Addresses stay those that the server was started with.
    """
    try:
        current = load_deployment(spec.path).model_copy(update={"server": spec.server})
    except QuorumError:
        current = spec
    return next((deployment for deployment in (current, spec) if fits(deployment, repository)), None)
