# SPDX-License-Identifier: Apache-2.0
"""Count attributes outside the catalogue, such as keyphrases, as one: each has too few votes of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from quorum.decision.catalogue_change import OUTSIDE
from quorum.votes.statistic import Statistic
from quorum.votes.table import VotesTable, build_table


def as_one(table: VotesTable, listed: Collection[str]) -> VotesTable:
    """The table with ``OUTSIDE`` as the attribute, of no category, of cells that are not of those listed."""
    if all(attribute in listed for _, attribute in table.group_names):
        return table
    cells = [
        cell if cell.attribute in listed else replace(cell, attribute=OUTSIDE, category="")
        for cell in table.cells
    ]
    return build_table(table.members, cells)


def groups_as_one(statistic: Statistic, listed: Collection[str]) -> Statistic:
    """The same of a statistic."""
    merged = [group if group[1] in listed else ("", OUTSIDE) for group in statistic.groups]
    names = tuple(sorted(set(merged)))
    index = {name: number for number, name in enumerate(names)}
    numbers = np.array([index[name] for name in merged], np.int32)
    text = None if statistic.text is None else statistic.text.regrouped(numbers)
    found = statistic.mapped(lambda hist: hist.regrouped(numbers))
    return replace(found, groups=names, text=text)
