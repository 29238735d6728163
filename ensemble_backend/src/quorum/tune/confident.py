# SPDX-License-Identifier: Apache-2.0
"""Take the ensemble's own confident answers as rows to train on, from a table of votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from quorum.decision import weights as weights_file
from quorum.decision.cell import ANSWERED, Ballot
from quorum.decision.evidence import Evidence
from quorum.decision.forms import decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import Weights
from quorum.files import hash_file
from quorum.learning.by_kind import learn
from quorum.tasks.catalogue import Catalogue
from quorum.tune.data import (
    ALL,
    Problems,
    TrainingData,
    TrainingDataError,
    TrainingRow,
    checked,
    draw,
)
from quorum.votes import VotesTable, read_votes
from quorum_contract import DecisionStatus

MIN_CONFIDENCE = 0.9
_ABSTAINED: Ballot = ("", ANSWERED + 1)


def read_confident(
    path: Path,
    tasks: Sequence[str],
    catalogue: Catalogue,
    min_confidence: float = MIN_CONFIDENCE,
    weights: Path | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> TrainingData:
    """Decide a table of votes, and keep the answers with enough confidence.

    Gold of the table is not used, neither for the answers nor for weights that are learned here.

    Args:
        path: A votes table (JSONL, Parquet or Arrow), with titles.
        tasks: Attributes; :data:`quorum.tune.data.ALL` for every one of the table.
        catalogue: Of the deployment.
        min_confidence: From 0 to 1.
        weights: Weights that decide; None: learned from the agreement of these votes.
        rows: Train on this many of the answers, drawn with ``seed``; None: on all.
        seed: Of that draw.

    Raises:
        VotesError: The table cannot be read, or is of other members than the weights.
        WeightsError: The weights cannot be read.
        TrainingDataError: The table has no cell of a task, or none that is decided with that confidence; or
            answers that the catalogue does not allow.
    """
    if not 0.0 <= min_confidence <= 1.0:
        raise TrainingDataError(f"--min-confidence {min_confidence:g}; give a number from 0 to 1")
    table = read_votes(path)
    if weights is not None:
        used = weights_file.load(weights)
        table = table.of_members(used.members)
        used = used.fitted(catalogue.hashes)
    else:
        used = learn(
            table,
            kinds=catalogue.answer_kinds(),
            gold_labels=0,
            catalogue=catalogue.hashes,
            value_counts=catalogue.value_counts(),
        )
    have = dict.fromkeys(cell.attribute for cell in table.cells)
    wanted = tuple(have) if tuple(tasks) == (ALL,) else tuple(dict.fromkeys(tasks))
    for task in wanted:
        if task not in have:
            raise TrainingDataError(f"{path}: no cell of {task!r}, only of {', '.join(list(have)[:10])}")
    problems = Problems(path, "name the deployment that gave these votes, or leave these rows out")
    found, why = _decided(table, used, wanted, catalogue, min_confidence, problems)
    problems.refuse()
    left_out = sum(why.values())
    if not found:
        reasons = ", ".join(f"{number} {reason}" for reason, number in why.items())
        raise TrainingDataError(
            f"{path}: none of {left_out} cells of {', '.join(wanted)} can be trained on: {reasons}; lower"
            " --min-confidence, or give more votes"
        )
    chosen = tuple(draw(path, found, rows, seed))
    return TrainingData(chosen, wanted, "votes", hash_file(path), left_out, why)


def _decided(
    table: VotesTable,
    weights: Weights,
    tasks: Sequence[str],
    catalogue: Catalogue,
    min_confidence: float,
    problems: Problems,
) -> tuple[list[TrainingRow], dict[str, int]]:
    """Rows of the cells that are confident and have a text, and why how many others are left out."""
    evidence = Evidence(weights.evidence) if weights.evidence else None
    rule, wanted = QuorumRule(), set(tasks)
    rows: list[TrainingRow] = []
    left_out = Counter[str]()
    for number, cell in enumerate(table.cells, 1):
        if cell.attribute not in wanted:
            continue
        ballots = [_ABSTAINED if value is None else (value, ANSWERED) for value in cell.values]
        value, confidence, status = decide(
            rule,
            weights.parameters(cell.attribute, cell.category),
            ballots,
            cell.scores,
            evidence.of(cell.title) if evidence else None,
            catalogue.get(cell.attribute).form,
            cell.title,
        )
        if not cell.title.strip():
            left_out["without a title"] += 1
        elif status != DecisionStatus.DECIDED:
            left_out["without an answer"] += 1
        elif confidence < min_confidence:
            left_out[f"below the confidence {min_confidence:g}"] += 1
        else:
            row = TrainingRow(number, cell.product, cell.title, cell.category, cell.attribute, (value,))
            rows += checked(row, catalogue.get(cell.attribute), problems)
    return rows, dict(left_out)
