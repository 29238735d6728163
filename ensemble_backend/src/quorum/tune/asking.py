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

from quorum.evaluation.task_scores import parse_share
from quorum.records import Record
from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, RuntimeSettings, Unsent
from quorum.runtimes.options import HfOptions
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import Vote, abstain, parse_answer
from quorum.tasks.prompt import build_prompt
from quorum.tune.data import TrainingRow
from quorum.tune.figures import by_task, headline
from quorum_contract import Status
from quorum_contract.errors import QuorumError

_LONGEST_S = 3_600
"""Of one question, from the time that it is given to the runtime."""
_IN_FLIGHT = 64
"""Questions given to the runtime at once: two of its batches."""
_FAILED = (Status.TIMEOUT, Status.OVERLOADED, Status.ERROR)


class AskingError(QuorumError, RuntimeError):
    """Questions were not answered, so that nothing can be said of a member; the message says what to do."""

    code = "QUESTIONS_UNANSWERED"


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
        parse_share: Of the answers, those that the attribute allows, in [0, 1].
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

    Raises:
        RuntimeConfigError: The runtime cannot start with these settings.
        AskingError: It failed to answer a question, or took more than an hour for it.
    """
    style = settings.style or "instruct"
    replies: dict[int, Generated | list[Vote] | Status] = {}
    free = threading.Semaphore(_IN_FLIGHT)

    def keep(number: int, reply: Reply) -> None:
        replies[number] = reply.status if isinstance(reply, Unsent) else reply
        free.release()

    runtime = create(settings)
    try:
        for number, one in enumerate(asked):
            free.acquire()
            schema = json.dumps(answer_schema(settings.catalogue, one.attributes), ensure_ascii=False)
            prompt = build_prompt(settings.catalogue, style, one.text, one.category, one.attributes)
            question = Question(
                prompt,
                schema,
                one.text,
                one.category,
                one.attributes,
                time.monotonic_ns() + _LONGEST_S * 10**9,
                adapter=settings.options.usual_adapter,
            )
            runtime.submit(question, partial(keep, number))
        for _ in range(_IN_FLIGHT):
            free.acquire()
    finally:
        runtime.close()
    failed = Counter(reply for reply in replies.values() if isinstance(reply, Status) and reply in _FAILED)
    if failed:
        what = " and ".join(f"{count} {status.name}" for status, count in failed.items())
        raise AskingError(
            f"{settings.member}: of {len(asked)} questions {what}, so there are no figures; see the log,"
            " and try fewer rows, or a machine with more memory"
        )
    return [_votes(settings.catalogue, one, replies[number]) for number, one in enumerate(asked)]


def _votes(catalogue: Catalogue, one: Asked, reply: Generated | list[Vote] | Status) -> list[Vote]:
    if isinstance(reply, Status):
        return abstain(reply, len(one.attributes))
    if isinstance(reply, Generated):
        return parse_answer(catalogue, one.attributes, reply.text, text=one.text)
    return list(reply)


def score(
    settings: RuntimeSettings[HfOptions], asked: Sequence[Asked], guided: Sequence[bool] = (False, True)
) -> list[TaskScore]:
    """Score a member by attribute, once for each way of decoding.

    Raises RuntimeConfigError and AskingError as :func:`ask` does.
    """
    scores = []
    for way in guided:
        options = msgspec.structs.replace(settings.options, guided=way, scores=False)
        votes = [vote for found in ask(replace(settings, options=options), asked) for vote in found]
        answers = [vote.value if vote.status is Status.ANSWERED else None for vote in votes]
        rows = [row for one in asked for row in one.rows]
        attributes = {row.attribute: settings.catalogue.get(row.attribute) for row in rows}
        for name, figures in by_task(attributes, rows, answers).items():
            metric = headline(attributes[name])
            own = [vote.status for vote, row in zip(votes, rows, strict=True) if row.attribute == name]
            parsed = parse_share(own) if {*own} & {Status.ANSWERED, Status.UNPARSABLE} else 0.0
            figures["parse_share"] = parsed
            scores.append(TaskScore(name, way, len(own), parsed, metric, figures[metric], figures))
    return scores
