# SPDX-License-Identifier: Apache-2.0
"""The state behind the review page, without a browser: journal, decisions, undo, queue, agreement, table."""

from __future__ import annotations

import errno
import json
import os
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.review_page import MEMBERS, rows, write_votes

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, dump
from quorum.review.choose import LabelError
from quorum.review.page.agreement import agreement_of, agreements
from quorum.review.page.decisions import Decisions
from quorum.review.page.desk import Desk, ReviewOptions
from quorum.review.page.journal import Entry, Journal, read_journal
from quorum.review.page.queue import HOLD_S
from quorum.review.sheet import GoldRow, apply_gold
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.votes import read_votes
from quorum.votes import write_votes as write_table

CLOCK = count(1_000)


def entry(verdict: str, product: str = "", *gold: str, by: str = "ann", mode: Any = "review") -> Entry:
    attribute = "color" if product else ""
    return Entry(float(next(CLOCK)), by, mode, verdict, product, attribute, gold)  # type: ignore[arg-type]


def key(product: str) -> tuple[str, str]:
    return product, "color"


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    return write_votes(tmp_path / "votes.jsonl", rows())


def desk(votes: Path, *reviewers: str, catalogue: Catalogue | None = None, **options: Any) -> Desk:
    ticks = count(2_000, 3)
    return Desk(
        votes,
        votes.with_name("labels.jsonl"),
        ReviewOptions(reviewers=reviewers or ("ann",), **options),
        catalogue,
        lambda: float(next(ticks)),
    )


def shown(state: dict[str, Any]) -> tuple[str, str]:
    return state["card"]["product"], state["card"]["attribute"]


def answer(at: Desk, state: dict[str, Any], **how: str) -> dict[str, Any]:
    return at.decide(state["reviewer"], state["mode"], shown(state), "answer", **how)


# ---- decisions


def test_undo_takes_back_step_by_step_and_an_earlier_answer_counts_again() -> None:
    decisions = Decisions([entry("answer", "p1", "red"), entry("answer", "p1", "blue"), entry("skip", "p2")])
    assert decisions.gold() == {key("p1"): ("blue",)}
    decisions.add(entry("undo"))
    assert set(decisions.of("ann")) == {key("p1")}
    decisions.add(entry("undo"))
    assert decisions.gold() == {key("p1"): ("red",)}
    decisions.add(entry("undo"))
    assert decisions.gold() == {}
    assert decisions.last("ann", "review") is None
    decisions.add(entry("undo"))
    assert decisions.cells() == []


def test_an_undo_is_of_one_person_and_one_mode() -> None:
    decisions = Decisions(
        [
            entry("answer", "p1", "red"),
            entry("answer", "p1", "blue", by="bob"),
            entry("answer", "p1", "green", by="bob", mode="adjudicate"),
            entry("undo", by="bob"),
        ]
    )
    assert [e.gold for e in decisions.on(key("p1")).values()] == [("red",)]
    assert decisions.gold() == {key("p1"): ("green",)}
    decisions.add(entry("undo", by="bob", mode="adjudicate"))
    assert decisions.gold() == {key("p1"): ("red",)}


@pytest.mark.parametrize(
    ("entries", "gold", "is_open"),
    [
        pytest.param([("ann", "answer", "red")], "red", False, id="one person"),
        pytest.param([("ann", "answer", "red"), ("bob", "answer", "red")], "red", False, id="same answer"),
        pytest.param([("ann", "answer", "red"), ("bob", "answer", "blue")], None, True, id="differ"),
        pytest.param([("ann", "answer", "red"), ("bob", "unsure", "")], None, True, id="one is unsure"),
        pytest.param([("ann", "unsure", "")], None, True, id="alone and unsure"),
        pytest.param([("ann", "answer", "red"), ("bob", "skip", "")], "red", False, id="a skip says nothing"),
        pytest.param([("ann", "skip", "")], None, False, id="skipped"),
    ],
)
def test_gold_is_what_all_who_judged_a_cell_say(
    entries: list[tuple[str, str, str]], gold: str | None, is_open: bool
) -> None:
    decisions = Decisions([entry(verdict, "p1", *filter(None, [own]), by=by) for by, verdict, own in entries])
    assert decisions.gold() == ({key("p1"): (gold,)} if gold else {})
    assert list(decisions.open_differences()) == ([key("p1")] if is_open else [])
    if is_open:
        decisions.add(entry("skip", "p1", by="eve", mode="adjudicate"))
        assert list(decisions.open_differences()) == [key("p1")]
        decisions.add(entry("answer", "p1", "green", by="eve", mode="adjudicate"))
        assert decisions.gold() == {key("p1"): ("green",)}
        assert list(decisions.open_differences()) == []


