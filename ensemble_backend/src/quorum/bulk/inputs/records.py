# SPDX-License-Identifier: Apache-2.0
"""A row of an input, and a row that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quorum_contract.errors import QuorumError


class ListingsError(QuorumError, ValueError):
    """A file of listings cannot be read; the message names file, row and fix."""

    code = "LISTINGS_INVALID"


# Freezing a class makes its objects three times as slow to build, and there are millions of these.
@dataclass(slots=True)
class Row:
    """A row that was read.

    Attributes:
        index: Its number over all sources, from 0; bad rows count too.
        place: File and row, for messages.
        values: Column -> value; texts in CSV.
    """

    index: int
    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, or means nothing.

    Attributes:
        index: As of :class:`Row`.
        place: File and row, for messages.
        reason: What is wrong with it.
        raw: Its text as in the file, for a person who repairs it; of Parquet, and of a row that was read, its
            values as JSON.
    """

    index: int
    place: str
    reason: str
    raw: str
