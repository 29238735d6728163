# SPDX-License-Identifier: Apache-2.0
"""Tune encoders and an LLM on more and more rows, and compare the LLM that only sees worked examples.

QueryNER by strict span F1, intervals over queries. Relevance, which stands in for ESCI, by macro-F1; there
products of one query belong together, so queries are drawn, 35 of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from quorum.tune.causal import CausalOptions
from quorum.tune.data import TrainingRow
from quorum_bench.studies.task_tables import GRADES as RATED
from quorum_bench.studies.task_tables import relevance_votes
from quorum_bench.studies.tasks.asked import answers_of, encoder_votes, tuned_encoder
from quorum_bench.studies.tasks.figures import (
    LABEL_ACCURACY,
    MACRO_F1,
    SPAN_F1,
    WHOLE_ANSWERS,
    Answers,
    Figure,
    each_seed,
    estimate,
    percent,
)
from quorum_bench.studies.tasks.inputs import Inputs, Row
from quorum_bench.studies.tasks.llms import TUNING, adapter, answered, shots
from quorum_bench.studies.tasks.sources import CATALOGUE, GRADES, RELEVANCE, rows_to_judge
from quorum_contract.fields import split_fields

ENCODER, ADAPTER, EXAMPLES = "encoder", "LLM, LoRA", "LLM, examples only"
FEW_SHOT = CausalOptions(style="instruct")
FIGURES: Mapping[str, tuple[Figure, Figure]] = {
    "queryner": (SPAN_F1, WHOLE_ANSWERS),
    "relevance": (MACRO_F1, LABEL_ACCURACY),
    "esci": (MACRO_F1, LABEL_ACCURACY),
}
"""Task -> the figure that counts, and the share of whole answers that are right."""
NAMES = {SPAN_F1: "strict span F1", MACRO_F1: "macro-F1"}
HEAD = (
    f"{'task':26}{'who':20}{'rows':>6}{'figure, %':>22}{'accuracy, %':>20}"
    f"{'parsed, %':>10}{'asked':>6}{'CPU s':>7}  seeds"
)


def rows(inputs: Inputs) -> Iterator[Row]:
    """Yield a row per task, kind of member and number of rows."""
    for name in FIGURES:
        if name == "esci" and inputs.esci is None:
            continue
        judged = rows_to_judge(inputs, name)
        if name == "relevance":
            yield from raters(inputs, judged)
        for count in getattr(inputs.effort, name):
            made = [tuned_encoder(inputs, name, count, seed) for seed in range(inputs.effort.seeds)]
            seeds: list[Answers] = [answers_of(encoder_votes(one.folder, CATALOGUE, judged)) for one in made]
            trained = made[0].card.rows + made[0].card.held_out_rows
            yield figures(name, ENCODER, trained, judged, seeds) | {"made": [one.to_json() for one in made]}
        if inputs.effort.adapter:
            yield from llm_rows(inputs, name)


def llm_rows(inputs: Inputs, name: str) -> Iterator[Row]:
    """Rows of the LLM: with worked examples only, then tuned; guided by the grammar."""
    judged = rows_to_judge(inputs, name, inputs.effort.asked)
    few = answered(
        inputs, "examples", None, judged, guided=True, catalogue=shots(inputs, name), options=FEW_SHOT
    )
    yield figures(name, EXAMPLES, 0, judged, [few.answers]) | {"parse_share": few.parse_share}
    for count in inputs.effort.adapter:
        made = adapter(inputs, [name], count)
        found = answered(inputs, made.folder.name, made.folder, judged, guided=True, options=TUNING)
        yield figures(name, ADAPTER, count, judged, [found.answers]) | {
            "parse_share": found.parse_share,
            "made": [made.to_json()],
        }


def raters(inputs: Inputs, judged: Sequence[TrainingRow]) -> Iterator[Row]:
    """A row per person who rated the test pairs."""
    table = relevance_votes(inputs.data / "tasks/relevance/test.jsonl.gz")
    names = dict(zip(RATED, GRADES, strict=True))
    for place, rater in enumerate(table.members):
        answers = [names[str(cell.values[place])] for cell in table.cells]
        yield figures("relevance", rater, 0, judged, [answers])


def figures(name: str, who: str, count: int, judged: Sequence[TrainingRow], seeds: Sequence[Answers]) -> Row:
    """Figures of the seeds of a member."""
    groups = [group_of(row) for row in judged]
    measure, whole = FIGURES[name]
    return {
        "task": name,
        "who": who,
        "rows": count,
        "measure": NAMES[measure],
        "figure": estimate(measure, judged, seeds, groups=groups),
        "accuracy": estimate(whole, judged, seeds, groups=groups),
        "asked": len(judged),
        "seeds": each_seed(measure, judged, seeds),
    }


def group_of(row: TrainingRow) -> str:
    """What is drawn for intervals: the query of a pair, else the product."""
    return split_fields(row.text)["query"] if row.attribute == RELEVANCE else row.product


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    spent = [one["cpu_s"] for one in row.get("made", [])]
    cpu = f"{sum(spent) / len(spent):.0f}" if spent else ""
    parsed = f"{100 * row['parse_share']:.1f}" if "parse_share" in row else ""
    seeds = " ".join(f"{100 * value:.1f}" for value in row["seeds"]) if len(row["seeds"]) > 1 else ""
    task = f"{row['task']}, {row['measure']}"
    return (
        f"{task:26}{row['who']:20}{row['rows'] or '':>6}{percent(row['figure']):>22}"
        f"{percent(row['accuracy']):>20}{parsed:>10}{row['asked']:>6}{cpu:>7}  {seeds}".rstrip()
    )
