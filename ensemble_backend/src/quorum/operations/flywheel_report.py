# SPDX-License-Identifier: Apache-2.0
"""What one turn of the loop changed, what it cost, and what its encoders could save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from quorum.evaluation.savings import Savings
from quorum.evaluation.stats import Estimate
from quorum.operations.evaluate_retrieval import RetrievalEvaluation
from quorum.records import Record

_TABLES = ("figures", "differences")


@dataclass(frozen=True, slots=True)
class FlywheelReport(Record):
    """What a turn changed, what it cost, and what its encoders could save.

    Attributes:
        out: Its folder, with ``judged.parquet``, ``student`` and ``version``.
        version: Of the retriever, published by this turn; None: the gate refused it.
        refused: Why.
        gate: Comparison with the running version; "" where there was none.
        pairs: Pairs of the day that were asked.
        judged: Those with a label.
        left_out: Why others have none -> pairs, or broken rows.
        requests: Asked of the ensemble for them, repetitions aside.
        members: Each of which answers every request.
        spent: Calls, tokens and cost of the answers to them, as :class:`quorum.JudgeReport` has them.
        learned: Pairs that the student learned from or was chosen by.
        replaced: Pairs of earlier days that the day judged again.
        changed: Pairs of earlier days that no longer count: their item has another text.
        held_out: Pairs that were judged and not learned: their keyphrases are held out.
        keyphrases: Of the index.
        evaluation: Figures on the held-out pairs, and differences.
        savings: "student" or "cross-encoder" -> what it could answer in place of the ensemble.
        seconds: Step -> wall time, without that of processes that were killed in it.
    """

    out: Path
    version: int | None
    refused: str
    gate: str
    pairs: int
    judged: int
    left_out: Mapping[str, int]
    requests: int
    members: int
    spent: Mapping[str, Any]
    learned: int
    replaced: int
    changed: int
    held_out: int
    keyphrases: int
    evaluation: RetrievalEvaluation
    savings: Mapping[str, Savings]
    seconds: Mapping[str, float]


def evaluation_of(stated: Mapping[str, Any]) -> RetrievalEvaluation:
    """An evaluation of its JSON values, where None is nan."""

    def row(figures: Mapping[str, Mapping[str, float | None]]) -> dict[str, Estimate]:
        return {
            name: Estimate(
                *(nan if f[end] is None else float(f[end] or 0) for end in ("value", "low", "high"))
            )
            for name, f in figures.items()
        }

    parts = {name: {method: row(own) for method, own in stated[name].items()} for name in _TABLES}
    return RetrievalEvaluation(**{**stated, **parts, "ceiling": row(stated.get("ceiling", {}))})
