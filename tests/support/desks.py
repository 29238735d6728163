# SPDX-License-Identifier: Apache-2.0
"""A desk of reviewers without a browser, and entries of its journal."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from quorum.review.page.desk import Desk, ReviewOptions
from quorum.review.page.journal import Entry
from quorum.tasks.catalogue import Catalogue

CLOCK = count(1_000)


def entry(verdict: str, product: str = "", *gold: str, by: str = "ann", mode: Any = "review") -> Entry:
    attribute = "color" if product else ""
    return Entry(float(next(CLOCK)), by, mode, verdict, product, attribute, gold)  # type: ignore[arg-type]


def key(product: str) -> tuple[str, str]:
    return product, "color"


def desk(votes: Path, *reviewers: str, catalogue: Catalogue | None = None, **options: Any) -> Desk:
    ticks = count(2_000, 3)
    return Desk(
        votes,
        votes.with_name("labels.jsonl"),
        ReviewOptions(reviewers=reviewers or ("ann",), **options),
        catalogue,
        lambda: float(next(ticks)),
    )


def shown(state: dict[str, Any]) -> tuple[str, str]:
    return state["card"]["product"], state["card"]["attribute"]


def answer(at: Desk, state: dict[str, Any], **how: str) -> dict[str, Any]:
    return at.decide(state["reviewer"], state["mode"], shown(state), "answer", **how)
