# SPDX-License-Identifier: Apache-2.0
"""`quorum label`: a sheet out, a sheet in, and questions in the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quorum.cli import app
from quorum.review.choose import choose
from quorum.votes import Cell, read_votes

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def typed(folder: Path) -> Ask:
    """Run a command with lines typed into it: exit code and what was shown."""

    def invoke(lines: list[str], *arguments: Any) -> tuple[int, str]:
        given = "".join(f"{line}\n" for line in lines)
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=given)
        assert not result.exception or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return invoke


def new_gold(folder: Path, name: str = "votes-gold.jsonl") -> dict[tuple[str, str], tuple[str, ...]]:
    """Gold that the first table has not."""
    had = {(c.product, c.attribute) for c in read_votes(folder / "votes.jsonl").cells if c.gold}
    cells = read_votes(folder / name).cells
    return {(c.product, c.attribute): c.gold for c in cells if c.gold and (c.product, c.attribute) not in had}


def by_size(cell: Cell) -> list[str]:
    """The candidates as they are numbered: those that most members named come first."""
    values = [value for value in cell.values if value is not None]
    return sorted(dict.fromkeys(values), key=lambda value: -values.count(value))


def fill(folder: Path, answers: dict[int, str]) -> list[dict[str, str]]:
    with (folder / "label.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for index, gold in answers.items():
        rows[index]["gold"] = gold
    with (folder / "label.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_a_sheet_goes_out_and_its_gold_comes_in(folder: Path, run: Any) -> None:
    code, out, err = run("label", "votes.jsonl", "-n", "6", "--json")
    assert code == 0, err
    sheet = json.loads(out)
    assert (sheet["out"], sheet["cells"]) == ("label.csv", 6)
    table = read_votes(folder / "votes.jsonl")
    assert {need["attribute"]: need["labels"] for need in sheet["needs"]} == {
        name: sum(bool(cell.gold) for cell in table.cells if cell.attribute == name)
        for name in {cell.attribute for cell in table.cells}
    }
    rows = fill(folder, {0: "red | blue", 2: "N/A"})
    code, out, err = run("label", "votes.jsonl", "--apply", "label.csv", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["added"], told["same"], told["conflicts"], told["unknown"]) == (2, 0, [], [])
    assert told["gold_labels"] == int(read_votes(folder / "votes.jsonl").labelled.sum()) + 2
    assert new_gold(folder) == {
        (rows[0]["product"], rows[0]["attribute"]): ("red", "blue"),
        (rows[2]["product"], rows[2]["attribute"]): ("n/a",),
    }


def test_gold_is_spelled_as_votes_are(folder: Path, run: Any) -> None:
    text = (folder / "deploy.yaml").read_text("utf-8")
    closed = "color:\n    values: [red, blue]\n    synonyms: {Crimson: red}\n"
    (folder / "deploy.yaml").write_text(text.replace("color: {}\n", closed), encoding="utf-8")
    sheet = "product,attribute,gold\np0,color,CRIMSON | Blue\np0,brand, Big  Brand\n"
    (folder / "label.csv").write_text(sheet, encoding="utf-8")
    code, _, err = run("label", "votes.jsonl", "--apply", "label.csv")
    assert code == 0, err
    assert new_gold(folder) == {("p0", "color"): ("red", "blue"), ("p0", "brand"): ("big brand",)}
    (folder / "deploy.yaml").unlink()
    assert run("label", "votes.jsonl", "--apply", "label.csv", "--force")[0] == 0
    assert new_gold(folder)["p0", "color"] == ("CRIMSON", "Blue")


def test_gold_outside_a_closed_set_is_not_taken(folder: Path, run: Any, typed: Ask) -> None:
    text = (folder / "deploy.yaml").read_text("utf-8")
    closed = "color:\n    values: [red, dark blue, green]\n"
    (folder / "deploy.yaml").write_text(text.replace("color: {}\n", closed), encoding="utf-8")
    table = read_votes(folder / "votes.jsonl")
    bare = next(c.product for c in table.cells if c.attribute == "color" and not c.gold and c.product != "p0")
    sheet = f"product,attribute,gold\np0,color,red | Darkblue\np0,brand,big\n{bare},color,N/A\n"
    sheet += f"{bare},brand,{'x' * 129}\n"
    (folder / "label.csv").write_text(sheet, encoding="utf-8")
    code, _, err = run("label", "votes.jsonl", "--apply", "label.csv")
    assert code == 0, err
    told = " ".join(err.split())
    assert "row 5: a value of 129 characters for brand; give at most 128" in told
    assert "label.csv, row 2: 'Darkblue' is no value of color: 'red', 'dark blue', 'green', or" in told
    assert "did you mean 'dark blue'?" in told
    assert "2 rows are left out" in told
    assert new_gold(folder) == {("p0", "brand"): ("big",), (bare, "color"): ("n/a",)}
    # In the terminal the same cell is asked again.
    first = next(i for i, c in enumerate(choose(table, 20)) if table.cells[c.index].attribute == "color")
    lines = [""] * first + ["mauve", "Green", "q"]
    code, shown = typed(lines, "label", "votes.jsonl", "-n", "20", "--ask", "-o", "asked.jsonl")
    assert code == 0, shown
    assert "'mauve' is no value of color" in shown
    assert list(new_gold(folder, "asked.jsonl").values()) == [("green",)]


def test_conflicts_and_cells_that_are_not_there_are_told(folder: Path, run: Any) -> None:
    labelled = next(cell for cell in read_votes(folder / "votes.jsonl").cells if cell.gold)
    sheet = f"product,attribute,gold\n{labelled.product},{labelled.attribute},other\nnobody,color,red\n"
    (folder / "label.csv").write_text(sheet, encoding="utf-8")
    code, _, err = run("label", "votes.jsonl", "--apply", "label.csv")
    assert code == 1
    assert f"label.csv, row 2: {labelled.product}, {labelled.attribute}: other is not taken" in err
    assert "label.csv, row 3: nobody, color: no such cell" in err
    assert "1 conflict, 1 cell that the table has not" in err
    assert "no label added: votes.jsonl is as it was, and nothing was written" in err
    assert not (folder / "votes-gold.jsonl").exists()
    (folder / "label.csv").write_text(
        "product,attribute,gold\n" + "".join(f"nobody {i},color,red\n" for i in range(6)), encoding="utf-8"
    )
    code, _, err = run("label", "votes.jsonl", "--apply", "label.csv", "--force")
    assert code == 1
    assert err.count("no such cell") == 5
    assert "\nand 1 more\n0 conflicts, 6 cells that" in err


def test_a_sheet_without_gold_writes_nothing(folder: Path, run: Any) -> None:
    assert run("label", "votes.jsonl", "-n", "4")[0] == 0
    code, _, err = run("label", "votes.jsonl", "--apply", "label.csv")
    assert code == 1
    assert "label.csv: no row has anything in its column `gold`" in " ".join(err.split())
    assert not (folder / "votes-gold.jsonl").exists()


def test_what_was_applied_left_and_written_is_told(folder: Path, run: Any) -> None:
    before = (folder / "votes.jsonl").read_bytes()
    assert run("label", "votes.jsonl", "-n", "4")[0] == 0
    fill(folder, {1: "red"})
    code, _, err = run("label", "votes.jsonl", "--apply", "label.csv")
    assert code == 0
    assert "3 rows of label.csv without gold: left unlabelled" in err
    assert "wrote votes-gold.jsonl (votes.jsonl is as it was); next: `quorum learn votes-gold.jsonl`" in err
    assert (folder / "votes.jsonl").read_bytes() == before
    # The same sheet again adds nothing to the table that has its gold.
    code, out, _ = run("label", "votes-gold.jsonl", "--apply", "label.csv", "-o", "again.jsonl", "--json")
    told = json.loads(out)
    assert (code, told["same"], told["added"], told["empty"], told["out"]) == (0, 1, 0, 3, None)
    assert not (folder / "again.jsonl").exists()


def test_questions_are_answered_by_number_text_dash_or_not_at_all(folder: Path, typed: Ask) -> None:
    code, shown = typed(["1", "", "-", "=1", "Some Thing", "q"], "label", "votes.jsonl", "-n", "6", "--ask")
    assert code == 0, shown
    assert "4 labels added" in shown
    assert "alpha" in shown
    table = read_votes(folder / "votes.jsonl")
    asked = [table.cells[choice.index] for choice in choose(table, 6)]
    assert new_gold(folder) == {
        (asked[0].product, asked[0].attribute): (by_size(asked[0])[0],),
        (asked[2].product, asked[2].attribute): ("n/a",),
        (asked[3].product, asked[3].attribute): ("1",),
        (asked[4].product, asked[4].attribute): ("some thing",),
    }


def test_every_answer_is_saved_before_the_next_question(
    folder: Path, typed: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the session, here the end of the input, costs nothing that was answered."""
    code, shown = typed(["1", "1"], "label", "votes.jsonl", "-n", "5", "--ask", "--out", "mine.jsonl")
    assert code == 0, shown
    assert len(new_gold(folder, "mine.jsonl")) == 2
    code, shown = typed(["1"], "label", "mine.jsonl", "-n", "5", "--ask", "--out", "mine.jsonl")
    assert code == 0, shown
    assert len(new_gold(folder, "mine.jsonl")) == 3
    assert list(folder.glob(".*.jsonl")) == []


