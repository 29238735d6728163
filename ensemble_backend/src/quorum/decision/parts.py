# SPDX-License-Identifier: Apache-2.0
"""Find partial agreement of open values: "soft cotton" contains "cotton". Standard library only."""

from __future__ import annotations

from collections.abc import Sequence


def find_part(values: Sequence[str | None]) -> int:
    """Index of the member whose value is contained in a longer value of another; case is ignored.

    ``values`` has one per member, None where it named no value ("n/a" is none). The shortest such value
    counts, the first of several; -1 if there is none.
    """
    if len({value for value in values if value is not None}) < 2:
        return -1
    texts = [None if value is None else value.casefold() for value in values]
    member, shortest = -1, 0
    for i, part in enumerate(texts):
        if not part or (member >= 0 and len(part) >= shortest):
            continue
        if any(whole is not None and len(whole) > len(part) and part in whole for whole in texts):
            member, shortest = i, len(part)
    return member
