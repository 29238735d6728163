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


def columns_in_words(sources: Sequence[Source]) -> list[str]:
    """A line for each set of columns that some files lack."""
    every = dict.fromkeys(column for source in sources for column in source.columns)
    lacking: dict[tuple[str, ...], list[str]] = {}
    for source in sources:
        missing = tuple(column for column in every if column not in source.columns)
        if missing and source.rows:
            lacking.setdefault(missing, []).append(source.name)
    return [
        f"{_names(names)}: no column {_names(missing)}, which other files have; it stays empty there"
        for missing, names in lacking.items()
    ]


def _names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")
