# SPDX-License-Identifier: Apache-2.0
"""Questions about rows with gold: each has a deadline of its own, and failures are no wrong answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorum.runtimes.base import Generated, Question, RuntimeSettings
from quorum.runtimes.options import HfOptions
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tune import asking
from quorum.tune.asking import Asked, AskingError, ask, score
from quorum.tune.data import TrainingRow
from quorum_contract import Status

CATALOGUE = Catalogue.of([Attribute("grade", kind="label", values=("good", "bad"), allow_na=False)])
SETTINGS = RuntimeSettings("m", Path("/"), HfOptions(model="m"), catalogue=CATALOGUE)


class Runtime:
    """Answers with these replies, each after the one before."""

    def __init__(self, *replies: Any) -> None:
        self.replies, self.questions = list(replies), list[Question]()

    def submit(self, question: Question, done: Callable[[Any], None]) -> None:
        self.questions.append(question)
        done(self.replies[len(self.questions) - 1])

    def close(self) -> None:
        self.replies.clear()


def asked(count: int) -> list[Asked]:
    return [Asked((TrainingRow(n, f"p{n}", f"item {n}", "", "grade", ("good",)),)) for n in range(count)]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runtime]:
    def serve(*replies: Any) -> Runtime:
        runtime = Runtime(*replies)
        monkeypatch.setattr(asking, "create", lambda _: runtime)
        return runtime

    return serve


GOOD, OTHER = Generated('{"grade":"good"}'), Generated("good?")


def test_the_parse_share_is_of_answers_that_were_given(served: Callable[..., Runtime]) -> None:
    served(GOOD, OTHER, Status.REFUSED, GOOD)
    (found,) = score(SETTINGS, asked(4), guided=(False,))
    assert (found.rows, found.parse_share, found.figures["accuracy"]) == (4, pytest.approx(2 / 3), 0.5)
    assert found.figures["parse_share"] == found.parse_share


@pytest.mark.parametrize("status", [Status.TIMEOUT, Status.ERROR, Status.OVERLOADED])
def test_a_member_that_fails_has_no_figures(served: Callable[..., Runtime], status: Status) -> None:
    served(GOOD, status, status)
    with pytest.raises(AskingError, match=f"m: of 3 questions 2 {status.name}"):
        ask(SETTINGS, asked(3))


def test_each_question_has_a_deadline_of_its_own(
    served: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 10**15, 10**12))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(now))
    runtime = served(*[GOOD] * 100)
    ask(SETTINGS, asked(100))
    assert len({question.deadline_ns for question in runtime.questions}) == 100
