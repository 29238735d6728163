# SPDX-License-Identifier: Apache-2.0
"""Hold recorded answers of large LLMs that were not tuned against a small encoder that was, on AE-110K."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from quorum.votes import VotesTable, read_votes
from quorum_bench.studies.tasks.asked import answers_of, encoder_votes, tuned_encoder
from quorum_bench.studies.tasks.figures import (
    ACCURACY,
    Answers,
    attribute_lines,
    by_attribute,
    each_seed,
    estimate,
    percent,
    points,
)
from quorum_bench.studies.tasks.inputs import Inputs, Row
from quorum_bench.studies.tasks.sources import VALUES, recorded_rows

ENCODER = "encoder"
HEAD = f"{'member':34}{'accuracy, %':>22}{'encoder to it':>22}{'CPU s':>8}  seeds"


def rows(inputs: Inputs) -> Iterator[Row]:
    """Yield a row per recorded LLM, after that of the encoder."""
    table, judged = read_votes(inputs.votes), recorded_rows(inputs.votes)
    made = [
        tuned_encoder(inputs, "ae-110k", inputs.effort.products, seed) for seed in range(inputs.effort.seeds)
    ]
    seeds: list[Answers] = [answers_of(encoder_votes(one.folder, VALUES, judged)) for one in made]
    yield {
        "who": ENCODER,
        "accuracy": estimate(ACCURACY, judged, seeds),
        "seeds": each_seed(ACCURACY, judged, seeds),
        "made": [one.to_json() for one in made],
    }
    for name, answers in columns(table).items():
        yield {
            "who": name,
            "accuracy": estimate(ACCURACY, judged, [answers]),
            "encoder_to_it": estimate(ACCURACY, judged, seeds, [answers]),
        }
    shown = {ENCODER: seeds} | {name: [answers] for name, answers in columns(table).items()}
    yield {"who": "by attribute", "attributes": by_attribute(judged, shown)}


def columns(table: VotesTable) -> Mapping[str, Sequence[str | None]]:
    """The answers of each member to the labelled cells of a table."""
    labelled = [cell for cell in table.cells if cell.gold]
    return {member: [cell.values[place] for cell in labelled] for place, member in enumerate(table.members)}


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    if "attributes" in row:
        return attribute_lines(row["attributes"])
    away = points(row["encoder_to_it"]) if "encoder_to_it" in row else ""
    spent = max((one["cpu_s"] for one in row.get("made", [])), default=None)
    seeds = " ".join(f"{100 * value:.1f}" for value in row.get("seeds", []))
    cpu = "" if spent is None else f"{spent:.0f}"
    return f"{row['who']:34}{percent(row['accuracy']):>22}{away:>22}{cpu:>8}  {seeds}"
