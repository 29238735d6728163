# SPDX-License-Identifier: Apache-2.0
"""Rows of JSON Lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from typing import Any

from quorum.bulk.inputs.formats.cursor import Flaw, Place
from quorum.bulk.inputs.lines import Lines
from quorum.votes.jsonl import load_json


class JsonlCursor:
    """Reads an object from each line; blank lines are no rows."""

    def __init__(self, lines: Lines, encoding: str, *, fixed: bool, place: Place) -> None:
        """Start where ``lines`` are; parameters as of :class:`quorum.bulk.inputs.formats.csv.CsvCursor`."""
        self._lines = lines
        self._encoding, self._fixed = encoding, fixed
        self._offset, self._line, self._row = place
        self.at = 0

    def place(self) -> Place:
        """Where the next row begins."""
        return Place(self._offset, self._line, self._row)

    def __iter__(self) -> Iterator[Mapping[str, Any] | Flaw]:
        for raw in self._lines:
            text = raw.removeprefix(codecs.BOM_UTF8) if self._offset == 0 else raw
            self._offset += len(raw)
            self._line += 1
            if text.strip():
                self._row += 1
                self.at = self._line - 1
                yield self._parsed(text)

    def _parsed(self, raw: bytes) -> Mapping[str, Any] | Flaw:
        try:
            row = load_json(raw.decode(self._encoding))
        except UnicodeDecodeError as error:
            if not self._fixed:
                raise
            reason = f"the byte 0x{raw[error.start]:02x} is no {self._encoding}; save it anew"
        except ValueError as error:
            reason = f"{error}; one object per line"
        else:
            if not isinstance(row, dict):
                reason = f"{type(row).__name__}, expected an object"
            elif b"\\u0000" in raw and _has_nul(row):
                reason = "holds a NUL character; remove it"
            elif not (
                self._lines.is_suspicious and (reason := self._lines.flaw_of(raw.decode("utf-8", "ignore")))
            ):
                return row
        return Flaw(reason, raw.decode(self._encoding, "replace").rstrip("\r\n"), self.at)


def _has_nul(value: object) -> bool:
    """Whether a text in it has the character U+0000."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(map(_has_nul, value)) or any(map(_has_nul, value.values()))
    return isinstance(value, list) and any(map(_has_nul, value))
