# SPDX-License-Identifier: Apache-2.0
"""What keeps a deployment from being broken, so that a row about it would be wrong."""

from __future__ import annotations

from quorum_contract.errors import QuorumError


class ChaosError(QuorumError, RuntimeError):
    """The deployment does not start or stop, or requests were not sent or not counted."""

    code = "CHAOS_FAILED"


class ProcessNotFound(ChaosError):
    """A process that is to be broken does not run, or did not break."""

    code = "CHAOS_PROCESS_NOT_FOUND"
