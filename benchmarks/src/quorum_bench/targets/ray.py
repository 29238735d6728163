# SPDX-License-Identifier: Apache-2.0
"""Ray Serve: deployments composed by handles, tuned for throughput as its documentation says."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from quorum_bench.targets.peer import PeerError, PeerTarget

_TOKEN = secrets.token_hex(32)


class RayTarget(PeerTarget):
    """Serve the members and the ensemble with Ray Serve."""

    name = "Ray Serve"
    package = "ray"
    redeploying = "serve.run again: a changed user_config reconfigures the running replica"

    answers_on_stdout = True

    def _services(self) -> Mapping[str, Sequence[str]]:
        return {"gateway": ("ray_serve.py", str(self._folder / "r"))}

    def _environment(self) -> Mapping[str, str]:
        return {
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Otherwise Ray leaves a token of its own in the home folder.
            "RAY_AUTH_TOKEN": _TOKEN,
        }

    def redeploy(self) -> None:
        """Deploy the new weights in place.

        Raises:
            PeerError: The process does not report success.
        """
        process = self._processes["gateway"]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.strip() == "deployed":
                return
        raise PeerError(f"{self.name} ended while it was deploying:\n{self._last()}")
