# SPDX-License-Identifier: Apache-2.0
"""How many connections a gateway takes: its halves are one process, and share the files that it may open."""

from __future__ import annotations

from quorum.gateway.settings import Settings
from quorum.processes import raise_open_files

# For logs, certificates, the connection to Triton, and the counts of callers.
_OWN_FILES = 64


def most_connections(settings: Settings, most: int) -> int:
    """The most connections of one half: ``most``, or its part of the files that this process may open."""
    halves = sum(address is not None for address in (settings.grpc, settings.http))
    return min(most, max(1, (raise_open_files() - _OWN_FILES) // max(1, halves)))
