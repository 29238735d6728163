# SPDX-License-Identifier: Apache-2.0
"""Tell where the texts that weights weigh values by are missing from recorded votes."""

from __future__ import annotations

from collections.abc import Iterator

from quorum.decision.evidence import is_blank
from quorum.decision.weights import Weights
from quorum.votes import VotesTable

_FEW_WITHOUT_TEXT = 0.05


def votes_without_text(table: VotesTable, weights: Weights, name: str) -> Iterator[str]:
    """Say that many cells have no text, by which weights, named ``name`` for people, weigh values."""
    blank = sum(is_blank(cell.title) for cell in table.cells) / max(len(table), 1)
    if weights.evidence and blank > _FEW_WITHOUT_TEXT:
        yield (
            f"{blank:.0%} of the votes have no text (`title`), by which {name} weighs values: served, it "
            "decides otherwise; record votes again"
        )
