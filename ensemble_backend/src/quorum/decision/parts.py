# SPDX-License-Identifier: Apache-2.0
"""Partial agreement of open values: who named "soft cotton" said "cotton" too. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence


def find_part(values: Sequence[str | None]) -> int:
    """The member whose value is the part: a text within longer values of other members, in any case.

    Args:
        values: One per member; None where it named no value ("n/a" is none).

    Returns:
        The first member that named it; -1 if no value is part of another. Of several the shortest, then the
        first.
    """
    if len({value for value in values if value is not None}) < 2:
        return -1
    texts = [None if value is None else value.casefold() for value in values]
    found, shortest = -1, 0
    for i, part in enumerate(texts):
        if not part or (found >= 0 and len(part) >= shortest):
            continue
        if any(whole is not None and len(whole) > len(part) and part in whole for whole in texts):
            found, shortest = i, len(part)
    return found
