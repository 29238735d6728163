# SPDX-License-Identifier: Apache-2.0
"""The status of a vote."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of one member's vote on one attribute; everything but ``ANSWERED`` is an abstention."""

    ANSWERED = 0
    TIMEOUT = 1
    OVERLOADED = 2
    ERROR = 3
    UNPARSABLE = 4
    NOT_ASKED = 5
    REFUSED = 6
