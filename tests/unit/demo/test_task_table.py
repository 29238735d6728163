# SPDX-License-Identifier: Apache-2.0
"""The tasks' table: each task by its measure, members that are not asked left out, 80 columns."""

from __future__ import annotations

import io
from pathlib import Path

import made_up
import pytest
from rich.console import Console
from task_serve import ALL, TASKS, Served
from task_table import TaskTable, disagreements, show, task_tables, verdicts

from quorum.decision.weights import equal_weights
from quorum.deployment.load import load_deployment
from quorum.deployment.schema import Deployment
from quorum.votes import VotesTable
from quorum.votes.schema import Cell
from quorum.votes.table import build_table
from quorum_client import Answer, Extraction

ANSWERS = {
    "brand": "velora",
    "color": "blue",
    "gender": "women",
    "entities": '[["navy","color"],["boots","core_product_type"]]',
    "relevance": "exact",
    "description": "Boots by velora.",
}


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return load_deployment(Path(made_up.__file__).with_name("deploy.yaml"))


def votes(deployment: Deployment) -> VotesTable:
    """The encoder of each task and the tuned LLM are right, the plain one never answers."""
    members = deployment.member_names
    cells = []
    for task, own in TASKS.items():
        for number in range(4):
            for name in own.attributes:
                right = {f"encoder-{task}", "smollm2-tuned"} & set(members)
                given = tuple(ANSWERS[name] if member in right else None for member in members)
                cells.append(Cell(f"{task}-{number}", "", "navy boots", name, given, (ANSWERS[name],)))
    return build_table(members, cells)


def served(deployment: Deployment) -> Served:
    table = votes(deployment)
    answers = {}
    for cell in table.cells:
        task = next(name for name, own in TASKS.items() if cell.attribute in own.attributes)
        before = answers[task, cell.product].answers if (task, cell.product) in answers else ()
        answer = Answer(cell.attribute, ANSWERS[cell.attribute], 1.0, ())
        answers[task, cell.product] = Extraction("r", (*before, answer), 2, 0.1)
    times = {"smollm2-tuned": {name: [900.0, 1100.0, 1000.0] for name in TASKS}, ALL: {"relevance": [7.0]}}
    return Served(tuple(table.members), table, answers, equal_weights(table.members), times, [], [], [], [])


@pytest.fixture(scope="module")
def tables(deployment: Deployment) -> list[TaskTable]:
    return task_tables(served(deployment), deployment)


def test_every_task_has_its_measure_and_who_was_asked(tables: list[TaskTable]) -> None:
    assert [(table.name, table.kind, table.measure) for table in tables] == [
        ("attributes", "value", "accuracy"),
        ("entities", "spans", "span F1"),
        ("relevance", "label", "macro-F1"),
        ("description", "text", "ROUGE-L"),
    ]
    for table in tables:
        names = [line.name for line in table.lines]
        encoder = [] if table.name == "description" else [f"encoder-{table.name}"]
        # A member that never gave a readable answer has no row.
        assert sorted(names) == sorted([*encoder, "smollm2-tuned", "majority", "learned weights"])
        assert table.lines[0].role == "best"
        assert [line.name for line in table.lines if line.is_encoder] == encoder
    assert {line.p50_ms for table in tables for line in table.lines} == {1000.0, 7.0, None}


def test_the_table_fits_into_80_columns(tables: list[TaskTable]) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(show(tables))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "encoder-attributes" in text
    assert "macro-F1, 4 rows" in text


def test_the_verdict_names_the_best_single_member(tables: list[TaskTable]) -> None:
    for line, name in zip(verdicts(tables), TASKS, strict=True):
        member = "smollm2-tuned" if name == "description" else f"encoder-{name}"
        assert line == f"{name}: learned weights are as good as {member}, the best single member"


def test_answers_of_the_server_are_compared_with_decisions_on_its_votes(deployment: Deployment) -> None:
    own = served(deployment)
    assert disagreements(own, deployment) == (0, len(own.test))
