# SPDX-License-Identifier: Apache-2.0
"""Tune an encoder on the ensemble's own confident answers, without gold, and one on gold; AE-110K.

The cells without gold are of the products that are judged by, but of other attributes, mostly ones that a
product lacks: nearly all of their answers are "n/a". So answers are also taken with as few "n/a" as values,
and, in two halves of the products, from all cells, those with gold included, whose gold stays hidden.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from quorum.tune.confident import read_confident
from quorum.tune.data import ALL, TrainingData, TrainingRow
from quorum_bench.studies.tasks.asked import answers_of, encoder_votes, tuned_encoder, tuned_on
from quorum_bench.studies.tasks.figures import ACCURACY, Answers, each_seed, estimate, percent, points
from quorum_bench.studies.tasks.inputs import Inputs, Row
from quorum_bench.studies.tasks.made import Made
from quorum_bench.studies.tasks.sources import VALUES, recorded_rows
from quorum_contract import NOT_APPLICABLE

CONFIDENCE = 0.9
FOLDS = 2
"""Parts of the products; an encoder is tuned on the answers of one, and judged on the gold of the other."""
HEAD = (
    f"{'encoder tuned on':44}{'rows':>6}{'n/a, %':>8}{'accuracy, %':>22}{'to gold':>22}{'says n/a, %':>13}"
    f"{'CPU s':>8}"
)


def rows(inputs: Inputs) -> Iterator[Row]:
    """Yield a row for gold, and one for each set of the ensemble's answers."""
    judged = recorded_rows(inputs.votes)
    seeds = range(inputs.effort.seeds)
    gold = [tuned_encoder(inputs, "ae-110k", inputs.effort.products, seed) for seed in seeds]
    by_gold: list[Answers] = [answers_of(encoder_votes(one.folder, VALUES, judged)) for one in gold]
    yield _row("gold of other products", by_gold, gold) | {
        "accuracy": estimate(ACCURACY, judged, by_gold),
        "seeds": each_seed(ACCURACY, judged, by_gold),
    }
    size = None if inputs.effort.products is None else 3 * inputs.effort.products
    answered = read_confident(inputs.unlabelled, [ALL], VALUES, CONFIDENCE, rows=size)
    for name, data in (
        ("confident answers, cells without gold", answered),
        ("the same, as many n/a as values", thinned(answered, 1.0)),
    ):
        made = tuned_on(inputs, "self-taught", "ae-110k", data, inputs.unlabelled, 0)
        answers = [answers_of(encoder_votes(made.folder, VALUES, judged))]
        yield _compared(name, judged, answers, by_gold, [made], data.rows)
    yield _crossed(inputs, judged, by_gold, answered)


def _crossed(
    inputs: Inputs, judged: Sequence[TrainingRow], by_gold: Sequence[Answers], answered: TrainingData
) -> Row:
    """Encoders tuned on confident answers to all cells of other products; gold stays hidden."""
    more = read_confident(inputs.votes, [ALL], VALUES, CONFIDENCE)
    values = [*more.rows, *answered.rows]
    products = sorted({row.product for row in judged})
    order = np.random.default_rng(0).permutation(len(products))
    part_of = {products[at]: place % FOLDS for place, at in enumerate(order)}
    answers: list[str | None] = [None] * len(judged)
    made, learned = [], list[TrainingRow]()
    for part in range(FOLDS):
        own = tuple(row for row in values if part_of.get(row.product, part) != part)
        data = thinned(replace(more, rows=own, tasks=tuple(dict.fromkeys(r.attribute for r in own))), 1.0)
        made.append(tuned_on(inputs, f"self-taught-fold{part}", "ae-110k", data, inputs.votes, 0))
        learned += data.rows
        test = [place for place, row in enumerate(judged) if part_of[row.product] == part]
        found = answers_of(encoder_votes(made[-1].folder, VALUES, [judged[place] for place in test]))
        for place, answer in zip(test, found, strict=True):
            answers[place] = answer
    name = "confident answers, all cells of other products"
    return _compared(name, judged, [answers], by_gold, made, learned) | {"rows": len(learned) // FOLDS}


def thinned(data: TrainingData, share: float, seed: int = 0) -> TrainingData:
    """The data with at most ``share`` times as many "n/a" as values, drawn with the seed."""
    blank = [place for place, row in enumerate(data.rows) if row.answers[0] == NOT_APPLICABLE]
    most = round(share * (len(data.rows) - len(blank)))
    left = set(random.Random(seed).sample(blank, max(len(blank) - most, 0)))
    rows = tuple(row for place, row in enumerate(data.rows) if place not in left)
    tasks = tuple(task for task in data.tasks if any(row.attribute == task for row in rows))
    return replace(data, rows=rows, tasks=tasks, left_out=data.left_out + len(left))


def _compared(
    name: str,
    judged: Sequence[TrainingRow],
    answers: Sequence[Answers],
    by_gold: Sequence[Answers],
    made: Sequence[Made],
    learned: Sequence[TrainingRow],
) -> Row:
    blank = sum(row.answers[0] == NOT_APPLICABLE for row in learned) / len(learned)
    return _row(name, answers, made) | {
        "accuracy": estimate(ACCURACY, judged, answers),
        "to_gold": estimate(ACCURACY, judged, answers, by_gold),
        "blank_share": 100 * blank,
    }


def _row(name: str, answers: Sequence[Answers], made: Sequence[Made]) -> Row:
    said = [answer == NOT_APPLICABLE for each in answers for answer in each]
    return {
        "tuned_on": name,
        "rows": made[0].card.rows + made[0].card.held_out_rows,
        "answers_blank": 100 * sum(said) / len(said),
        "made": [one.to_json() for one in made],
    }


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    away = points(row["to_gold"]) if "to_gold" in row else ""
    blank = f"{row['blank_share']:.0f}" if "blank_share" in row else ""
    spent = max(one["cpu_s"] for one in row["made"])
    return (
        f"{row['tuned_on']:44}{row['rows']:6}{blank:>8}{percent(row['accuracy']):>22}{away:>22}"
        f"{row['answers_blank']:13.1f}{spent:8.0f}"
    )
