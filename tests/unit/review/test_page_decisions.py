# SPDX-License-Identifier: Apache-2.0
"""Decisions of reviewers: undo, gold, agreement, and the journal that keeps them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.desks import entry, key

from quorum.review.choose import LabelError
from quorum.review.page.agreement import agreement_of, agreements
from quorum.review.page.decisions import Decisions
from quorum.review.page.journal import Entry, Journal, read_journal


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
