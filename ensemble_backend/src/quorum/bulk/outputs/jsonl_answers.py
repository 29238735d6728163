# SPDX-License-Identifier: Apache-2.0
"""Write answers as JSON Lines, with every vote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.listings import Listing
from quorum.bulk.outputs.outcome import Outcome
from quorum.bulk.outputs.votes_tables import origin_of
from quorum.votes.join import join_lines
from quorum.votes.schema import ORIGIN_COLUMNS
from quorum_client import Extraction, Spent

_ENCODER = json.JSONEncoder(ensure_ascii=False)


class JsonlSink:
    """One JSON object per listing: value, confidence, status and votes per attribute, or ``error``."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, listing: Listing, result: Extraction | Exception) -> None:
        """Write one row."""
        data = {"product": listing.product, "category": listing.category, "title": listing.text}
        found = {"error": str(result)} if isinstance(result, Exception) else extraction_json(result)
        self._file.write(_ENCODER.encode(data | found) + "\n")


class JsonlAnswers:
    """Parts and the whole are lines alike."""

    def write(self, path: Path, outcomes: Sequence[Outcome], bad: Sequence[BadRow]) -> bool:
        """As :meth:`PartFormat.write`."""
        with path.open("w", encoding="utf-8") as file:
            sink = JsonlSink(file)
            for outcome in outcomes:
                sink.write(*outcome)
        return True

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """As :meth:`PartFormat.join`."""
        join_lines(parts, path)


def extraction_json(result: Extraction) -> dict[str, Any]:
    """An extraction as plain data."""
    origin = origin_of(result)
    return {
        "attributes": {
            answer.attribute: {
                "value": answer.value,
                "confidence": round(answer.confidence, 4),
                "status": answer.status.name,
                "votes": {
                    v.member: {"value": v.value, "status": v.status.name, "score": _rounded(v.score)}
                    for v in answer.votes
                },
            }
            for answer in result.answers
        },
        **{name: value for name in ORIGIN_COLUMNS if (value := getattr(origin, name)) is not None},
        **usage_json(result),
    }


def usage_json(result: Extraction) -> dict[str, Any]:
    """Cost, calls and tokens of an answer as plain data, and of each member; empty where nothing is known."""
    spent = result.spent
    if spent is None:
        return {}
    return {**_spent_json(spent), "usage": {name: _spent_json(own) for name, own in result.usage.items()}}


def _spent_json(spent: Spent) -> dict[str, Any]:
    """The figures with six digits, whole ones without a point."""
    return {
        name: number if number is None or isinstance(number, int) else float(f"{number:.6g}")
        for name, number in spent._asdict().items()
    }


def _rounded(score: float | None) -> float | None:
    # Adding 0 makes -0.0 a plain 0.
    return None if score is None else round(score, 6) + 0.0
