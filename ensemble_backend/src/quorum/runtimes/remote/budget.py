# SPDX-License-Identifier: Apache-2.0
"""Bound how many requests are repeated, so that retries never add up to a storm."""

from __future__ import annotations

SHARE = 0.1
"""Repeated requests per question, at most."""
_MOST = 10.0


class RetryBudget:
    """Each question saves a tenth of a retry, up to ten retries; retries and hedges are paid from that."""

    def __init__(self, share: float = SHARE, most: float = _MOST) -> None:
        self._share, self._most, self._saved = share, most, 0.0

    def save(self) -> None:
        """Count a question."""
        self._saved = min(self._most, self._saved + self._share)

    def pay(self) -> bool:
        """Pay for one more request, if there is enough."""
        # Ten times a tenth is a little less than one.
        if self._saved < 1 - 1e-9:
            return False
        self._saved = max(0.0, self._saved - 1)
        return True
