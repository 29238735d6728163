# SPDX-License-Identifier: Apache-2.0
"""Ask an LLM about rows with gold, by the runtime that serves it, and score what it answers."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import msgspec

from quorum.records import Record
from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, RuntimeSettings
from quorum.runtimes.options import HfOptions
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import Vote, abstain, parse_answer
from quorum.tasks.prompt import build_prompt
from quorum.tune.data import TrainingRow
from quorum.tune.figures import by_task, main_figure
from quorum_contract import Status

_LONGEST_NS = 3_600 * 10**9


class Asked(NamedTuple):
    """A text with all attributes that are asked of it at once: one row with gold for each, at least one."""

    rows: tuple[TrainingRow, ...]

    @property
    def text(self) -> str:
        """Of the product."""
        return self.rows[0].text

    @property
    def category(self) -> str:
        """Of the product."""
        return self.rows[0].category

    @property
    def attributes(self) -> tuple[str, ...]:
        """In the order of the question."""
        return tuple(row.attribute for row in self.rows)


@dataclass(frozen=True, slots=True)
class TaskScore(Record):
    """How well an LLM answers one attribute.

    Attributes:
        task: The attribute.
        guided: Whether decoding was guided by the grammar.
        rows: Asked about.
        parse_share: Of the rows, those with an answer that the attribute allows, in [0, 1].
        metric: What ``score`` is.
        score: In [0, 1].
        figures: All of :func:`quorum.tune.figures.figures`.
    """

    task: str
    guided: bool
    rows: int
    parse_share: float
    metric: str
    score: float
    figures: Mapping[str, float]


def asked_of(rows: Iterable[TrainingRow], tasks: Sequence[str]) -> list[Asked]:
    """Join the rows of one product and text: its attributes are asked together, in the order of ``tasks``."""
    order = {task: place for place, task in enumerate(tasks)}
    joined: dict[tuple[str, str, str, int], list[TrainingRow]] = {}
    times: Counter[tuple[str, str, str, str]] = Counter()
    for row in rows:
        text = (row.product, row.text, row.category)
        # A second answer to one attribute is a question of its own.
        joined.setdefault((*text, times[*text, row.attribute]), []).append(row)
        times[*text, row.attribute] += 1
    return [
        Asked(tuple(sorted(group, key=lambda row: order.get(row.attribute, len(order)))))
        for group in joined.values()
    ]


def ask(settings: RuntimeSettings[Any], asked: Sequence[Asked]) -> list[list[Vote]]:
    """The votes of a member on each text, by its runtime, as it would serve.

    Raises RuntimeConfigError: the runtime cannot start with these settings.
    """
    style = settings.style or "instruct"
    replies: dict[int, Reply] = {}
    left = threading.Semaphore(0)

    def keep(number: int, reply: Reply) -> None:
        replies[number] = reply
        left.release()

    runtime = create(settings)
    try:
        deadline = time.monotonic_ns() + _LONGEST_NS
        for number, one in enumerate(asked):
            schema = json.dumps(answer_schema(settings.catalogue, one.attributes), ensure_ascii=False)
            prompt = build_prompt(settings.catalogue, style, one.text, one.category, one.attributes)
            question = Question(
                prompt,
                schema,
                one.text,
                one.category,
                one.attributes,
                deadline,
                adapter=settings.options.usual_adapter,
            )
            runtime.submit(question, partial(keep, number))
        for _ in asked:
            left.acquire()
    finally:
        runtime.close()
    return [_votes(settings.catalogue, one, replies[number]) for number, one in enumerate(asked)]


def _votes(catalogue: Catalogue, one: Asked, reply: Reply) -> list[Vote]:
    if isinstance(reply, Status):
        return abstain(reply, len(one.attributes))
    if isinstance(reply, Generated):
        return parse_answer(catalogue, one.attributes, reply.text, text=one.text)
    return list(reply)


def score(
    settings: RuntimeSettings[HfOptions], asked: Sequence[Asked], guided: Sequence[bool] = (False, True)
) -> list[TaskScore]:
    """Score a member by attribute, once for each way of decoding.

    Raises RuntimeConfigError: the runtime cannot start with these settings.
    """
    scores = []
    for way in guided:
        options = msgspec.structs.replace(settings.options, guided=way, scores=False)
        votes = ask(replace(settings, options=options), asked)
        answers = [
            vote.value if vote.status is Status.ANSWERED else None for found in votes for vote in found
        ]
        rows = [row for one in asked for row in one.rows]
        attributes = {row.attribute: settings.catalogue.get(row.attribute) for row in rows}
        for name, figures in by_task(attributes, rows, answers).items():
            metric = main_figure(attributes[name])
            count = sum(row.attribute == name for row in rows)
            parsed = figures["parse_share"]
            scores.append(TaskScore(name, way, count, parsed, metric, figures[metric], figures))
    return scores
