# SPDX-License-Identifier: Apache-2.0
"""Make votes tables of public data in which people, or recorded systems, are the members."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.spans import TextSpan, dump_spans
from quorum.votes import Cell, VotesTable, build_table
from quorum_contract.fields import join_fields

QUERYNER, RELEVANCE, SUMMARIES = "query_entities", "relevance", "summary"
"""Attributes of the tables."""
KINDS: AnswerKinds = {QUERYNER: "spans", RELEVANCE: "label", SUMMARIES: "text"}
GRADES = ("irrelevant", "substitute", "close", "exact")
"""Names of the grades 0 to 3 of relevance."""
SYSTEMS = ("copycat", "fewsum")


def queryner_votes(path: Path) -> VotesTable:
    """QueryNER's test rows: three annotators as members, spans as answers."""
    cells = []
    for row in _rows(path):
        text, answers = " ".join(row["tokens"]), [row["labels"], *row["annotators"]]
        gold, *votes = (dump_spans(text, spans_of(row["tokens"], labels)) for labels in answers)
        cells.append(Cell(str(row["id"]), "", text, QUERYNER, tuple(votes), (gold,)))
    return build_table(_numbered("annotator", len(cells[0].values)), cells)


def relevance_votes(path: Path) -> VotesTable:
    """Relevance of a product to a query: three raters as members, grades as labels.

    A pair of query and product counts as a product, so intervals take the pairs of a query as independent.
    """
    cells = []
    for row in _rows(path):
        text = join_fields({"query": row["query"], "title": row["title"]})
        product, votes = f"{row['query']}: {row['product_id']}", [GRADES[grade] for grade in row["ratings"]]
        cells.append(Cell(product, "", text, RELEVANCE, tuple(votes), (GRADES[row["label"]],)))
    return build_table(_numbered("rater", 3), cells)


def summaries_votes(paths: Sequence[Path], reviews: int = 8) -> VotesTable:
    """Summaries of a product's reviews: two systems, and reviews themselves, as members; texts as answers.

    Args:
        paths: Files with recorded outputs of both systems.
        reviews: How many of the eight reviews are members.
    """
    cells = []
    for row in (row for path in paths for row in _rows(path)):
        votes = (*(row["systems"][name] for name in SYSTEMS), *row["reviews"][:reviews])
        gold = tuple(dict.fromkeys(row["summaries"]))
        cells.append(Cell(row["product_id"], "", "\n".join(row["reviews"]), SUMMARIES, votes, gold))
    return build_table((*SYSTEMS, *_numbered("review", reviews)), cells)


def spans_of(tokens: Sequence[str], labels: Sequence[str]) -> list[TextSpan]:
    """Spans of tokens joined by spaces, from BIO labels; an "I-" that continues nothing begins a span."""
    spans: list[TextSpan] = []
    start = 0
    before = "O"
    for token, label in zip(tokens, labels, strict=True):
        end = start + len(token)
        kind = label[2:]
        if label != "O" and label.startswith("I-") and before[2:] == kind:
            spans[-1] = spans[-1]._replace(end=end)
        elif label != "O":
            spans.append(TextSpan(start, end, kind))
        start, before = end + 1, label
    return spans


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(1, count + 1))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)
