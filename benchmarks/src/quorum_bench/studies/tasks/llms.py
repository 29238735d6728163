# SPDX-License-Identifier: Apache-2.0
"""Tune adapters of a small LLM, and ask it about rows: with an adapter, or with worked examples only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from quorum.tasks.attribute import Example
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import kind_of
from quorum.tune.asking import ask, asked_of
from quorum.tune.causal import CausalOptions, hf_settings
from quorum.tune.data import TrainingData, TrainingRow, joined, read_gold
from quorum_bench.studies.tasks.asked import answers_of
from quorum_bench.studies.tasks.inputs import Inputs
from quorum_bench.studies.tasks.made import Made
from quorum_bench.studies.tasks.sources import CATALOGUE, listings, task_of

TUNING = CausalOptions(epochs=1, chat=False, score_rows=4)
"""A pass over the rows; few are asked about in the end, as the study asks itself."""
_LONGEST = 96
"""Tokens of the longest answer; twice as many are allowed."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers of an LLM to rows.

    Attributes:
        answers: One per row; None: it could not be read.
    """

    answers: list[str | None]

    @property
    def parse_share(self) -> float:
        """Share of the answers that could be read, in [0, 1]."""
        return sum(answer is not None for answer in self.answers) / len(self.answers)


def rows_to_learn(inputs: Inputs, names: Sequence[str], rows: int) -> tuple[Path, TrainingData]:
    """So many rows in all, of one or several sources in equal parts, and the file of the first."""
    paths = [listings(inputs, name, "train") for name in names]
    each = rows // len(names)
    parts = [
        read_gold(path, [task_of(name)], CATALOGUE, each, 0) for path, name in zip(paths, names, strict=True)
    ]
    return paths[0], joined(parts) if len(parts) > 1 else parts[0]


def adapter(inputs: Inputs, names: Sequence[str], rows: int) -> Made:
    """An adapter tuned on so many rows of one or several sources."""
    path, data = rows_to_learn(inputs, names, rows)
    label = f"{'+'.join(names)}-{rows}-adapter"
    return inputs.cache.adapter(label, inputs.llm, data, path, CATALOGUE, TUNING)


def answered(
    inputs: Inputs,
    label: str,
    folder: Path | None,
    rows: Sequence[TrainingRow],
    *,
    guided: bool,
    catalogue: Catalogue = CATALOGUE,
    options: CausalOptions = TUNING,
) -> Answered:
    """The answers of the LLM, kept from before if they are there.

    Args:
        inputs: Where everything is.
        label: For people.
        folder: Of an adapter; None: the LLM alone.
        rows: Asked about, of one attribute.
        guided: By the grammar of the answer.
        catalogue: Of the question.
        options: Style and chat template.
    """
    style = {"style": options.style, "chat": options.chat}
    asked_about = [[row.text, row.attribute] for row in rows]
    parts = [folder and folder.name, catalogue.to_json(), style, guided, asked_about]

    def compute() -> list[str | None]:
        settings = hf_settings(inputs.llm, folder, catalogue, options, _LONGEST)
        given = msgspec.structs.replace(settings.options, guided=guided, scores=False)
        found = ask(replace(settings, options=given), asked_of(rows, [rows[0].attribute]))
        return answers_of([votes[0] for votes in found])

    way = "guided" if guided else "free"
    return Answered(inputs.cache.kept(f"asked-{label}-{rows[0].attribute}-{way}", parts, compute))


def with_examples(catalogue: Catalogue, rows: Sequence[TrainingRow]) -> Catalogue:
    """The catalogue with rows as worked examples in the prompts of their attributes."""
    attributes = []
    for attribute in catalogue.attributes.values():
        own = [row for row in rows if row.attribute == attribute.name]
        examples = tuple(Example(row.text, as_json(row)) for row in own)
        attributes.append(replace(attribute, examples=examples))
    return Catalogue.of(attributes, catalogue.default_normaliser)


def as_json(row: TrainingRow) -> Any:
    """The gold of a row as an LLM writes it."""
    return kind_of(CATALOGUE.get(row.attribute)).raw(row.answers[0])


def shots(inputs: Inputs, name: str) -> Catalogue:
    """The catalogue with worked examples: rows to learn, as many as the effort says, drawn with seed 0."""
    _, data = rows_to_learn(inputs, [name], inputs.effort.shots)
    return with_examples(CATALOGUE, data.rows)
