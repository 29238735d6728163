# SPDX-License-Identifier: Apache-2.0
"""Write answers as Parquet, in columns with types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.outputs.csv_answers import ERROR, SPENT, WEIGHTS, answer_columns
from quorum.bulk.outputs.outcome import Outcome
from quorum.votes.join import join_columns
from quorum.votes.read import check_pyarrow
from quorum_client import Extraction

if TYPE_CHECKING:
    import pyarrow as pa


class ParquetAnswers:
    """The columns of CSV, with types.

    The input's columns are text: what is not text there is written as JSON, missing values as null. Of an
    attribute: value (text; null: none was decided), confidence (float64) and status (text). Then
    ``weights_version`` (int64), ``quorum_cost`` (float64), ``quorum_calls``, ``quorum_prompt_tokens`` and
    ``quorum_answer_tokens`` (int64), ``error`` (text). What is not known, or was not answered, is null.
    """

    def __init__(self, columns: Sequence[str], attributes: Sequence[str]) -> None:
        """Raises OutputError as :func:`answer_columns` does; VotesError without pyarrow."""
        answer_columns(columns, attributes)
        check_pyarrow(Path("answers.parquet"))
        self._columns, self._attributes = tuple(columns), tuple(attributes)

    def write(self, path: Path, outcomes: Sequence[Outcome], bad: Sequence[BadRow]) -> bool:
        """As :meth:`PartFormat.write`."""
        import pyarrow.parquet as pq

        pq.write_table(self._table(outcomes), path)
        return True

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """As :meth:`PartFormat.join`."""
        import pyarrow.parquet as pq

        if parts:
            join_columns(parts, path)
        else:
            pq.write_table(self._table([]), path)

    def _table(self, outcomes: Sequence[Outcome]) -> pa.Table:
        import pyarrow as pa

        rows = [outcome.listing.row for outcome in outcomes]
        results = [outcome.result for outcome in outcomes]
        answers = [None if isinstance(result, Exception) else result for result in results]
        columns: dict[str, Any] = {
            name: pa.array([_text(row.get(name)) for row in rows], pa.string()) for name in self._columns
        }
        for name in self._attributes:
            cells = [found[name] if found is not None and name in found else None for found in answers]
            columns[name] = pa.array([cell and cell.value for cell in cells], pa.string())
            columns[f"{name}_confidence"] = pa.array(
                [cell and cell.confidence for cell in cells], pa.float64()
            )
            columns[f"{name}_status"] = pa.array([cell and cell.status.name for cell in cells], pa.string())
        columns[WEIGHTS] = pa.array(
            [None if found is None else found.weights_version for found in answers], pa.int64()
        )
        figures = [_figures(found) for found in answers]
        for place, name in enumerate(SPENT):
            kind = pa.int64() if place else pa.float64()
            columns[name] = pa.array([row[place] for row in figures], kind)
        columns[ERROR] = pa.array(
            [str(result) if isinstance(result, Exception) else None for result in results], pa.string()
        )
        return pa.table(columns)


def _figures(answer: Extraction | None) -> tuple[float | None, int | None, int | None, int | None]:
    spent = None if answer is None else answer.spent
    if spent is None:
        return (None, None, None, None)
    calls, prompt, generated = (
        None if figure is None else round(figure)
        for figure in (spent.calls, spent.prompt_tokens, spent.answer_tokens)
    )
    return (spent.cost, calls, prompt, generated)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
