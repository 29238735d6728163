# SPDX-License-Identifier: Apache-2.0
"""FastAPI on uvicorn: a service per member, and a gateway with two workers that asks them with aiohttp."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from quorum_bench.targets.peer import PeerTarget


class FastApiTarget(PeerTarget):
    """Serve the members and the gateway with FastAPI."""

    name = "FastAPI"
    package = "fastapi"
    redeploying = "SIGHUP: uvicorn restarts the gateway's workers one after the other"

    def _services(self) -> Mapping[str, Sequence[str]]:
        members = {name: ("fastapi_member.py", name) for name in self.members}
        return {**members, "gateway": ("fastapi_gateway.py",)}

    def redeploy(self) -> None:
        """Send SIGHUP, as in uvicorn's documentation on deployment."""
        os.kill(self._processes["gateway"].pid, signal.SIGHUP)
