# SPDX-License-Identifier: Apache-2.0
"""What a sheet, the terminal and the page share: answers spelled as votes are, files that stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights
from quorum.review.choose import LabelError
from quorum.review.kinds import spelled_gold
from quorum.review.sheet import GoldRow
from quorum.tasks.catalogue import Catalogue


def spelled_row(row: GoldRow, catalogue: Catalogue | None, text: str) -> GoldRow:
    """The gold in the spelling of votes on this text.

    Raises:
        LabelError: A value that is no answer by the catalogue, or no text.
    """
    for value in row.gold:
        # A byte of another encoding, typed into a terminal, comes as a lone surrogate.
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise LabelError(f"{value!r} is no text in UTF-8; type it again")
    if catalogue is None:
        return row
    attribute = catalogue.get(row.attribute)
    answers = (spelled_gold(attribute, value, text) for value in row.gold)
    return replace(row, gold=tuple(dict.fromkeys(answers)))


def load_weights(path: str | Path | None, catalogue: Catalogue | None) -> Weights | None:
    """The weights of a file, as they decide with a catalogue."""
    loaded = weights_file.load(path) if path is not None else None
    return loaded.fitted(catalogue.hashes) if loaded and catalogue else loaded


def refuse_existing(target: Path, votes: Path, force: bool) -> None:
    """Raise LabelError for an existing target other than the table, which may hold people's answers."""
    if target.resolve() != votes.resolve() and target.exists() and not force:
        raise LabelError(
            f"{target} exists and may hold answers; name another with --out, go on from it as VOTES, "
            "or replace it with --force"
        )
