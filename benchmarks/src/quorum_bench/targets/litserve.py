# SPDX-License-Identifier: Apache-2.0
"""LitServe: one server with a LitAPI per member, and one for the ensemble that asks them over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorum_bench.targets.peer import PeerTarget, peers_python


class LitServeTarget(PeerTarget):
    """Serve the members and the ensemble with LitServe."""

    name = "LitServe"
    package = "litserve"
    redeploying = "restart of the ensemble's server; the members keep running"

    def _services(self) -> Mapping[str, Sequence[str]]:
        return {"members": ("litserve_members.py",), "gateway": ("litserve_ensemble.py",)}

    def redeploy(self) -> None:
        """Restart the ensemble's server: LitServe cannot reload on one machine."""
        self._end("gateway")
        self._launch("gateway", peers_python())
