# SPDX-License-Identifier: Apache-2.0
"""What a run took, and which members left it for want of money."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from quorum.bulk.judging.asking import Asking
from quorum.bulk.judging.labels import Labels
from quorum.bulk.listings import Listing
from quorum.bulk.outputs.csv_answers import CsvSink
from quorum.bulk.outputs.jsonl_answers import extraction_json
from quorum.bulk.outputs.votes_tables import VotesSink
from quorum.bulk.spent import BudgetWatch, Totals, money, rounded, spent_in_words, totals_in_words
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.votes import VotesWriter, read_votes
from quorum_client import Answer, AsyncClient, Extraction, Spent, Status, Vote

LISTING = Listing("p", "text", "")
USAGE = {"a": Spent(1, 300, 20, 0, 0.5, 0.01), "b": Spent(1, 310, 10, 0, 0.5, 0.02)}


def extraction(
    names: Any = ("color", "size"), usage: Any = USAGE, cost: Any = 0.03, **statuses: Status
) -> Extraction:
    def votes() -> tuple[Vote, ...]:
        found = {"a": Status.ANSWERED, "b": Status.ANSWERED} | statuses
        return tuple(Vote(m, "x" if s is Status.ANSWERED else None, s) for m, s in found.items())

    answers = tuple(Answer(name, "x", 0.5, votes()) for name in names)
    return Extraction("id", answers, 1, 0.25, cost=cost, usage=usage)


def test_rows_of_a_votes_table_share_what_their_answer_took(tmp_path: Path) -> None:
    only = Attribute("sleeve", only=("shirts",))
    catalogue = Catalogue.of([Attribute("color"), Attribute("size"), only])
    with VotesWriter(tmp_path / "v.jsonl") as writer:
        VotesSink(writer, catalogue).write(LISTING, extraction(("color", "size", "sleeve")))
    cells = read_votes(tmp_path / "v.jsonl").cells
    assert len(cells) == 2, "no member was asked for the third"
    for place, name in enumerate("ab"):
        found = [cell.usage[place] for cell in cells]
        assert [spent and spent.prompt_tokens for spent in found] == [USAGE[name].prompt_tokens / 2] * 2  # type: ignore[operator]
        assert sum(spent.cost or 0 for spent in found if spent) == USAGE[name].cost


def test_the_answers_of_a_csv_have_cost_calls_and_tokens() -> None:
    file = io.StringIO()
    sink = CsvSink(file, ["cost", "sku"], ["color", "size"])
    sink.write(LISTING, extraction())
    sink.write(LISTING, extraction(usage={}, cost=None))
    sink.write(LISTING, extraction(usage={"a": Spent(1, None, None, None, 1.0)}, cost=None))
    first, old, unknown = csv.DictReader(io.StringIO(file.getvalue()))
    names = ("quorum_cost", "quorum_calls", "quorum_prompt_tokens", "quorum_answer_tokens")
    assert [first[name] for name in names] == ["0.03", "2", "610", "30"]
    assert [old[name] for name in names] == [""] * 4
    assert [unknown[name] for name in names] == ["", "1", "", ""]


def test_json_says_what_each_member_took() -> None:
    found = extraction_json(extraction())
    assert (found["cost"], found["calls"], found["prompt_tokens"]) == (0.03, 2, 610)
    assert found["usage"]["b"] == {
        "calls": 1, "prompt_tokens": 310, "answer_tokens": 10, "cached_tokens": 0,
        "seconds": 0.5, "cost": 0.02,
    }  # fmt: skip
    assert not {"cost", "usage"} & extraction_json(extraction(usage={}, cost=None)).keys()


def test_totals_say_of_how_many_answers_something_is_not_known() -> None:
    totals = Totals()
    for result in (
        extraction(),
        extraction(),
        extraction(usage={"a": Spent(1, None, None, None)}, cost=None),
    ):
        totals.add(result)
    assert totals.in_words("EUR") == (
        "5 calls, 1.67 per answer; 1220 prompt tokens, 60 answer tokens (not known of 1 answers);"
        " cost 0.06 EUR, 0.03 EUR per answer (not known of 1 answers)"
    )
    assert totals.to_json()["answers_without_cost"] == 1
    assert totals_in_words(totals.to_json(), "EUR") == (
        "5 calls, 1220 prompt tokens, 60 answer tokens, cost 0.06 EUR (tokens not known of 1 answers)"
        " (cost not known of 1 answers)"
    )
    nothing = Totals()
    nothing.add(extraction(usage={}, cost=None))
    assert nothing.answers == 0


def test_amounts_are_short() -> None:
    assert [money(x, "EUR") for x in (0, 0.0000123, 0.5, 0.9999, 1, 12.345)] == [
        "0.00 EUR", "1.23e-05 EUR", "0.5 EUR", "1.00 EUR", "1.00 EUR", "12.35 EUR"
    ]  # fmt: skip
    assert [rounded(x) for x in (0, 0.0123, 999.6, 9999, 10_000, 1_234_567)] == [
        "0", "0.0123", "1 000", "10 000", "10 000", "1 230 000"
    ]  # fmt: skip
    assert spent_in_words(Spent(1, 300, 20, 200, 0.5, 0.01)) == (
        "1 call, 300 prompt tokens (200 cached), 20 answer tokens, cost 0.01"
    )
    assert spent_in_words(Spent(2, None, None, None)) == "2 calls"


def test_a_spent_budget_is_noted_when_it_begins_and_when_it_ends() -> None:
    notes: list[str] = []
    watch = BudgetWatch(notes.append)
    spent = {"b": Status.BUDGET}
    for row, statuses in enumerate(({}, spent, spent, {}, spent), start=1):
        watch.add(row, extraction(**statuses))
    assert [note.split(", ", 1)[1] for note in notes] == [
        "row 2: the budget of b is spent; answers go on with 1 of 2 members",
        "row 4: b answers again",
        "row 5: the budget of b is spent; answers go on with 1 of 2 members",
    ]
    assert (watch.spent["b"].row, watch.spent["b"].answers) == (2, 3)
    assert watch.spent["b"].since.endswith("Z")


def test_a_member_that_was_not_asked_does_not_answer_again() -> None:
    notes: list[str] = []
    watch = BudgetWatch(notes.append)
    spent, not_asked = {"b": Status.BUDGET}, {"b": Status.NOT_ASKED}
    for row, statuses in enumerate((spent, not_asked, spent, not_asked, {}), start=1):
        watch.add(row, extraction(**statuses))
    assert [note.split(", ", 1)[1] for note in notes] == [
        "row 1: the budget of b is spent; answers go on with 1 of 2 members",
        "row 5: b answers again",
    ]
    assert watch.spent["b"].answers == 2


def test_judge_names_the_row_of_the_file() -> None:
    class Asked:
        def extract_many(self, items: Iterable[Any], **_: Any) -> AsyncIterator[Extraction]:
            async def answers() -> AsyncIterator[Extraction]:
                for _ in items:
                    yield extraction(("color",), b=Status.BUDGET)

            return answers()

    def nothing(*_: Any) -> None:
        pass

    notes: list[str] = []
    asking = Asking(
        client=cast("AsyncClient", Asked()),
        labels=cast("Labels", SimpleNamespace(decider=nothing, cell=nothing)),
        decided_by=nothing,
        keep=nothing,
        note=notes.append,
        concurrency=1,
    )
    pairs = [SimpleNamespace(text="t", keyphrase="k", category="", item="i", line=line) for line in (7, 9)]
    asyncio.run(asking.ask(cast("Any", [(pair,) for pair in pairs])))
    assert [note.split(", ")[1] for note in notes] == [
        "row 7: the budget of b is spent; answers go on with 1 of 2 members"
    ]
    assert asking.budgets.spent["b"].row == 7
