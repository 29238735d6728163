# SPDX-License-Identifier: Apache-2.0
"""Votes tables that are wrong or teach little: `learn` and `evaluate` name the row, or say what lacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorum.votes.schema import how_to_fit

MEMBERS = ("alpha", "beta", "gamma")
Rows = list[dict[str, Any]]
Change = Callable[[Rows], None]


def rows() -> Rows:
    return [
        {
            "product": f"p{i // 2}",
            "attribute": ["colour", "size"][i % 2],
            "gold": ["x"] if i % 3 else ["y"],
            "votes": {name: "x" if (i + j) % 4 else "y" for j, name in enumerate(MEMBERS)},
        }
        for i in range(60)
    ]


def vote(row: int, value: object, member: str = "alpha") -> Change:
    def change(table: Rows) -> None:
        table[row]["votes"][member] = value

    return change


def all_votes(value: object, attribute: str = "", members: tuple[str, ...] = MEMBERS) -> Change:
    def change(table: Rows) -> None:
        for row in table:
            if row["attribute"] == attribute or not attribute:
                row["votes"] |= dict.fromkeys(members, value)

    return change


def write_jsonl(folder: Path, change: Change | None = None) -> Path:
    table = rows()
    if change:
        change(table)
    path = folder / "v.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return path


def write_parquet(folder: Path, change: Change | None = None) -> Path:
    pa = pytest.importorskip("pyarrow", reason="pip install 'quorum[arrow]'", exc_type=ImportError)
    parquet = pytest.importorskip("pyarrow.parquet")
    table = rows()
    if change:
        change(table)
    columns: dict[str, Any] = {
        name: [row[name] for row in table] for name in ("product", "attribute", "gold")
    }
    columns |= {name: [row["votes"].get(name) for row in table] for name in table[0]["votes"]}
    parquet.write_table(pa.table(columns), folder / "v.parquet")
    return folder / "v.parquet"


def refused(run: Any, command: list[Any]) -> str:
    code, _, error = run(*command)
    assert code != 0
    return " ".join(error.split())


@pytest.mark.parametrize("command", [["learn"], ["evaluate"]])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.insert(9, table[4]), "line 10: product 'p2', attribute 'colour' stood on"),
        (vote(5, "x", "zed"), "line 6: members differ from the first line: unknown ['zed"),
        (lambda table: table[5]["votes"].pop("beta"), "line 6: members differ from the first line"),
        (vote(7, float("nan")), "line 8: NaN is not a JSON value; write null"),
        (vote(7, 5), "line 8: votes['alpha'] is 5"),
        (lambda table: table[7].update(product=5), "line 8: `product` is 5"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(run: Any, folder: Path, command: list[str], change: Change, words: str) -> None:
    assert words in refused(run, [*command, write_jsonl(folder, change)])


@pytest.mark.parametrize("command", [["learn"], ["evaluate"]])
def test_a_table_that_was_cut_off(run: Any, folder: Path, command: list[str]) -> None:
    path = write_jsonl(folder)
    path.write_text(path.read_text("utf-8")[:-20], encoding="utf-8")
    assert "v.jsonl, line 60: not JSON" in refused(run, [*command, path])


@pytest.fixture(params=[False, True])
def streamed(request: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether columns are learned from in a stream, as large files are, or as a table."""
    if request.param:
        monkeypatch.setattr("quorum.votes.read.LARGE", 0)
    return bool(request.param)


