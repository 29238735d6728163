# SPDX-License-Identifier: Apache-2.0
"""The state behind the review page, without a browser: queue, answers, agreement, tally."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from support.desks import answer, desk, shown
from support.review_page import MEMBERS, rows, write_votes

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, dump
from quorum.review.choose import LabelError
from quorum.review.page.desk import Desk, ReviewOptions
from quorum.review.page.journal import read_journal
from quorum.review.page.queue import HOLD_S
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.votes import read_votes


def test_a_review_goes_on_where_it_was_and_its_table_has_the_gold(votes: Path) -> None:
    with desk(votes) as first:
        state = first.state("ann", "review")
        order = []
        for _ in range(5):
            order.append(shown(state))
            state = answer(first, state, chosen=state["card"]["candidates"][0]["value"], note="clear")
        waiting = shown(state)
        assert state["progress"]["done"] == 5
        assert first.save() == 5
    with desk(votes) as again:
        state = again.state("ann", "review")
        assert shown(state) == waiting
        assert state["progress"]["done"] == 5
        assert shown(again.undo("ann", "review")) == order[-1]
        state = again.undo("ann", "review")
        assert shown(state) == order[-2]
        assert state["card"]["before"]["note"] == "clear"
        again.save()
    table = read_votes(votes.with_name("labels.jsonl"))
    labelled = {(c.product, c.attribute) for c in table.cells if c.gold}
    assert labelled == set(order[:3])
    assert [c.values for c in table.cells] == [c.values for c in read_votes(votes).cells]


def test_gold_that_was_taken_back_leaves_the_table(votes: Path) -> None:
    with desk(votes) as at:
        assert at.save() == 0
        assert not at.out.exists()
        answer(at, at.state("ann", "review"), typed="red")
        assert at.save() == 1
        at.undo("ann", "review")
        assert at.save() == 0
        assert at.report().out is None
        assert at.begun
    assert not any(cell.gold for cell in read_votes(votes.with_name("labels.jsonl")).cells)


def test_skipped_cells_come_again_at_the_end_and_unsure_ones_do_not(votes: Path) -> None:
    with desk(votes, count=3) as at:
        state = at.state("ann", "review")
        first = shown(state)
        state = at.decide("ann", "review", first, "skip")
        second = shown(state)
        state = at.decide("ann", "review", second, "unsure")
        state = answer(at, state, typed="red")
        assert shown(state) == first
        state = answer(at, state, typed="red")
        assert state["card"] is None
        assert state["progress"] | {"seconds_left": 0} == {
            "done": 3, "left": 0, "unsure": 1, "skipped": 0, "unsettled": 1, "seconds_left": 0,
        }  # fmt: skip


def test_two_reviewers_see_the_same_cells_blind_and_differences_are_settled(votes: Path) -> None:
    with desk(votes, "ann", "bob", count=4) as at:
        seen: dict[str, list[tuple[str, str]]] = {"ann": [], "bob": []}
        for name in seen:
            state = at.state(name, "review")
            while state["card"]:
                assert state["card"]["people"] == []
                seen[name].append(shown(state))
                state = answer(at, state, typed="red" if name == "ann" or len(seen[name]) > 1 else "blue")
        assert seen["ann"] == seen["bob"]
        state = at.state("ann", "adjudicate")
        assert shown(state) == seen["ann"][0]
        assert [(p["name"], p["gold"]) for p in state["card"]["people"]] == [
            ("ann", ["red"]),
            ("bob", ["blue"]),
        ]
        (pair,) = state["agreement"]
        assert (pair["cells"], pair["agreed"]) == (4, 3)
        assert at.report().unsettled == 1
        state = answer(at, state, chosen="blue")
        assert state["card"] is None
        report = at.report()
        assert (report.unsettled, report.labels) == (0, 4)


def test_with_less_overlap_cells_are_shared_out(votes: Path) -> None:
    with desk(votes, "ann", "bob", count=40, overlap=0.25) as at:
        state = at.state("ann", "review")
        for _ in range(40):
            state = answer(at, state, typed="red")
        left = at.state("bob", "review")["progress"]["left"]
        assert 3 <= left <= 18
        both = {shown(at.state("bob", "review"))}
    with desk(votes, "bob", count=40, overlap=0.25) as again:
        assert shown(again.state("bob", "review")) in both


@pytest.mark.parametrize("turns", [("ann", "bob"), ("ann", "ann", "bob")])
def test_people_who_work_at_once_get_other_cells(votes: Path, turns: tuple[str, ...]) -> None:
    with desk(votes, "ann", "bob", count=30, overlap=0.0) as at:
        states = {name: at.state(name, "review") for name in ("ann", "bob")}
        done: list[tuple[str, str]] = []
        for name in cycle(turns):
            if states[name]["card"]:
                done.append(shown(states[name]))
                states[name] = answer(at, states[name], typed="red")
                # A reload keeps the cell.
                assert at.state(name, "review")["card"] == states[name]["card"]
            elif not any(state["card"] for state in states.values()):
                break
        assert len(done) == len(set(done)) == 30


def test_a_cell_that_somebody_left_undecided_is_for_others_after_a_while(votes: Path) -> None:
    now = [0.0]
    options = ReviewOptions(reviewers=["ann", "bob"], count=1, overlap=0.0)
    with Desk(votes, votes.with_name("labels.jsonl"), options, clock=lambda: now[0]) as at:
        state = at.state("ann", "review")
        assert at.state("bob", "review")["card"] is None
        now[0] = HOLD_S
        assert shown(at.state("bob", "review")) == shown(state)


def test_a_skipped_cell_is_for_whoever_decides_it_first(votes: Path) -> None:
    with desk(votes, "ann", "bob", count=3, overlap=0.0) as at:
        state = at.state("ann", "review")
        for _ in range(3):
            state = at.decide("ann", "review", shown(state), "skip")
        # All but the one that ann has again.
        state = at.state("bob", "review")
        assert state["progress"]["left"] == 2
        while state["card"]:
            state = answer(at, state, typed="red")
        assert at.state("ann", "review")["progress"]["left"] == 1


def test_the_least_confident_cells_come_first_by_calibrated_weights(votes: Path, tmp_path: Path) -> None:
    # "gpt" decides alone, and less surely where others disagree.
    weights = Weights(
        "loglinear", MEMBERS, Parameters((0.1, 0.2, 2.0), none_bias=-1.0), confidence="calibrated"
    )
    dump(weights, tmp_path / "weights.json")
    with desk(votes, order="unsure", count=60, weights=tmp_path / "weights.json") as at:
        state = at.state("ann", "review")
        sure = []
        while state["card"]:
            sure.append(state["card"]["confidence"])
            votes_of = {v["member"]: v["weight"] for c in state["card"]["candidates"] for v in c["votes"]}
            assert votes_of["gpt"] == 2.0
            assert state["card"]["calibrated"]
            state = answer(at, state, typed="red")
        assert at.report().tally.promised == pytest.approx(sum(sure), abs=1e-2)
    assert sure == sorted(sure)
    assert sure[0] < 0.8 < sure[-1]


def test_cells_that_teach_and_doubtful_ones_come_in_turn(votes: Path) -> None:
    queues = {}
    for order in ("teach", "unsure", "mixed"):
        with desk(votes, order=order, count=20) as at:
            state, keys = at.state("ann", "review"), []
            while state["card"]:
                keys.append(shown(state))
                state = answer(at, state, typed="red")
        queues[order] = keys
        votes.with_name("labels.journal.jsonl").unlink()
    assert queues["mixed"][0] == queues["unsure"][0]
    assert set(queues["teach"][:4]) <= set(queues["mixed"][:9])
    assert len(set(queues["mixed"])) == 20


def test_a_refused_answer_changes_nothing(votes: Path) -> None:
    catalogue = Catalogue.of([Attribute("color", values=("red", "blue", "green"), allow_na=False)])
    with desk(votes, catalogue=catalogue) as at:
        state = at.state("ann", "review")
        odd: Any = "bogus"
        for call in (
            lambda: at.state("ann", odd),
            lambda: at.undo("ann", odd),
            lambda: at.decide("ann", odd, shown(state), "skip"),
            lambda: at.decide("ann", "review", shown(state), odd),
            lambda: at.decide("ann", "review", shown(state), "undo"),
        ):
            with pytest.raises(LabelError, match=r"is no (mode|decision); give one of"):
                call()
        for how, message in (
            ({"typed": "purple"}, "'purple' is no value of color"),
            ({"typed": " | "}, "empty answer"),
            ({"typed": "\ud800"}, "UTF-8"),
            ({"typed": "red", "note": "x" * 4001}, "4001 characters"),
            ({"chosen": "violet"}, "'violet' was not shown"),
            # The attribute has no n/a.
            ({"chosen": "n/a"}, "'n/a' was not shown"),
        ):
            with pytest.raises(LabelError, match=message):
                answer(at, state, **how)
        with pytest.raises(LabelError, match="no such cell"):
            at.decide("ann", "review", ("p99", "color"), "skip")
        with pytest.raises(LabelError, match="'eve' is no reviewer"):
            at.decide("eve", "review", shown(state), "skip")
        with pytest.raises(LabelError, match="nothing to undo"):
            at.undo("ann", "review")
        assert read_journal(at.journal_path) == []
        # In the spelling of votes.
        answer(at, state, typed="RED")
        assert read_journal(at.journal_path)[0].gold == ("red",)


def test_na_may_be_chosen_where_it_is_an_answer(votes: Path) -> None:
    write_votes(votes, [row | {"votes": dict.fromkeys(MEMBERS, "red")} for row in rows()])
    with desk(votes, catalogue=Catalogue.of([Attribute("color")])) as at:
        answer(at, at.state("ann", "review"), chosen="n/a")
        assert read_journal(at.journal_path)[0].gold == ("n/a",)


def test_a_decision_sent_twice_counts_once(votes: Path) -> None:
    with desk(votes) as at:
        state = at.state("ann", "review")
        for _ in range(2):
            answer(at, state, typed="red")
        assert at.state("ann", "review")["undo"] == 1


def test_values_are_marked_in_the_text_and_texts_stay_as_they_are(votes: Path) -> None:
    title = "A  Dark\tred shoe,\n red laces"
    values = dict(zip(MEMBERS, ["dark red", "red", "n/a"], strict=True))
    write_votes(votes, [{"product": "p", "title": title, "attribute": "color", "votes": values}])
    with desk(votes) as at:
        card = at.state("ann", "review")["card"]
    number = {c["value"]: i for i, c in enumerate(card["candidates"], 1)}
    assert "".join(piece["text"] for piece in card["text"]) == title
    marked = {(piece["text"], tuple(piece["by"])) for piece in card["text"] if piece["by"]}
    dark, red = number["dark red"], number["red"]
    assert marked == {
        ("Dark\t", (dark,)),
        ("red", tuple(sorted((dark, red)))),
        ("red", (red,)),
    }


@pytest.mark.parametrize(
    ("attribute", "votes_of", "parts", "typed", "gold"),
    [
        pytest.param(
            Attribute("color", many=True), '["blue","red"]', [{"text": "blue"}, {"text": "red"}],
            "red | blue", '["blue","red"]', id="values",
        ),
        pytest.param(
            Attribute("color", kind="spans", values=("tint",)), '[["red","tint"]]',
            [{"text": "red", "type": "tint"}], '[["red","tint"]]', '[["red","tint"]]', id="spans",
        ),
        pytest.param(
            Attribute("color", kind="label", values=("red", "blue")), "red", [{"text": "red"}],
            "Blue", "blue", id="label",
        ),
        pytest.param(
            Attribute("color", kind="text"), "A red shoe.", [{"text": "A red shoe."}],
            "One | two", "One | two", id="text",
        ),
    ],
)  # fmt: skip
def test_every_kind_of_answer_is_shown_in_parts_and_read_back(
    votes: Path, attribute: Attribute, votes_of: str, parts: list[Any], typed: str, gold: str
) -> None:
    table = [
        {
            "product": "p",
            "title": "red blue shoe",
            "attribute": "color",
            "votes": dict.fromkeys(MEMBERS, votes_of),
        }
    ]
    write_votes(votes, table)
    with desk(votes, catalogue=Catalogue.of([attribute])) as at:
        state = at.state("ann", "review")
        assert state["card"]["candidates"][0]["parts"] == parts
        assert state["card"]["answer"] == votes_of
        answer(at, state, typed=typed)
        at.save()
        for form in ("label-studio", "argilla"):
            at.export(form, votes.with_name(f"{form}.json"))  # type: ignore[arg-type]
    (cell,) = read_votes(votes.with_name("labels.jsonl")).cells
    assert cell.gold == (gold,)
    (task,) = json.loads(votes.with_name("label-studio.json").read_text())
    (record,) = json.loads(votes.with_name("argilla.json").read_text())
    assert record["suggestions"]["answer"] == {"value": gold, "score": 1.0, "agent": "review"}
    (result,) = task["annotations"][0]["result"]
    if attribute.kind == "spans":
        assert result["value"] == {"start": 0, "end": 3, "text": "red", "labels": ["tint"]}
    elif attribute.many:
        assert result["value"] == {"text": ["blue", "red"]}
    else:
        assert result["value"] == {"text": [gold]}
    assert [p["model_version"] for p in task["predictions"]] == ["quorum", *MEMBERS]
    assert task["annotations"][0]["ground_truth"] is True


def test_the_tally_says_what_decisions_changed(votes: Path) -> None:
    with desk(votes, count=4) as at:
        state = at.state("ann", "review")
        for number in range(4):
            first = state["card"]["answer"]
            state = answer(at, state, typed="violet" if number == 0 else first)
        tally = at.report().tally
    assert (tally.cells, tally.accepted, tally.changed) == (4, 3, 1)
    # Equal weights have no probability of being right.
    assert tally.promised is None
    assert sum(tally.right.values()) > 0
