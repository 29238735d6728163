# SPDX-License-Identifier: Apache-2.0
"""The status of a vote."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of one member's vote on one attribute; everything but ``ANSWERED`` is an abstention.

    ``NOT_FOUND``: a member without an LLM looked, and found no value that it would name; it does not say
    "n/a", as the text may state a value that it does not know.
    """

    ANSWERED = 0
    TIMEOUT = 1
    OVERLOADED = 2
    ERROR = 3
    UNPARSABLE = 4
    NOT_ASKED = 5
    REFUSED = 6
    NOT_FOUND = 7
