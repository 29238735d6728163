# SPDX-License-Identifier: Apache-2.0
"""What the two halves of a gateway share."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from quorum.gateway.callers import Callers
from quorum.gateway.health import Health
from quorum.gateway.hops import Hops
from quorum.gateway.routing import Router
from quorum.gateway.settings import FOLLOWED, Settings
from quorum.gateway.tls import Certificates
from quorum.gateway.upstream import Upstream

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Gateway:
    """Who may ask, where answers come from, and which channel gives them.

    Attributes:
        settings: Addresses and limits; :meth:`follow` replaces them.
        callers: Keys, roles and quotas.
        upstream: The connection to tritonserver.
        router: The canary's shares.
        certificates: None: plain text.
        hops: Traces of requests.
        health: What Triton is ready for.
    """

    settings: Settings
    callers: Callers
    upstream: Upstream
    router: Router
    certificates: Certificates | None
    hops: Hops
    health: Health

    def follow(self, settings: Settings) -> None:
        """Take over what `quorum apply` changes while a server runs: the catalogue, and the gate's limits."""
        changes = {name: getattr(settings, name) for name in FOLLOWED}
        self.settings = msgspec.structs.replace(self.settings, **changes)
        self.upstream.limit(settings.max_calls, settings.max_timeout_s)
        logger.warning("follows the deployment: %s", changes)
