# SPDX-License-Identifier: Apache-2.0
"""Say in words what was detected about the inputs."""

from __future__ import annotations

from collections.abc import Sequence

from quorum.bulk.inputs.layout import Source

_MOST = 3


def sources_in_words(sources: Sequence[Source]) -> list[str]:
    """A line for the files of each kind."""
    alike: dict[str, list[Source]] = {}
    for source in sources:
        alike.setdefault(source.in_words(), []).append(source)
    return [
        f"{_names([source.name for source in some])}: {words}; {sum(source.rows for source in some)} rows"
        for words, some in alike.items()
    ]


def columns_in_words(sources: Sequence[Source], used: Sequence[str]) -> list[str]:
    """A line on the columns in use that some files lack; none where each has them."""
    filled = [source for source in sources if source.rows]
    every = {column for source in filled for column in source.columns}
    lacking = {
        column: names
        for column in used
        if column in every and (names := [source.name for source in filled if column not in source.columns])
    }
    if not lacking:
        return []
    parts = (f"{column} in {_names(names)}" for column, names in lacking.items())
    return [f"columns that other files have are missing, and empty: {'; '.join(parts)}"]


def _names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")