@pytest.mark.parametrize("command", ["learn", "evaluate"])
@pytest.mark.usefixtures("streamed")
def test_bad_rows_and_files_in_columns(run: Any, folder: Path, command: str) -> None:
    path = write_parquet(folder, lambda table: table.insert(9, table[4]))
    words = "v.parquet, row 10: product 'p2', attribute 'colour' stood"
    assert words in refused(run, [command, path])
    path = write_parquet(folder, vote(7, ""))
    assert "v.parquet, row 8: column 'alpha' holds an empty text" in refused(run, [command, path])
    path = write_parquet(folder, all_votes(float("nan"), members=("beta",)))
    assert "column 'beta' is double; text is needed" in refused(run, [command, path])
    path = write_parquet(folder)
    path.write_bytes(path.read_bytes()[:-50])
    assert "v.parquet: cannot be read as Parquet or Arrow" in refused(run, [command, path])
    write_jsonl(folder).replace(path)
    assert "these are JSON lines: name the file .jsonl" in refused(run, [command, path])


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (all_votes(None, members=("beta",)), "never answered: beta"),
        (all_votes("n/a", "size"), "no member ever named a value, only n/a: size"),
        (lambda table: [row.update(gold=["z"]) for row in table[:10]] and None,
         "gold labels are answers that no member named"),
    ],
)  # fmt: skip
def test_what_the_votes_cannot_teach_is_said(
    run: Any, folder: Path, write: Any, change: Change, words: str
) -> None:
    code, _, error = run("learn", write(folder, change), "--method", "loglinear")
    assert code == 0
    assert words in " ".join(error.split())


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_fewer_than_three_that_answer_cannot_teach_without_gold(run: Any, folder: Path, write: Any) -> None:
    path = write(folder, all_votes(None, members=("beta",)))
    assert "2 of 3 members ever answered" in refused(run, ["learn", path, "--method", "em"])


@pytest.mark.usefixtures("streamed")
def test_a_column_of_an_unknown_member_is_refused_by_name(run: Any, folder: Path) -> None:
    spec = folder / "deploy.yaml"
    member = "  - name: {}\n    runtime: replay\n    options: {{votes: v.jsonl}}\n"
    members = "".join(member.format(name) for name in MEMBERS)
    spec.write_text(f"attributes: {{colour: {{}}}}\nmembers:\n{members}", "utf-8")
    write_jsonl(folder)
    path = write_parquet(folder, lambda table: [row["votes"].update(zed="x") for row in table] and None)
    error = refused(run, ["learn", path, "--deploy", spec])
    assert "votes of alpha, beta, gamma, zed, wanted are votes of alpha, beta, gamma:" in error
    assert "leave out zed: `quorum votes drop VOTES zed --out FEWER`" in error
    path = write_parquet(folder, lambda table: [row["votes"].pop("gamma") for row in table] and None)
    error = refused(run, ["learn", path, "--deploy", spec])
    assert "votes of alpha, beta, wanted are votes of alpha, beta, gamma:" in error
    assert "ask gamma: `quorum extract LISTINGS --only gamma --votes VOTES`" in error
    path = write_parquet(folder, lambda table: [row.update(votes={"zed": "x"}) for row in table] and None)
    error = refused(run, ["learn", path, "--deploy", spec])
    assert "these are votes of another deployment; name it by --deploy, or work in a folder without" in error
    both = how_to_fit(["alpha", "the old"], ["alpha", "gamma"])
    assert "`quorum votes drop VOTES 'the old' --out FEWER`; then ask gamma:" in both
    assert both.endswith("`quorum extract LISTINGS --only gamma --votes FEWER`")
    assert run("learn", write_parquet(folder), "--deploy", spec)[0] == 0


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_spellings_of_one_answer_are_named_in_one_note(run: Any, folder: Path, write: Any) -> None:
    path, words = write(folder), "'Big Blue' and 'big blue', count as different answers in 2 cells"
    (folder / "deploy.yaml").unlink()
    assert "spellings" not in run("learn", path, "-o", "w.json")[2]

    def spell(table: Rows) -> None:
        for row in (3, 8):
            table[row]["votes"] |= {"alpha": "Big Blue", "beta": "big blue"}
        table[0]["gold"] = []

    path = write(folder, spell)
    commands: tuple[list[Any], ...] = (
        ["learn", path, "-o", "v.json"],
        ["evaluate", path, "--methods", "majority"],
        ["evaluate", path, "--weights", "w.json"],
        ["drift", "w.json", path],
        ["label", path, "--force"],
    )
    with pytest.MonkeyPatch.context() as patch:
        for large in (1 << 18, 0):
            patch.setattr("quorum.votes.read.LARGE", large)
            for command in commands if large else commands[:1]:
                code, _, error = run(*command)
                told = " ".join(error.split())
                assert code == 0 or command[0] == "drift", error
                assert told.count(words) == 1, command
                assert "`quorum votes normalise`" in told
