# SPDX-License-Identifier: Apache-2.0
"""What a sheet, the terminal and the page share: answers spelled as votes are, files that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quorum.decision import weights as weights_file
from quorum.decision.weights import Weights
from quorum.review.choose import LabelError
from quorum.review.kinds import spelled_gold
from quorum.review.kinds.base import SEPARATOR
from quorum.review.sheet import GoldRow
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import MOST_TEXT_CHARS
from quorum.tasks.normalise import visible

_LINES = str.maketrans("\t\r\n", "   ")
_SHOWN = 60


def spelled_row(row: GoldRow, catalogue: Catalogue | None, text: str) -> GoldRow:
    """The gold in the spelling of votes on this text.

    Raises:
        LabelError: A value that is no answer by the catalogue, or no text; a bar alone, a control character,
            a mark of direction, or more characters than any answer has.
    """
    for value in row.gold:
        # A byte of another encoding, typed into a terminal, comes as a lone surrogate.
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise LabelError(f"{value!r} is no text in UTF-8; type it again")
    if catalogue is None:
        _check_plain(row.gold)
        return row
    attribute = catalogue.get(row.attribute)
    answers = tuple(dict.fromkeys(spelled_gold(attribute, value, text) for value in row.gold))
    # Spans are words of the text, whatever it holds.
    if attribute.answer_kind != "spans":
        _check_plain(answers)
    return replace(row, gold=answers)


def _check_plain(answers: Sequence[str]) -> None:
    """Raise LabelError for an answer that no vote can be, or that is not what a reader sees."""
    for answer in answers:
        # Texts may have several lines.
        line = answer.translate(_LINES)
        if visible(line) != line:
            raise LabelError(
                f"{answer[:_SHOWN]!r} has a control character, or one that turns the direction of text; type "
                "it without"
            )
        if len(answer) > MOST_TEXT_CHARS:
            raise LabelError(f"an answer of {len(answer)} characters; give at most {MOST_TEXT_CHARS}")
        if not answer.strip("| "):
            raise LabelError(f"{answer!r} is no answer; write one on each side of {SEPARATOR!r}")


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
