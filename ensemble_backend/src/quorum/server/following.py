# SPDX-License-Identifier: Apache-2.0
"""Follow a deployment that `quorum apply` changes while its server runs."""

from __future__ import annotations

from pathlib import Path

from quorum.deployment.load import load_deployment
from quorum.deployment.schema import Deployment
from quorum.gateway.settings import FOLLOWED, Settings
from quorum.repository.history import HISTORY_FILE
from quorum.repository.render import difference
from quorum.repository.state import STATE_FILE
from quorum.rollout.apply_journal import APPLY_FILE
from quorum.server.endpoint import Endpoint
from quorum.server.gateway_settings import settings_of
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


class FollowedSettings:
    """The settings of a gateway while `quorum apply` changes its deployment.

    Addresses, and the section ``gateway``, stay those that it was opened with.

    Args:
        spec: The deployment that it was opened with.
        endpoint: Of its server.
        repository: That the server serves.
        settings: That it was opened with.
    """

    def __init__(self, spec: Deployment, endpoint: Endpoint, repository: Path, settings: Settings) -> None:
        self._spec, self._endpoint, self._repository = spec, endpoint, repository
        self._settings = settings
        self._mark: list[tuple[int, int] | None] = []

    def changed(self) -> Settings | None:
        """The settings, if they have changed since the last call; rarely more than a look at two files."""
        mark = self._look()
        if mark == self._mark or (self._repository / APPLY_FILE).exists():
            return None
        self._mark = mark
        now = applied(self._spec, self._repository)
        if now is None:
            # deploy.yaml was changed again: what was applied is not known until the next apply.
            return None
        self._spec = now.model_copy(update={"gateway": self._spec.gateway})
        settings = settings_of(self._spec, self._endpoint)
        if settings is None or all(getattr(settings, n) == getattr(self._settings, n) for n in FOLLOWED):
            return None
        self._settings = settings
        return settings

    def _look(self) -> list[tuple[int, int] | None]:
        return [_mark_of(path) for path in (self._repository / HISTORY_FILE, self._spec.path)]


def _mark_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
