# SPDX-License-Identifier: Apache-2.0
"""Questions to members of runtime ``hf``, and their answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from quorum.runtimes.base import Generated, Question, Reply
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema

BATCHINGS = ("dynamic", "continuous")
CATALOGUE = Catalogue.of(
    [
        Attribute("color", values=("red", "navy blue", 'rosé/"pink"')),
        Attribute("brand", normaliser="exact"),
        Attribute("gender", values=("women", "men")),
    ]
)
TEXTS = ("shoe", "red shoes for men, size 42", "größe № 👟", "a" * 90, "b, c")
WAIT_S = 60


def question(
    prompt: str, seconds: float = WAIT_S, attributes: Sequence[str] = tuple(CATALOGUE.attributes)
) -> Question:
    schema = json.dumps(answer_schema(CATALOGUE, attributes), ensure_ascii=False)
    deadline = time.monotonic_ns() + int(seconds * 1e9)
    return Question(prompt, schema, prompt, "", tuple(attributes), deadline)


def ask(runtime: Any, questions: Sequence[Question]) -> list[Reply]:
    """All at once; the replies in the order of the questions."""
    return ask_each([(runtime, one) for one in questions])


def ask_each(pairs: Sequence[tuple[Any, Question]]) -> list[Reply]:
    """As :func:`ask`, each question to a runtime of its own."""
    replies: dict[int, Reply] = {}
    left = threading.Semaphore(0)

    def keep(number: int, reply: Reply) -> None:
        assert number not in replies, "answered twice"
        replies[number] = reply
        left.release()

    for number, (runtime, one) in enumerate(pairs):
        runtime.submit(one, lambda reply, number=number: keep(number, reply))
    for _ in pairs:
        assert left.acquire(timeout=WAIT_S)
    return [replies[number] for number in range(len(pairs))]


def assert_alike(replies: Sequence[Reply], others: Sequence[Reply]) -> None:
    """The same texts; log-probabilities depend on the batch in their last bits."""
    for one, other in zip(replies, others, strict=True):
        assert isinstance(one, Generated)
        assert isinstance(other, Generated)
        assert one[:2] == other[:2]
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-3)