def test_the_same_alternatives_in_another_order_are_no_difference() -> None:
    decisions = Decisions(
        [entry("answer", "p1", "red", "pink"), entry("answer", "p1", "pink", "red", by="bob")]
    )
    assert decisions.gold() == {key("p1"): ("red", "pink")}


MOVES = st.tuples(
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["review", "adjudicate"]),
    st.sampled_from(["answer", "unsure", "skip", "undo"]),
    st.sampled_from(["p1", "p2"]),
    st.sampled_from(["red", "blue"]),
)


def look(decisions: Decisions) -> Any:
    """All that a state says."""
    own = {
        (name, mode): dict(decisions.of(name, mode))
        for name in ("ann", "bob")
        for mode in ("review", "adjudicate")
    }
    return own, decisions.gold(), sorted(decisions.open_differences())


@settings(max_examples=60)
@given(st.lists(MOVES, max_size=12))
def test_an_undo_gives_the_state_before_whatever_was_done(
    moves: list[tuple[str, Any, Any, str, str]],
) -> None:
    decisions, entries = Decisions(), []
    for by, mode, verdict, product, gold in moves:
        if verdict == "undo":
            own = entry("undo", by=by, mode=mode)
        else:
            own = entry(verdict, product, *([gold] if verdict == "answer" else []), by=by, mode=mode)
            before = look(decisions)
            decisions.add(own)
            decisions.add(entry("undo", by=by, mode=mode))
            assert look(decisions) == before
        decisions.add(own)
        entries.append(own)
        assert look(Decisions(entries)) == look(decisions)
    for by in ("ann", "bob"):
        for mode in ("review", "adjudicate"):
            for _ in range(decisions.steps(by, mode)):  # type: ignore[arg-type]
                decisions.add(entry("undo", by=by, mode=mode))
    assert look(decisions) == look(Decisions())


# ---- agreement


def answers(by: str, gold: dict[tuple[str, str], str]) -> dict[tuple[str, str], Entry]:
    return {where: Entry(0.0, by, "review", "answer", *where, (own,)) for where, own in gold.items()}


def test_kappa_is_cohens_on_one_attribute() -> None:
    # Cohen 1960: 50 cells, 20 both yes, 15 both no, 5 and 10 mixed: p_o .7, p_e .5, kappa .4.
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    mine = answers("ann", {(f"p{i}", "a"): own for i, (own, _) in enumerate(pairs)})
    yours = answers("bob", {(f"p{i}", "a"): own for i, (_, own) in enumerate(pairs)})
    found = agreement_of("ann", mine, "bob", yours)
    assert (found.cells, found.agreed) == (50, 35)
    assert found.kappa == pytest.approx(0.4)


def test_other_attributes_do_not_make_chance_look_smaller() -> None:
    # Within each attribute both always give its one answer: nothing is beyond chance.
    cells = {("p1", "a"): "x", ("p2", "a"): "x", ("p1", "b"): "y", ("p2", "b"): "y"}
    found = agreement_of("ann", answers("ann", cells), "bob", answers("bob", cells))
    assert (found.agreed, found.kappa) == (4, None)
    mixed = {("p1", "a"): "x", ("p2", "a"): "z", ("p1", "b"): "y", ("p2", "b"): "y"}
    assert agreement_of("ann", answers("ann", mixed), "bob", answers("bob", mixed)).kappa == pytest.approx(1)


