# SPDX-License-Identifier: Apache-2.0
"""Write answers as CSV."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.listings import Listing
from quorum.bulk.outputs.errors import OutputError
from quorum.bulk.outputs.outcome import Outcome
from quorum.safe_text import safe_cell
from quorum_client import Extraction

# Of the columns of an attribute.
_ENDINGS = ("", "_confidence", "_status")
WEIGHTS = "weights_version"
SPENT = ("quorum_cost", "quorum_calls", "quorum_prompt_tokens", "quorum_answer_tokens")
ERROR = "error"


class CsvSink:
    """The input's columns; value, confidence, status per attribute; weights, cost, calls, tokens; ``error``.

    With ``escaped`` (see :func:`quorum.safe_text.safe_cell`) no cell is a formula to a spreadsheet.
    """

    def __init__(
        self, file: TextIO, columns: Sequence[str], attributes: Sequence[str], *, escaped: bool = True
    ) -> None:
        self._escaped = escaped
        names = answer_columns(columns, attributes)
        self._csv = csv.DictWriter(file, names, extrasaction="ignore")
        self._write({name: name for name in names})

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""
        row = {name: _csv_cell(value) for name, value in listing.row.items()}
        if isinstance(result, Exception):
            row[ERROR] = str(result)
        else:
            for answer in result.answers:
                row[answer.attribute] = answer.value or ""
                row[f"{answer.attribute}_confidence"] = f"{answer.confidence:.4f}"
                row[f"{answer.attribute}_status"] = answer.status.name
            row[WEIGHTS] = result.weights_version
            if spent := result.spent:
                figures = (spent.cost, spent.calls, spent.prompt_tokens, spent.answer_tokens)
                row |= {name: _figure(found) for name, found in zip(SPENT, figures, strict=True)}
        self._write(row)

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._escaped:
            row = {name: safe_cell(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        self._csv.writerow(row)


class CsvAnswers:
    """Parts with a header each, joined under one."""

    def __init__(self, columns: Sequence[str], attributes: Sequence[str], *, escaped: bool) -> None:
        """Raises OutputError as :func:`answer_columns` does."""
        self._columns, self._attributes, self._escaped = columns, attributes, escaped
        header = io.StringIO(newline="")
        self._sink(header)
        self._header = header.getvalue().encode()

    def write(self, path: Path, outcomes: Sequence[Outcome], bad: Sequence[BadRow]) -> bool:
        """As :meth:`PartFormat.write`."""
        with path.open("w", encoding="utf-8", newline="") as file:
            sink = self._sink(file)
            for outcome in outcomes:
                sink.write(*outcome)
        return True

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """As :meth:`PartFormat.join`."""
        with path.open("wb") as whole:
            whole.write(self._header)
            for part in parts:
                with part.open("rb") as file:
                    file.seek(len(self._header))
                    shutil.copyfileobj(file, whole)

    def _sink(self, file: TextIO) -> CsvSink:
        return CsvSink(file, self._columns, self._attributes, escaped=self._escaped)


def answer_columns(columns: Sequence[str], attributes: Sequence[str]) -> list[str]:
    """The columns of answers in CSV and Parquet; raises OutputError if two of them have one name."""
    added = [f"{attribute}{ending}" for attribute in attributes for ending in _ENDINGS]
    added += [WEIGHTS, *SPENT, ERROR]
    twice = [name for name, count in Counter(added).items() if count > 1]
    if twice:
        raise OutputError(
            f"two columns of the output would be {twice[0]!r}: one is an attribute, one is added; write JSONL"
        )
    clash = sorted(set(columns).intersection(added))
    if clash:
        raise OutputError(f"the input has a column {clash[0]!r} already; rename it or write JSONL")
    return [*columns, *added]


def _figure(number: float | None) -> str:
    """A figure with six digits; empty where it is not known."""
    return "" if number is None else f"{number:.6g}" if number % 1 else f"{number:.0f}"


def _csv_cell(value: Any) -> Any:
    """Write objects and lists, such as gold, as JSON, which `read_listings` parses; times in them as text."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else value
