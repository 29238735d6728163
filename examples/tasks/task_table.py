# SPDX-License-Identifier: Apache-2.0
"""The result by task, each by the measure of its kind: every member, majority and learned weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.table import Column, Table
from rich.text import Text
from task_serve import ALL, TASK_OF, TASKS, Served

from quorum.deployment.schema import Deployment
from quorum.evaluation.answers import decide_answers
from quorum.evaluation.given import evaluate_weights
from quorum.evaluation.stats import Estimate, quantile
from quorum.evaluation.tasks import MAJORITY, TaskResult
from quorum.operations.evaluate import encoders_of
from quorum.reports.figures import percent_interval, points_in_words

MEASURES = {"macro_f1": "macro-F1", "f1": "span F1", "rouge_l": "ROUGE-L", "accuracy": "accuracy"}


@dataclass(frozen=True, slots=True)
class Line:
    """One answerer of one task.

    Attributes:
        name: Who answers.
        role: "best" single member in hindsight, "member", "majority" or "learned".
        is_encoder: Whether it is an encoder.
        figure: By the measure of the task, with its 95 % interval over products.
        to_best: Difference to the best single member; None for that one.
        answered: Share of test rows with an answer that could be read, of a member.
        p50_ms: Median latency of one question at a time; None for majority, which costs what learned does.
    """

    name: str
    role: str
    is_encoder: bool
    figure: Estimate
    to_best: Estimate | None
    answered: float | None
    p50_ms: float | None


@dataclass(frozen=True, slots=True)
class TaskTable:
    """A task: its kind, measure, test rows, and who answers how well."""

    name: str
    kind: str
    measure: str
    rows: int
    lines: Sequence[Line]

    def line(self, role: str) -> Line:
        """The first line with a role."""
        return next(line for line in self.lines if line.role == role)


def task_tables(served: Served, deployment: Deployment) -> list[TaskTable]:
    """Figures on test rows of every task."""
    encoders = encoders_of(deployment)
    kinds = deployment.catalogue().answer_kinds()
    found = evaluate_weights(served.test, served.weights, kinds=kinds, encoders=encoders).tasks
    # The attributes of kind "value" are measured together, under a name of their own.
    named = {TASK_OF.get(name, "attributes"): result for name, result in found.items()}
    return [_table(name, named[name], served, encoders) for name in TASKS]


def _table(name: str, result: TaskResult, served: Served, encoders: set[str]) -> TaskTable:
    lines = []
    for row in result.rows:
        is_member = row.answered is not None
        role = "best" if row.role == "best member" else "member" if is_member else row.role
        times = served.latencies_ms.get(row.name if is_member else ALL, {}).get(name, [])
        lines.append(
            Line(
                name=row.name if is_member or role == MAJORITY else "learned weights",
                role=role,
                is_encoder=is_member and row.name in encoders,
                figure=row.figures[result.headline],
                to_best=row.to_best_member,
                answered=row.answered,
                p50_ms=quantile(times, 0.5) if times and role != MAJORITY else None,
            )
        )
    order = ("best", "member", MAJORITY, "learned")
    lines.sort(key=lambda line: order.index(line.role))
    return TaskTable(name, TASKS[name].kind, MEASURES[result.headline], result.products, lines)


def show(tables: Sequence[TaskTable]) -> Table:
    """All tasks in one table of 80 columns."""
    shown = Table(
        Column("task (kind), measure", overflow="fold"),
        Column("who answers", overflow="fold"),
        Column("% [95 %]", justify="right", no_wrap=True),
        Column("read %", justify="right", no_wrap=True),
        Column("p50 ms", justify="right", no_wrap=True),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for table in tables:
        heads = iter((f"{table.name} ({table.kind})", f"{table.measure}, {table.rows} rows"))
        for line in table.lines:
            name = f"{line.name} *" if line.role == "best" else line.name
            shown.add_row(
                next(heads, ""),
                Text(name),
                percent_interval(line.figure),
                "" if line.answered is None else f"{100 * line.answered:.0f}",
                "" if line.p50_ms is None else f"{line.p50_ms:.0f}",
            )
        shown.add_section()
    return shown


def verdicts(tables: Sequence[TaskTable]) -> list[str]:
    """Learned weights against the best single member, task by task, in words."""
    return [f"{table.name}: {_verdict(table)}" for table in tables]


def _verdict(table: TaskTable) -> str:
    best, learned = table.line("best"), table.line("learned")
    gain = learned.to_best
    if gain is None:
        return "learned weights are the best"
    points = points_in_words(gain)
    if gain.low == gain.value == gain.high == 0:
        return f"learned weights are as good as {best.name}, the best single member"
    if gain.low > 0:
        return f"learned weights are better than {best.name}, {points}"
    if gain.high < 0:
        return f"learned weights are worse than {best.name}, {points}"
    return f"learned weights are not better than {best.name}, the best single member: {points}"


def disagreements(served: Served, deployment: Deployment) -> tuple[int, int]:
    """Answers of the server that differ from decisions of its weights on the recorded votes, and all."""
    decided = decide_answers(served.test, served.weights, deployment.catalogue().answer_kinds())
    differ = 0
    for cell, value in zip(served.test.cells, decided.values, strict=True):
        given = served.answers[TASK_OF[cell.attribute], cell.product][cell.attribute].value
        differ += (given or "") != value
    return differ, len(served.test)
