# SPDX-License-Identifier: Apache-2.0
"""Vote on spans, labels and texts: people, recorded systems, and members that were tuned here.

Learned weights are cross-validated over products (:func:`quorum.evaluation.evaluate.evaluate`); the best
member is the best in hindsight, which favours it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from quorum.decision.answer_kinds import AnswerKinds
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.stats import means_over_products
from quorum.evaluation.task_scores import measures
from quorum.tune.data import TrainingRow
from quorum.votes import Cell, VotesTable, build_table
from quorum_bench.studies.task_tables import KINDS, queryner_votes, relevance_votes, summaries_votes
from quorum_bench.studies.tasks.asked import answers_of, encoder_votes, tuned_encoder
from quorum_bench.studies.tasks.ensemble import only
from quorum_bench.studies.tasks.figures import cell_of, percent, points
from quorum_bench.studies.tasks.inputs import Inputs, Row
from quorum_bench.studies.tasks.llms import adapter, answered
from quorum_bench.studies.tasks.sources import CATALOGUE, ENTITIES, RELEVANCE, rows_to_judge

TUNED: AnswerKinds = {ENTITIES: "spans", RELEVANCE: "label"}
Columns = Mapping[str, Sequence[str | None]]
"""Answers by member."""
HEAD = f"{'votes':32}{'who':30}{'role':15}{'figure, %':>28}{'to the best member':>22}{'cells':>7}"


def rows(inputs: Inputs) -> Iterator[Row]:
    """Yield a row per table of votes and member or rule."""
    tasks = inputs.data / "tasks"
    yield from judged("queryner, three annotators", queryner_votes(tasks / "queryner/test.jsonl.gz"), KINDS)
    yield from judged("relevance, three raters", relevance_votes(tasks / "relevance/test.jsonl.gz"), KINDS)
    summaries = summaries_votes([tasks / f"review-summaries/{part}.jsonl.gz" for part in ("dev", "test")])
    yield from judged("review summaries, 2 systems", only(summaries, summaries.members[:2]), KINDS)
    yield from judged("review summaries, and 8 reviews", summaries, KINDS)
    yield random_review(summaries)
    for name, counts in (("queryner", inputs.effort.queryner), ("relevance", inputs.effort.relevance)):
        members = encoders(inputs, name, counts)
        rows_of = rows_to_judge(inputs, name)
        yield from judged(f"{name}, encoders", voted(rows_of, members), TUNED, tuple(members))
        if not inputs.effort.adapter:
            continue
        count = inputs.effort.adapter[-1]
        asked = rows_to_judge(inputs, name, inputs.effort.asked)
        llm = adapter(inputs, [name], count)
        answers = answered(inputs, llm.folder.name, llm.folder, asked, guided=True).answers
        table = voted(asked, {f"LLM {count}": answers, **_of_rows(rows_of, members, asked)})
        yield from judged(f"{name}, LLM and encoders", table, TUNED, tuple(members))


def encoders(inputs: Inputs, name: str, counts: Sequence[int | None]) -> Columns:
    """Answers to all test rows: of the first seed's encoders by number of rows, of others' with most rows."""
    judged_rows = rows_to_judge(inputs, name)
    return {
        f"encoder {count or 'all'} seed {seed}": answers_of(
            encoder_votes(tuned_encoder(inputs, name, count, seed).folder, CATALOGUE, judged_rows)
        )
        for at, count in enumerate(reversed(counts))
        for seed in range(1 if at else inputs.effort.seeds)
    }


def _of_rows(
    all_rows: Sequence[TrainingRow], columns: Columns, asked: Sequence[TrainingRow]
) -> dict[str, list[str | None]]:
    """The answers to some of the rows."""
    places = {row.product: place for place, row in enumerate(all_rows)}
    return {name: [column[places[row.product]] for row in asked] for name, column in columns.items()}


def voted(judged_rows: Sequence[TrainingRow], columns: Columns) -> VotesTable:
    """A votes table of columns of answers."""
    cells = [
        cell_of(row, [column[place] for column in columns.values()]) for place, row in enumerate(judged_rows)
    ]
    return build_table(tuple(columns), cells)


def judged(votes: str, table: VotesTable, kinds: AnswerKinds, encoders: Sequence[str] = ()) -> Iterator[Row]:
    """A row per member and rule, by the measure of the kind; the rows of reviews as members are left out."""
    evaluation = evaluate(table, kinds=kinds, encoders=encoders)
    for found in evaluation.tasks.values():
        for row in found.rows:
            if row.role == "member" and row.name.startswith("review"):
                continue
            yield {
                "votes": votes,
                "who": row.name,
                "role": row.role,
                "headline": found.headline,
                "figures": dict(row.figures),
                "to_best": row.to_best_member,
                "cells": found.cells,
            }


def random_review(table: VotesTable) -> Row:
    """A review drawn at random as the summary: the mean over the reviews of each product."""
    cells, reviews = table.cells, [at for at, name in enumerate(table.members) if name.startswith("review")]
    figures = {}
    for headline in ("rouge_1", "rouge_l"):
        by_review = [_each(headline, cells, [cell.values[at] for cell in cells]) for at in reviews]
        figures[headline] = means_over_products(np.mean(by_review, axis=0)[:, None], table.products)[0]
    return {
        "votes": "review summaries, and 8 reviews",
        "who": "a random review",
        "role": "random",
        "headline": "rouge_l",
        "figures": {"rouge_l": figures["rouge_l"], "rouge_1": figures["rouge_1"]},
        "to_best": None,
        "cells": len(cells),
    }


def _each(name: str, cells: Sequence[Cell], answers: Sequence[str | None]) -> list[float]:
    """The figure of each cell alone."""
    return [
        float(measures("text", [cell], [answer])[name].value)
        for cell, answer in zip(cells, answers, strict=True)
    ]


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    own = row["figures"][row["headline"]]
    away = points(row["to_best"]) if row["to_best"] else ""
    figure = f"{row['headline']} {percent(own)}"
    return f"{row['votes']:32}{row['who'][:29]:30}{row['role']:15}{figure:>28}{away:>22}{row['cells']:7}"