def test_agreement_and_differences_mean_the_same_by_the_same_answer() -> None:
    both = [
        ("p1", ("red", "pink"), ("pink", "red")),
        ("p2", ("red", "pink"), ("red",)),
        ("p3", ("red",), ("red",)),
        ("p4", ("red",), ("red", "blue")),
    ]
    decisions = Decisions(
        [entry("answer", product, *mine) for product, mine, _ in both]
        + [entry("answer", product, *yours, by="bob") for product, _, yours in both]
    )
    (pair,) = agreements(decisions)
    assert list(decisions.open_differences()) == [key("p2"), key("p4")]
    assert (pair.cells, pair.agreed) == (4, 2)


# ---- journal


def test_a_torn_last_line_is_cut_off_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "labels.journal.jsonl"
    kept = [entry("answer", "p1", "red"), entry("unsure", "p2")]
    with Journal(path, "labels.jsonl") as journal:
        for own in kept:
            journal.append(own)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for size in range(last + 1, len(whole)):
        path.write_bytes(whole[:size])
        assert read_journal(path) == kept[:1]
        with Journal(path, "labels.jsonl") as journal:
            assert journal.entries == kept[:1]
            journal.append(kept[1])
        assert path.read_bytes() == whole
    # Killed while the header was written.
    path.write_bytes(whole[:5])
    with Journal(path, "labels.jsonl") as journal:
        assert journal.entries == []
    assert path.read_bytes() == whole[: whole.index(b"\n") + 1]


def test_what_is_no_journal_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "labels.journal.jsonl"
    for text, message in (
        ("my notes", "no journal"),
        ("my notes\nmore\n", "no journal"),
        ('{"review_journal":9}\n', "version 9"),
        ('{"review_journal":1}\n{"at": "x"}\n{}\n', "line 2"),
    ):
        path.write_text(text)
        with pytest.raises(LabelError, match=message):
            Journal(path, "labels.jsonl")
        assert path.read_text() == text


def test_a_full_disk_keeps_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.journal.jsonl"
    write = os.pwrite

    def half(file: int, data: bytes, at: int) -> int:
        if len(data) > 20:
            return write(file, data[:20], at)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(path, "labels.jsonl") as journal:
        before = path.read_bytes()
        monkeypatch.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space") as failed:
            journal.append(entry("answer", "p1", "red"))
        assert failed.value.filename == str(path)
        assert path.read_bytes() == before
        monkeypatch.undo()
        journal.append(entry("answer", "p1", "red"))
    assert [e.gold for e in read_journal(path)] == [("red",)]


# ---- the desk


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


def test_what_is_there_is_not_replaced_and_other_votes_are_refused(votes: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="that is the votes table"):
        Desk(votes, votes, ReviewOptions(reviewers=["ann"]))
    labels = votes.with_name("labels.jsonl")
    labels.write_text("mine")
    with pytest.raises(LabelError, match="exists and may hold answers"):
        desk(votes)
    labels.unlink()
    with pytest.raises(LabelError, match="printable"):
        desk(votes, "ann\n\x00bob")
    with desk(votes) as at:
        with pytest.raises(LabelError, match="another `quorum review` has it open"):
            desk(votes)
        answer(at, at.state("ann", "review"), typed="red")
    other = [row | {"product": "x" + row["product"]} for row in rows()]
    with pytest.raises(LabelError, match="1 of its 1 cells are not in"):
        desk(write_votes(votes, other))


