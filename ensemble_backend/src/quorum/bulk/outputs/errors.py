# SPDX-License-Identifier: Apache-2.0
"""Why answers cannot be written."""

from __future__ import annotations

from quorum_contract.errors import QuorumError


class OutputError(QuorumError, ValueError):
    """Answers cannot be written; the message names the file and the fix."""

    code = "OUTPUT_INVALID"
