# SPDX-License-Identifier: Apache-2.0
"""Check what callers give a desk, so that the journal holds only what can be read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from quorum.review.choose import LabelError
from quorum.review.page.journal import Mode, Verdict

MOST_NAME, MOST_NOTE = 64, 4_000
"""Characters of a reviewer's name, and of a note."""
_MODES: tuple[str, ...] = get_args(Mode)
_VERDICTS = tuple(verdict for verdict in get_args(Verdict) if verdict != "undo")


def checked_name(name: str) -> str:
    """A reviewer's name without spaces around it; raises LabelError for one that is none."""
    name = name.strip()
    if not name or len(name) > MOST_NAME or not name.isprintable():
        raise LabelError(f"reviewer {name!r}; give a name of 1 to {MOST_NAME} printable characters")
    return name


def check_who(reviewer: str, mode: str, reviewers: Sequence[str]) -> None:
    """Raise LabelError for a person who is not known, or a mode that is none."""
    if reviewer not in reviewers:
        raise LabelError(
            f"{reviewer!r} is no reviewer here: {', '.join(reviewers)}; name more with --reviewer"
        )
    if mode not in _MODES:
        raise LabelError(f"{mode!r} is no mode; give one of {', '.join(_MODES)}")


def check_verdict(verdict: str) -> None:
    """Raise LabelError for what is no decision; an undo is none."""
    if verdict not in _VERDICTS:
        raise LabelError(f"{verdict!r} is no decision; give one of {', '.join(_VERDICTS)}")


def check_typed(typed: str) -> None:
    """Raise LabelError for several lines; a field of the page has one."""
    if len(typed.splitlines()) > 1:
        raise LabelError("an answer of several lines; type it in one")


def checked_note(note: str) -> str:
    """A note as it is kept; raises LabelError for one that is too long."""
    if len(note) > MOST_NOTE:
        raise LabelError(f"a note of {len(note)} characters; write at most {MOST_NOTE}")
    return note.strip().encode("utf-8", "replace").decode()