def test_decisions_on_other_texts_under_the_same_names_are_refused(votes: Path) -> None:
    with desk(votes) as at:
        answer(at, at.state("ann", "review"), typed="red")
        at.save()
    tuesday = write_votes(votes.with_name("tuesday.jsonl"), [r | {"title": "another"} for r in rows()])
    for table in (False, True):
        if not table:
            votes.with_name("labels.jsonl").rename(votes.with_name("kept"))
        else:
            votes.with_name("kept").rename(votes.with_name("labels.jsonl"))
        with pytest.raises(LabelError, match=r"1 of its 1 cells have another text in .*tuesday"):
            Desk(tuesday, votes.with_name("labels.jsonl"), ReviewOptions(reviewers=["ann"]))
    with desk(votes) as at:
        assert at.state("ann", "review")["progress"]["done"] == 1


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        pytest.param("red\x00", "control character", id="NUL"),
        pytest.param("\x1b[31mred", "control character", id="an escape sequence"),
        pytest.param("red \u202eder", "direction", id="an override of direction"),
        pytest.param("red\u2066", "direction", id="an isolate"),
        pytest.param("red\nblue", "several lines", id="a line feed"),
        pytest.param("red\u2028blue", "several lines", id="a line separator"),
        pytest.param("x" * 50_000, "50000 characters", id="too long"),
        pytest.param(" | | | ", "is no answer|between two bars", id="bars alone"),
        pytest.param("red | |", "is no answer|between two bars", id="a bar alone"),
    ],
)
@pytest.mark.parametrize("kind", ["", "value", "values", "text"])
def test_gold_that_no_vote_can_be_is_refused(votes: Path, typed: str, message: str, kind: str) -> None:
    attributes = {
        "value": Attribute("color"),
        "values": Attribute("color", many=True),
        "text": Attribute("color", kind="text"),
    }
    catalogue = Catalogue.of([attributes[kind]]) if kind else None
    with desk(votes, catalogue=catalogue) as at:
        state = at.state("ann", "review")
        if kind.startswith("value") and message in ("control character", "direction"):
            # Values are spelled as votes are, without such characters.
            answer(at, state, typed=typed)
            assert all(value.isprintable() for value in read_journal(at.journal_path)[0].gold)
        elif kind != "text" or "bar" not in message:
            with pytest.raises(LabelError, match=message):
                answer(at, state, typed=typed)
            assert read_journal(at.journal_path) == []


def labelled(votes: Path, out: Path) -> bytes:
    """A table with gold that people made without a review."""
    table = read_votes(votes)
    rows = [GoldRow(cell.product, cell.attribute, ("red",), i) for i, cell in enumerate(table.cells, 1)]
    write_table(apply_gold(table, rows).table, out)
    return out.read_bytes()


@pytest.mark.parametrize("decided", [False, True])
def test_gold_from_elsewhere_stays(votes: Path, decided: bool) -> None:
    with desk(votes) as at:
        if decided:
            answer(at, at.state("ann", "review"), typed="blue")
    out = votes.with_name("labels.jsonl")
    before = labelled(votes, out)
    journal = at.journal_path.read_bytes()
    message = "60 of its 60 labels are from elsewhere" if decided else "exists and may hold answers"
    with pytest.raises(LabelError, match=message):
        desk(votes)
    assert (out.read_bytes(), at.journal_path.read_bytes()) == (before, journal)


def test_a_table_that_somebody_writes_meanwhile_stays(votes: Path) -> None:
    with desk(votes) as at:
        answer(at, at.state("ann", "review"), typed="blue")
        before = labelled(votes, at.out)
        with pytest.raises(LabelError, match="somebody else has written it"):
            at.save()
        assert at.out.read_bytes() == before
        at.out.unlink()
        assert at.save() == 1
        assert at.save() == 1
        before = labelled(votes, at.out)
        with pytest.raises(LabelError, match="somebody else has written it"):
            at.save()
        assert at.out.read_bytes() == before


@pytest.mark.parametrize("decided", [False, True])
def test_a_journal_is_of_one_table(votes: Path, decided: bool) -> None:
    with desk(votes) as at:
        if decided:
            answer(at, at.state("ann", "review"), typed="red")
    out = votes.with_name("labels.parquet")
    with pytest.raises(LabelError, match=r"is the journal of labels.jsonl, not of labels.parquet"):
        Desk(votes, out, ReviewOptions(reviewers=["ann"]))
    before = labelled(votes, out)
    with pytest.raises(LabelError, match=r"exists and may hold|is the journal of labels.jsonl"):
        Desk(votes, out, ReviewOptions(reviewers=["ann"]))
    assert out.read_bytes() == before


def test_a_review_goes_on_from_a_table_in_columns(votes: Path) -> None:
    out = votes.with_name("labels.parquet")
    for _ in range(2):
        with Desk(votes, out, ReviewOptions(reviewers=["ann"])) as at:
            answer(at, at.state("ann", "review"), typed="red | dark red")
            at.save()
    assert read_votes(out).labelled.sum() == 2


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
