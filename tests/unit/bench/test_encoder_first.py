# SPDX-License-Identifier: Apache-2.0
"""What is counted where an encoder is asked before LLMs, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from quorum_bench.studies.encoder_first import counted, line, saved, summary
from quorum_client import Answer, Extraction, Spent, Status, Vote

LLMS = ("one", "two")


def answer(value: str, encoder: str, *llms: str | None) -> Extraction:
    """An answer by the encoder and LLMs, None if not asked."""
    said = {"encoder": encoder, **dict(zip(LLMS, llms, strict=True))}
    votes = tuple(
        Vote(name, vote, Status.NOT_ASKED if vote is None else Status.ANSWERED) for name, vote in said.items()
    )
    usage = {name: Spent() if vote is None else Spent(1, 10, 2) for name, vote in said.items()}
    return Extraction("r", (Answer("color", value, 0.9, votes),), 3, 0.1, usage=usage)


def row(**changes: Any) -> dict[str, Any]:
    full = [answer("red", "red", "red", "blue"), answer("red", "blue", "red", "red")]
    lazy = [answer("red", "red", None, None), answer("blue", "blue", "red", None)]
    found = counted(full, lazy, [["red"], ["red", "rose"]], LLMS)
    return {"risk": 0.05, "is_supported": True, **found, **changes}


def test_calls_of_llms_and_right_cells_are_counted() -> None:
    found = row()
    assert found["llm_calls"] == {"full": 2.0, "lazy": 0.5}
    assert saved(found) == pytest.approx(0.75)
    assert (found["cells"], found["equal"], found["without_llm"]) == (2, 1, 1)
    assert found["right"] == {"full": 1.0, "lazy": 0.5, "encoder": 0.5}
    assert "1 of 2" in line(found)
    assert "75.0%" in line(found)


def test_a_risk_is_judged_by_what_differs() -> None:
    rows = [row(), row(risk=0.0), row(risk=0.0, equal=2), row(equal=100, cells=100, is_supported=False)]
    broken, other, equal, kept = summary(rows).splitlines()
    assert "50.00 % of 2 values differ: MISSED" in broken
    assert "1 of 2 values differ: MISSED" in other
    assert "0 of 2 values differ: met; 75.0 % of the LLM calls saved" in equal
    assert "0.00 % of 100 values differ: kept (so few by chance at that risk: 0.0059" in kept
    assert "do not support this risk" in kept
