# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, cast

from quorum.runtimes.base import Done, Generated, Question, Reply, Unsent, Usage
from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.option_base import Options
from quorum.runtimes.options import HfOptions
from quorum.serving.answering import Answering, packed
from quorum.serving.packing import Admitted, PackedVote, pack_question, unpack_answer, unpack_votes
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote
from quorum_contract import Spent, Status
from quorum_contract.usage import CALLED

SETTINGS = {"name": "m", "prompt": "bare"}


class Runtime:
    """Answers each question by a function."""

    def __init__(self, answer: Callable[[Question], Reply]) -> None:
        self._answer = answer

    def submit(self, question: Question, done: Done) -> None:
        done(self._answer(question))

    def close(self) -> None:
        pass


def ask(
    answer: Callable[[Question], Reply],
    *attributes: str,
    options: Options | None = None,
    catalogue: Catalogue = Catalogue({}),  # noqa: B008  (it is frozen)
    category: str = "",
) -> list[PackedVote]:
    sent: list[bytes] = []
    admitted = Admitted("text", category, attributes, time.monotonic_ns() + 10**10)
    answering = Answering(SETTINGS, catalogue, Runtime(answer), options)
    answering.ask(admitted, pack_question(admitted), admitted.deadline_ns, sent.append, Cancellation())
    (votes,) = sent
    LAST[:] = [unpack_answer(votes).spent]
    return unpack_votes(votes)


LAST: list[Spent] = []
"""What the last answer took."""


def test_votes_have_the_scores_of_their_tokens() -> None:
    generated = Generated('{"a":"x","b":"y"}', [6, 8, 14, 16, 17], [-1.0, -0.1, -2.0, -0.25, -3.0])
    votes = ask(lambda _: generated, "b", "c", "a")
    assert votes == [("y", 0, -0.25), ("", Status.UNPARSABLE, None), ("x", 0, -0.10000000149011612)]


def test_an_answer_whose_scores_fail_still_votes() -> None:
    scores = cast("list[float]", [None, "?", object()])
    assert ask(lambda _: Generated('{"a":"x"}', [6, 8, 9], scores), "a") == [("x", 0, None)]


def test_votes_of_a_runtime_without_an_llm_are_sent_as_they_are() -> None:
    votes = [Vote("X", Status.ANSWERED, -0.5), Vote("", Status.NOT_FOUND)]
    assert ask(lambda _: votes, "a", "b") == votes


def test_a_runtime_that_refuses_a_question_abstains() -> None:
    def refuse(_: Question) -> Reply:
        raise RuntimeError("no")

    assert ask(refuse, "a", "b") == [("", Status.ERROR, None)] * 2


def test_the_prompt_holds_the_question() -> None:
    seen: list[Question] = []

    def keep(question: Question) -> Any:
        seen.append(question)
        return Status.NOT_ASKED

    ask(keep, "a", "b")
    assert seen[0].prompt == "a, b\n\ntext\n"
    assert seen[0].attributes == ("a", "b")


def test_votes_that_cannot_be_packed_become_abstentions() -> None:
    votes = [Vote("\ud800", Status.ANSWERED), Vote("red", Status.ANSWERED)]
    assert unpack_votes(packed(votes)) == [("", Status.ERROR, None)] * 2


def test_votes_whose_usage_cannot_be_packed_become_abstentions() -> None:
    sent = packed([Vote("red", Status.ANSWERED)], Spent(1, 10**30))
    assert unpack_answer(sent) == ([("", Status.ERROR, None)], CALLED, ())


def test_counts_that_cannot_be_cost_no_votes() -> None:
    usage = Usage(10**30, -5, 10**30)
    assert ask(lambda _: Generated('{"a":"x"}', usage=usage), "a") == [("x", 0, None)]
    assert LAST[0][:4] == (1, 2**53, 0, 2**53)


TWO = HfOptions(model="base", lora="usual", adapters={"size": "sizes", "color": "colors", "width": "sizes"})


def test_each_adapter_is_asked_for_its_own_attributes_alone() -> None:
    asked = []

    def answer(question: Question) -> Reply:
        asked.append(question)
        return Generated(json.dumps({name: f"{question.adapter} {name}" for name in question.attributes}))

    names = ("size", "brand", "color", "width", "age")
    votes = ask(answer, *names, options=TWO)
    assert [value for value, *_ in votes] == [
        "sizes size", "usual brand", "colors color", "sizes width", "usual age"
    ]  # fmt: skip
    assert [(q.adapter, q.attributes) for q in asked] == [
        ("sizes", ("size", "width")),
        ("usual", ("brand", "age")),
        ("colors", ("color",)),
    ]
    for question in asked:
        assert question.prompt.startswith(", ".join(question.attributes) + "\n")
        assert list(json.loads(question.schema)["properties"]) == list(question.attributes)


