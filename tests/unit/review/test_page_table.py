# SPDX-License-Identifier: Apache-2.0
"""The table of a review: what it keeps, and which other tables, votes and gold it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.desks import answer, desk
from support.review_page import rows, write_votes

from quorum.review.choose import LabelError
from quorum.review.page.desk import Desk, ReviewOptions
from quorum.review.page.journal import read_journal
from quorum.review.sheet import GoldRow, apply_gold
from quorum.tasks.attribute import Attribute
from quorum.tasks.catalogue import Catalogue
from quorum.votes import read_votes
from quorum.votes import write_votes as write_table


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
