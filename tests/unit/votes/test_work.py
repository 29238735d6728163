# SPDX-License-Identifier: Apache-2.0
"""Work on votes tables: nothing gets lost, differences are named, and no input is overwritten."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.deployment import table, write_deployment, write_jsonl

import quorum
from quorum.votes import Cell, Origin, VotesError, VotesWriter, read_statistic, read_votes

FORMATS = (".jsonl", ".parquet", ".arrow")
MEMBERS = ("a", "b", "c")
ORIGIN = Origin("quorum", 3, 1.5)
FULL = (
    Cell("p1", "shoes", "A “red” shoe", "color", ("red", None, "n/a"), ("red", "rot"), ORIGIN,
         (-0.25, None, -1.0)),
    Cell("p1", "shoes", "A “red” shoe", "size", ("42", "42", "43"), ("n/a",)),
    Cell("p2", "", "", "color", (None, None, None)),
)  # fmt: skip


def write(path: Path, cells: Sequence[Cell] = FULL, members: Sequence[str] = MEMBERS) -> Path:
    with VotesWriter(path) as writer:
        for cell in cells:
            writer.write(cell, members)
    return path


def row(product: str, attribute: str = "color", **votes: str | None) -> dict[str, Any]:
    return {"product": product, "attribute": attribute, "votes": votes}


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_dropping_and_renaming_keep_text_gold_scores_and_origin(
    tmp_path: Path, source: str, target: str
) -> None:
    votes, out = write(tmp_path / f"votes{source}"), tmp_path / f"out{target}"
    report = quorum.drop_members(votes, ["b"], out)
    assert (report.cells, report.members) == (3, ("a", "c"))
    assert read_votes(out).cells == tuple(cell.of_members([0, 2]) for cell in FULL)
    swapped = quorum.rename_members(votes, {"a": "c", "c": "a"}, out)
    assert swapped.members == read_votes(out).members == ("c", "b", "a")
    assert read_votes(out).cells == FULL


def test_fields_of_lines_that_are_no_part_of_a_cell_stay(tmp_path: Path) -> None:
    rows = [row("p1", a="red", b="red") | {"shop": {"id": 7}, "note": None}, row("p2", a="x", b="y")]
    votes, out = write_jsonl(tmp_path / "votes.jsonl", rows), tmp_path / "out.jsonl"
    quorum.drop_members(votes, ["b"], out)
    first, second = map(json.loads, out.read_text("utf-8").splitlines())
    assert (first["shop"], first["note"], first["votes"]) == ({"id": 7}, None, {"a": "red"})
    assert not {"shop", "note"} & second.keys()
    other = write_jsonl(tmp_path / "other.jsonl", [row("p1", c="red") | {"seen": 10**30}])
    quorum.merge_votes([out, other], tmp_path / "all.jsonl")
    merged = json.loads((tmp_path / "all.jsonl").read_text("utf-8").splitlines()[0])
    assert (merged["shop"], merged["seen"]) == ({"id": 7}, 10**30)
    with pytest.raises(
        VotesError, match=r"\['note', 'shop'\] of 'p1', 'color' have no place in a file of col"
    ):
        quorum.drop_members(votes, ["b"], tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_field_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    line = json.dumps(row("p", a="x", b="y") | {"price": 7}).replace("7", "1e999")
    (tmp_path / "votes.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(VotesError, match=r"product 'p', attribute 'color': .* too large for JSON"):
        quorum.drop_members(tmp_path / "votes.jsonl", ["b"], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("ending", FORMATS)
def test_a_new_member_joins_the_cells_and_new_cells_follow(tmp_path: Path, ending: str) -> None:
    old = write(tmp_path / f"old{ending}")
    more = [
        Cell("p2", "hats", "A hat", "color", ("blue",), ("blue",), scores=(-0.5,)),
        Cell("p1", "shoes", "A “red” shoe", "color", ("red",)),
        Cell("p3", "", "", "color", ("green",)),
    ]
    new = write(tmp_path / f"new{ending}", more, ["d"])
    report = quorum.merge_votes([old, new], tmp_path / f"all{ending}")
    merged = read_votes(tmp_path / f"all{ending}")
    assert merged.members == report.members == (*MEMBERS, "d")
    first, second, third, fourth = merged.cells
    assert (first.values, first.scores) == (("red", None, "n/a", "red"), (-0.25, None, -1.0, None))
    assert (first.gold, first.origin) == (FULL[0].gold, FULL[0].origin)
    assert second.values == ("42", "42", "43", None)
    assert (third.category, third.title, third.gold) == ("hats", "A hat", ("blue",))
    assert (third.values, third.scores) == ((None, None, None, "blue"), (None, None, None, -0.5))
    assert fourth.values == (None, None, None, "green")
    assert (report.shared, report.conflicts) == (2, 0)
    assert report.without == {"d": 1, "a": 1, "b": 1, "c": 1}


def test_differences_are_refused_by_line_unless_a_table_is_preferred(tmp_path: Path) -> None:
    old = write_jsonl(tmp_path / "old.jsonl", [row(f"p{n}", a="red", b=None) for n in range(5)])
    new = write_jsonl(tmp_path / "new.jsonl", [row(f"p{n}", b="red", a="blue") for n in range(5)])
    out = tmp_path / "all.jsonl"
    with pytest.raises(VotesError) as caught:
        quorum.merge_votes([old, new], out)
    message = str(caught.value)
    assert (
        f"{new}, line 1 (product 'p0', attribute 'color'): a votes 'blue', in {old}, line 1 'red'" in message
    )
    assert "line 3" in message
    assert "line 4" not in message
    assert "and 2 more. Decide with --prefer" in message
    assert not out.exists()
    for prefer, vote in (("first", "red"), ("last", "blue")):
        report = quorum.merge_votes([old, new], out, prefer=prefer)  # type: ignore[arg-type]
        assert report.conflicts == 5
        assert {cell.values for cell in read_votes(out).cells} == {(vote, "red")}


def test_differing_gold_and_titles_are_differences_too(tmp_path: Path) -> None:
    old = write_jsonl(tmp_path / "old.jsonl", [row("p", a="x") | {"gold": ["x"], "title": "T"}])
    new = write_jsonl(tmp_path / "new.jsonl", [row("p", a="x") | {"gold": ["y"], "title": "U"}])
    with pytest.raises(
        VotesError, match=r"title is 'U'.*; .*gold is \('y',\), in .*old.jsonl, line 1 \('x',\)"
    ):
        quorum.merge_votes([old, new], tmp_path / "all.jsonl")
    quorum.merge_votes([old, new], tmp_path / "all.jsonl", prefer="last")
    (cell,) = read_votes(tmp_path / "all.jsonl").cells
    assert (cell.gold, cell.title) == (("y",), "U")


def test_a_score_stays_with_the_vote_that_has_it(tmp_path: Path) -> None:
    def cells(vote: str, score: float) -> list[Cell]:
        return [Cell("p", "", "", "color", (vote,), scores=(score,))]

    same, out = write(tmp_path / "same.jsonl", cells("red", -2.0), ["a"]), tmp_path / "all.jsonl"
    old, other = (write(tmp_path / f"{v}.jsonl", cells(v, -1.0), ["a"]) for v in ("red", "blue"))
    for sources, prefer, expected in (
        ([old, same], None, -1.0),
        ([old, same], "last", -2.0),
        ([other, same], "first", -1.0),
        ([other, same], "last", -2.0),
    ):
        quorum.merge_votes(sources, out, prefer=prefer)  # type: ignore[arg-type]
        assert read_votes(out).cells[0].scores == (expected,)


def test_a_cell_twice_in_one_table_is_refused_by_line(tmp_path: Path) -> None:
    twice = write_jsonl(tmp_path / "twice.jsonl", [row("p", a="x"), row("q", a="x"), row("p", a="y")])
    other = write_jsonl(tmp_path / "other.jsonl", [row("r", a="x")])
    with pytest.raises(VotesError, match=r"twice.jsonl, line 3: product 'p', .* stood on line 1 already"):
        quorum.merge_votes([other, twice], tmp_path / "all.jsonl", prefer="last")
    found = quorum.votes_info(twice)
    assert (found.duplicates, found.first_duplicates, found.unit) == (1, ((1, 3),), "line")


@pytest.mark.parametrize("ending", FORMATS)
def test_info_counts(tmp_path: Path, ending: str) -> None:
    found = quorum.votes_info(write(tmp_path / f"votes{ending}"))
    assert (found.cells, found.products, found.labels, found.duplicates) == (3, 2, 2, 0)
    assert found.attributes == {"color": 2, "size": 1}
    a, b, c = found.members
    assert (a.member, a.answered, a.not_applicable, a.scored) == ("a", 2 / 3, 0.0, 0.5)
    assert (b.answered, c.not_applicable) == (1 / 3, 0.5)
    assert found.to_json()["members"][2]["scored"] == 0.5


def test_a_table_of_one_cell_over_and_over_is_counted_at_once(tmp_path: Path) -> None:
    """The number of pairs is quadratic; that of duplicates is not."""
    rows = write_jsonl(tmp_path / "same.jsonl", [row("p", a="x")] * 5_000)
    assert quorum.votes_info(rows).duplicates == 4_999


def test_normalising_spells_as_serving_does_and_counts(tmp_path: Path) -> None:
    spec = quorum.load_deployment(
        write_deployment(
            tmp_path,
            {"a": {}},
            attributes={"color": {"values": ["red", "blue"], "synonyms": {"navy": "blue"}}, "brand": {}},
        )
    )
    cells = [
        Cell("p", "", "T", "color", ("Red", "N/A", "mauve"), ("RED", "red"), None, (-1.0, -2.0, -3.0)),
        Cell("q", "", "", "color", ("red", "Navy", None), ("Mauve",)),
        Cell("q", "", "", "brand", ("ACME ", "acme", "unknown")),
    ]
    out = tmp_path / "out.parquet"
    report = quorum.normalise_votes(write(tmp_path / "v.jsonl", cells), spec, out)
    first, second, third = read_votes(out).cells
    assert (first.values, first.gold, first.scores) == (("red", "n/a", None), ("red",), (-1.0, -2.0, None))
    assert (second.values, second.gold) == (("red", "blue", None), ("Mauve",))
    assert third.values == ("acme", "acme", "n/a")
    counts = (report.respelled, report.to_not_applicable, report.outside, report.gold)
    assert counts == (3, 2, 1, 1)
    assert ("color", "mauve", None, 1) in report.examples
    again = quorum.normalise_votes(out, spec, tmp_path / "again.parquet")
    assert (again.respelled, again.to_not_applicable, again.outside, again.gold) == (0, 0, 0, 0)


def test_a_real_table_that_is_dropped_from_and_merged_again_is_the_same(tmp_path: Path) -> None:
    votes = write_jsonl(tmp_path / "votes.jsonl", table(MEMBERS))
    parts = [tmp_path / f"{name}.parquet" for name in "xyz"]
    for part, names in zip(parts, (["b", "c"], ["a", "c"], ["a", "b"]), strict=True):
        quorum.drop_members(votes, names, part)
    quorum.merge_votes(parts, tmp_path / "all.jsonl")
    assert read_votes(tmp_path / "all.jsonl").data_hash() == read_votes(votes).data_hash()


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(("prefer", "kept"), [("first", "red"), ("last", None)])
def test_of_a_cell_that_stands_twice_in_one_table_one_row_stays(
    tmp_path: Path, ending: str, prefer: str, kept: str | None
) -> None:
    again = replace(FULL[0], title="another shoe", values=(None, "blue", "n/a"), scores=())
    twice, once = write(tmp_path / f"a twice{ending}", [*FULL, again]), tmp_path / f"once{ending}"
    command = rf"; keep one of the two: `quorum votes merge '{twice}' --prefer first --out FILE`"
    for read in (read_votes, read_statistic):
        with pytest.raises(VotesError, match=command):
            read(twice)
    report = quorum.merge_votes([twice], once, prefer=prefer)  # type: ignore[arg-type]
    assert (report.cells, report.duplicates, report.conflicts) == (3, 1, 0)
    cells = read_votes(once).cells
    assert cells == (FULL[0] if prefer == "first" else again, *FULL[1:])
    assert cells[0].values[0] == kept
    # Among several tables it is refused: which of the rows would meet the other table's?
    with pytest.raises(VotesError, match=command):
        quorum.merge_votes([twice, once], tmp_path / "all.jsonl", prefer="first")


def test_no_room_for_a_merge_is_an_error_that_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def tiny(*arguments: Any, **named: Any) -> sqlite3.Connection:
        database = connect(*arguments, **named)
        database.execute("PRAGMA max_page_count=8")
        return database

    monkeypatch.setattr(sqlite3, "connect", tiny)
    files = [write_jsonl(tmp_path / f"{name}.jsonl", table(["a"], products=300)) for name in "xy"]
    with pytest.raises(VotesError, match=r"quorum-merge-.*disk is full.*; set TMPDIR"):
        quorum.merge_votes(files, tmp_path / "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()


@pytest.mark.parametrize("name", ["votes.jsonl", "link.jsonl", "hard.jsonl", "./sub/../votes.jsonl"])
def test_no_input_is_overwritten(tmp_path: Path, name: str) -> None:
    votes = write_jsonl(tmp_path / "votes.jsonl", [row("p", a="x", b="y")])
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.jsonl").symlink_to(votes)
    (tmp_path / "hard.jsonl").hardlink_to(votes)
    before, out = votes.read_bytes(), tmp_path / name
    for act in (
        lambda: quorum.drop_members(votes, ["b"], out),
        lambda: quorum.rename_members(votes, {"b": "c"}, out),
        lambda: quorum.merge_votes([votes, votes], out, prefer="last"),
    ):
        with pytest.raises(VotesError, match="is an input of this command"):
            act()
    assert votes.read_bytes() == before


def test_a_table_that_breaks_off_leaves_the_old_output(tmp_path: Path) -> None:
    votes = write_jsonl(tmp_path / "votes.jsonl", [row("p", a="x", b="y"), row("q", a="x")])
    out = tmp_path / "out.jsonl"
    out.write_text("earlier", encoding="utf-8")
    with pytest.raises(VotesError, match=r"votes.jsonl, line 2: members differ"):
        quorum.drop_members(votes, ["b"], out)
    assert out.read_text("utf-8") == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.jsonl", "votes.jsonl"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda v, o: quorum.drop_members(v, ["z"], o), r"no members \['z'\].* are: a, b, c"),
        (lambda v, o: quorum.drop_members(v, ["a", "b", "c"], o), "keep at least one"),
        (lambda v, o: quorum.rename_members(v, {"a": "b"}, o), r"\['b'\] would be named twice"),
        (lambda v, o: quorum.rename_members(v, {"a": ""}, o), "not at all"),
        (lambda v, o: quorum.rename_members(v, {"a": "gold"}, o.with_suffix(".parquet")), "another meaning"),
        (lambda v, o: quorum.merge_votes([v], o), "two votes tables or more"),
        (lambda v, o: quorum.drop_members(v, ["a"], o.with_suffix(".xls")), "cannot tell the format"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, act: Any, message: str) -> None:
    votes, out = write(tmp_path / "votes.jsonl"), tmp_path / "out.jsonl"
    with pytest.raises(VotesError, match=message):
        act(votes, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["votes.jsonl"]