def test_a_session_without_answers_writes_nothing(folder: Path, typed: Ask) -> None:
    code, shown = typed(["", "q"], "label", "votes.jsonl", "--ask")
    assert code == 1
    assert "nothing was answered" in shown
    assert not (folder / "votes-gold.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["votes.jsonl", "--out", "there.csv"], ["there.csv", "exists", "--force"]),
        (["votes.jsonl", "--ask", "--out", "there.csv"], ["there.csv", "exists", "--force"]),
        (["votes.jsonl", "--out", "votes.jsonl"], ["votes.jsonl", "the votes table"]),
        (["votes.jsonl", "--apply", "nowhere.csv"], ["nowhere.csv"]),
        (["votes.jsonl", "--apply", "there.csv"], ["there.csv", "gold"]),
        (["votes.jsonl", "--apply", "there.csv", "--ask"], ["--apply", "--ask"]),
        (["nowhere.jsonl"], ["nowhere.jsonl"]),
        (["votes.jsonl", "--weights", "nowhere.json"], ["nowhere.json"]),
        (["done.jsonl"], ["done.jsonl", "nothing is left"]),
    ],
)
def test_mistakes_are_named_and_nothing_is_lost(
    folder: Path, run: Any, arguments: list[str], words: list[str]
) -> None:
    (folder / "there.csv").write_text("somebody's answers\n", encoding="utf-8")
    row = {"product": "p", "attribute": "a", "gold": ["x"], "votes": {"alpha": "x"}}
    (folder / "done.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    before = (folder / "votes.jsonl").read_bytes()
    code, out, err = run("label", *arguments)
    assert (code, out) == (1, "")
    assert all(word in err for word in words), err
    assert (folder / "there.csv").read_text("utf-8") == "somebody's answers\n"
    assert (folder / "votes.jsonl").read_bytes() == before


def test_nothing_is_written_next_to_votes_of_another_folder(folder: Path, run: Any) -> None:
    theirs = folder / "theirs"
    theirs.mkdir()
    (folder / "votes.jsonl").rename(theirs / "votes.jsonl")
    assert run("label", "theirs/votes.jsonl", "-n", 2)[0] == 0
    sheet = folder / "label.csv"
    rows = list(csv.DictReader(io.StringIO(sheet.read_text("utf-8-sig"))))
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(row | {"gold": "n/a"} for row in rows)
    code, _, err = run("label", "theirs/votes.jsonl", "--apply", "label.csv")
    assert code == 0, err
    assert "wrote votes-gold.jsonl (theirs/votes.jsonl is as it was)" in err
    assert [path.name for path in theirs.iterdir()] == ["votes.jsonl"]
    assert (folder / "votes-gold.jsonl").exists()
