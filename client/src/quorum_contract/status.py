# SPDX-License-Identifier: Apache-2.0
"""The status of a vote, and of a decision."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of one member's vote on one attribute; everything but ``ANSWERED`` is an abstention.

    ``NOT_ASKED``: it could not change the answer any more (lazy channels), or has nothing to answer from.
    ``NOT_FOUND``: a member without an LLM looked, and found no value that it would name; it does not say
    "n/a", as the text may state a value that it does not know. ``BUDGET``: the member's budget is spent.
    """

    ANSWERED = 0
    TIMEOUT = 1
    OVERLOADED = 2
    ERROR = 3
    UNPARSABLE = 4
    NOT_ASKED = 5
    REFUSED = 6
    NOT_FOUND = 7
    BUDGET = 8


class DecisionStatus(IntEnum):
    """Outcome of the vote on one attribute; everything but ``DECIDED`` is an answer without a value.

    ``NO_ANSWER``: every member abstained. ``NO_QUORUM``: some answered, but fewer than the deployment's
    ``vote.min_members``, or members of less than ``vote.min_weight``, so that the value is withheld.
    """

    DECIDED = 0
    NO_ANSWER = 1
    NO_QUORUM = 2
