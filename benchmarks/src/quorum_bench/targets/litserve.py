# SPDX-License-Identifier: Apache-2.0
"""LitServe: one server with a LitAPI per member, and one for the ensemble that asks them over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorum_bench.targets.peer import PeerTarget, peers_python


class LitServeTarget(PeerTarget):
    """See the module."""

    name = "LitServe"
    package = "litserve"
    redeploying = "restart of the ensemble's server; the members keep running"

    def _services(self) -> Mapping[str, Sequence[str]]:
        return {"members": ("litserve_members.py",), "gateway": ("litserve_ensemble.py",)}

    def redeploy(self) -> None:
        """It has no way to load anew on one machine, so the server is stopped and started."""
        self._end("gateway")
        self._launch("gateway", peers_python())
