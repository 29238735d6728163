# SPDX-License-Identifier: Apache-2.0
"""What the two halves of a gateway share."""

from __future__ import annotations

from dataclasses import dataclass

from quorum.gateway.callers import Callers
from quorum.gateway.health import Health
from quorum.gateway.hops import Hops
from quorum.gateway.routing import Router
from quorum.gateway.settings import Settings
from quorum.gateway.tls import Certificates
from quorum.gateway.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Gateway:
    """Who may ask, where answers come from, and which channel gives them.

    Attributes:
        settings: Addresses and limits.
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