def test_an_adapter_that_fails_costs_its_own_attributes_only() -> None:
    def answer(question: Question) -> Reply:
        if question.adapter == "sizes":
            raise RuntimeError("no")
        if question.adapter == "colors":
            return Status.TIMEOUT
        return Generated('{"brand":"acme"}')

    votes = ask(answer, "size", "color", "brand", options=TWO)
    assert [status for _, status, _ in votes] == [Status.ERROR, Status.TIMEOUT, Status.ANSWERED]


def test_a_question_without_attributes_gets_no_votes() -> None:
    assert ask(lambda _: Generated("{}"), options=TWO) == []


ONLY = Catalogue.of(
    [
        Attribute("size", only=("Shoes",)),
        Attribute("grade", values=("good", "bad"), kind="label", only=("shoes",)),
        Attribute("parts", values=("x",), kind="spans", only=("shoes",)),
        Attribute("brand"),
    ]
)


def test_what_products_of_a_category_do_not_have_is_not_asked() -> None:
    asked: list[tuple[str, ...]] = []

    def answer(question: Question) -> Reply:
        asked.append(question.attributes)
        given = {"size": "42", "grade": "good", "parts": [["text", "x"]], "brand": "acme"}
        return Generated(json.dumps({name: given[name] for name in question.attributes}))

    names = ("size", "brand", "grade", "parts")
    values = [[value for value, _, _ in ask(answer, *names, catalogue=ONLY, category=c)]
              for c in (" SHOES ", "hats", "")]  # fmt: skip
    assert values[0] == ["42", "acme", "good", '[["text","x"]]']
    assert values[1] == values[2] == ["n/a", "acme", "n/a", "n/a"]
    assert asked == [names, ("brand",), ("brand",)]


def test_a_question_of_which_nothing_is_asked_needs_no_runtime() -> None:
    def fail(_: Question) -> Reply:
        raise AssertionError("asked")

    votes = ask(fail, "size", "grade", catalogue=ONLY, category="hats")
    assert votes == [("n/a", Status.ANSWERED, None)] * 2


def test_an_answer_says_what_it_took() -> None:
    ask(lambda _: Generated('{"a":"x"}', usage=Usage(300, 12, 280)), "a")
    (spent,) = LAST
    assert spent[:4] == (1, 300, 12, 280)
    assert spent.seconds is not None
    assert 0 <= spent.seconds < 10


def test_the_parts_of_an_answer_add_up() -> None:
    ask(lambda _: Generated("{}", usage=Usage(100, 10)), "size", "brand", "color", options=TWO)
    assert LAST[0][:4] == (3, 300, 30, 0)
    ask(lambda q: Generated("{}", usage=Usage(9, 9)) if q.adapter else Generated("{}"), "size", options=TWO)
    assert LAST[0][:3] == (1, 9, 9)


def test_tokens_of_which_one_part_says_nothing_are_not_known() -> None:
    def answer(question: Question) -> Reply:
        return Generated("{}", usage=Usage(9, 9) if question.adapter == "sizes" else None)

    ask(answer, "size", "brand", options=TWO)
    assert LAST[0][:3] == (2, None, None)


def test_who_was_not_called_took_nothing() -> None:
    for status in (Status.NOT_ASKED, Status.OVERLOADED, Status.BUDGET):
        ask(lambda _, status=status: status, "a")  # type: ignore[misc]
        assert LAST[0][:4] == (0, 0, 0, 0)
    assert ask(lambda _: Unsent(Status.ERROR), "a") == [("", Status.ERROR, None)]
    assert LAST[0][:4] == (0, 0, 0, 0)
    for status in (Status.TIMEOUT, Status.ERROR):
        ask(lambda _, status=status: status, "a")  # type: ignore[misc]
        assert LAST[0][:4] == CALLED[:4]


def test_a_member_without_an_llm_takes_no_tokens() -> None:
    ask(lambda _: [Vote("x", Status.ANSWERED)], "a")
    assert LAST[0][:4] == (1, 0, 0, 0)
