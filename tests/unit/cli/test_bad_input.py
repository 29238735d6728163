# SPDX-License-Identifier: Apache-2.0
"""Whatever people type or hand over, the answer names what, where and what next; never a traceback."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from quorum.cli import app
from quorum_client import (
    Answer,
    Client,
    Extraction,
    Status,
    Vote,
)

FILES: dict[str, bytes] = {
    "ok.csv": b"title\na shoe\n",
    "notext.csv": b"product,price\np1,7\n",
    "empty.csv": b"",
    "header.csv": b"title\n",
    "short.csv": b"category,title\nshoes\n",
    "open.csv": b'title\n"a shoe\na hat\n',
    "cut.csv.gz": gzip.compress(b"title\na shoe\n")[:-8],
    "gold.csv": b"title,gold\na shoe,{not json\n",
    "listgold.jsonl": b'{"title": "a shoe", "gold": ["red"]}\n',
    "textgold.jsonl": b'{"title": "a shoe", "gold": {"color": "red"}}\n',
    "cut.jsonl": b'{"title": "a shoe"}\n{"title": "a h',
    "list.jsonl": b'["a shoe"]\n',
    "number.jsonl": b'{"title": 7}\n',
    "mixed.jsonl": b'{"title": "a shoe"}\n{"name": "a hat"}\n',
    "table.xlsx": b"PK",
    "clash.csv": b"title,color\na shoe,red\n",
    "bad.json": b"{",
    "votes.txt": b"hello\n",
}

CASES: dict[str, tuple[list[str], list[str]]] = {
    "no deploy file": (["validate", "-d", "nowhere.yaml"], ["nowhere.yaml", "--deploy"]),
    "render of no deploy file": (["render", "-d", "nowhere.yaml"], ["nowhere.yaml", "--deploy"]),
    "extract to nowhere": (["extract", "ok.csv"], ["--out", "--votes"]),
    "extract of a missing file": (["extract", "nowhere.csv", "-o", "o.csv"], ["nowhere.csv"]),
    "extract of a folder": (["extract", ".", "-o", "o.csv"], ["."]),
    "extract of an unknown kind": (
        ["extract", "table.xlsx", "-o", "o.csv"],
        ["table.xlsx", ".xlsx", ".csv, .tsv, .jsonl or .parquet"],
    ),
    "extract to an unknown kind": (["extract", "ok.csv", "-o", "o.xml"], ["o.xml", ".xml", ".csv, .jsonl"]),
    "extract to a missing folder": (["extract", "ok.csv", "-o", "no/such/o.csv"], ["no/such/o.csv"]),
    "no text column": (
        ["extract", "notext.csv", "-o", "o.csv"],
        ["notext.csv", "title", "product, price", "--text"],
    ),
    "a wrong text column": (
        ["extract", "ok.csv", "-o", "o.csv", "--text", "body"],
        ["ok.csv", "'body'", "title"],
    ),
    "a wrong id column": (
        ["extract", "notext.csv", "-o", "o.csv", "--text", "price", "--id", "sku"],
        ["notext.csv", "'sku'", "--id", "product, price"],
    ),
    "no rows": (["extract", "header.csv", "-o", "o.csv"], ["header.csv", "no rows"]),
    "an empty file": (["extract", "empty.csv", "-o", "o.csv"], ["empty.csv", "is empty"]),
    "a row without its text": (["extract", "short.csv", "-o", "o.csv"], ["short.csv", "row 1", "1 cells"]),
    "a quote that is open": (
        ["extract", "open.csv", "-o", "o.csv", "--max-bad", "0"],
        ["open.csv", "row 1 (line 2)", "a quote is not closed"],
    ),
    "an archive cut off": (["extract", "cut.csv.gz", "-o", "o.csv"], ["cut.csv.gz", "is it cut off?"]),
    "gold that is no JSON": (["extract", "gold.csv", "-o", "o.csv"], ["gold.csv", "row 1", "gold"]),
    "gold that is a list": (
        ["extract", "listgold.jsonl", "-o", "o.csv"],
        ["listgold.jsonl", "row 1", "gold"],
    ),
    "gold that is no list": (
        ["extract", "textgold.jsonl", "-o", "o.csv"],
        ["textgold.jsonl", "row 1", "gold", "'color'"],
    ),
    "a line cut off": (
        ["extract", "cut.jsonl", "-o", "o.csv", "--max-bad", "0"],
        ["cut.jsonl", "row 2", "JSON"],
    ),
    "a line that is a list": (["extract", "list.jsonl", "-o", "o.csv"], ["list.jsonl", "row 1", "object"]),
    "a text that is a number": (["extract", "number.jsonl", "-o", "o.csv"], ["number.jsonl", "row 1", "7"]),
    "a row with other keys": (
        ["extract", "mixed.jsonl", "-o", "o.csv", "--max-bad", "0"],
        ["mixed.jsonl", "row 2", "'title'"],
    ),
    "a column in the way": (["extract", "clash.csv", "-o", "o.csv"], ["'color'", "rename"]),
    "one file for both": (
        ["extract", "ok.csv", "-o", "o.jsonl", "--votes", "o.jsonl"],
        ["o.jsonl", "--votes"],
    ),
    "the input as output": (["extract", "ok.csv", "-o", "ok.csv"], ["ok.csv", "--out"]),
    "attributes that are none": (["ask", "a shoe", "-a", " , "], ["--attributes"]),
    "an attribute twice": (["ask", "a shoe", "-a", "color,color"], ["'color'"]),
    "65 attributes": (["ask", "a shoe", "-a", ",".join(f"a{i}" for i in range(65))], ["65", "64"]),
    "an empty text": (["ask", " "], ["TEXT", "empty"]),
    "a url with a scheme": (
        ["ask", "a shoe", "--url", "http://localhost:1"],
        ["http://localhost:1", "host:port"],
    ),
    "a timeout of nothing": (["ask", "a shoe", "--timeout", "0"], ["timeout_s"]),
    "learn from nothing": (["learn", "nowhere.jsonl"], ["nowhere.jsonl"]),
    "learn from other text": (["learn", "votes.txt"], ["votes.txt"]),
    "learn by an unknown method": (["learn", "votes.jsonl", "--method", "magic"], ["magic", "loglinear"]),
    "publish of nothing": (["publish", "nowhere.json"], ["nowhere.json", "quorum learn"]),
    "publish of damage": (["publish", "bad.json"], ["bad.json", "quorum learn"]),
    "promote without a server": (["promote", "2"], ["127.0.0.1:9", "quorum up"]),
    "rollback without a server": (["rollback"], ["127.0.0.1:9", "quorum up"]),
    "up without render": (["up"], ["quorum render"]),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_name_what_where_and_what_next(folder: Path, run: Any, case: str) -> None:
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    if "rollback" in case or "promote" in case:
        assert run("render")[0] == 0
    arguments, words = CASES[case]
    # What is wrongly accepted shall not wait for a server.
    arguments = [*arguments, "--patience", "0"] if arguments[0] == "extract" else arguments
    code, out, err = run(*arguments)
    assert code == 1, err
    assert out == ""
    said = " ".join(err.split())
    assert said.startswith("error:") or "error: " in said
    assert all(word in said for word in words), said
    assert (folder / "ok.csv").read_bytes() == FILES["ok.csv"]


@pytest.mark.parametrize(
    "action", [["publish", "weights.json"], ["promote", "1"], ["rollback"], ["history"], ["status"]]
)
def test_a_deployment_that_was_never_rendered_gives_words_too(
    folder: Path, run: Any, action: list[str]
) -> None:
    assert run("learn", "votes.jsonl", "--out", "weights.json")[0] == 0
    code, _, err = run(*action)
    assert code == (0 if action == ["history"] else 1), err


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask"],
        ["extract"],
        ["promote"],
        ["promote", "two"],
        ["nonsense"],
        ["ask", "x", "--colour"],
        ["probe", "--http", "99999"],
        ["up", "--probe-port", "-1"],
        ["canary", "nonsense"],
    ],
)
def test_wrong_usage_exits_with_two(run: Any, arguments: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert "Usage" in err


def test_an_unknown_weight_format_is_refused_before_anything_is_built(run: Any) -> None:
    code, out, err = run("build", ".", "out", "--weight-format", "int1")
    assert (code, out) == (2, "")
    assert "building" not in err
    assert all(word in err for word in ("--weight-format", "'int1'", "'int8'"))


def test_every_command_has_help_with_an_example(run: Any) -> None:
    names = [c.name or c.callback.__name__ for c in app.registered_commands]  # type: ignore[union-attr]
    assert {"up", "status", "ask", "extract", "learn", "publish", "render", "validate"} <= set(names)
    for name in names:
        code, out, _ = run(name, "--help")
        assert code == 0
        assert "Example" in out, name


def test_messages_with_brackets_are_printed_whole(folder: Path, run: Any) -> None:
    _, _, err = run("validate", "-d", "no[bold]w[/]here.yaml")
    assert "no[bold]w[/]here.yaml" in err


def test_json_is_json(folder: Path, run: Any) -> None:
    valid = json.loads(run("validate", "--json")[1])
    assert valid == {
        "valid": True,
        "members": ["alpha", "beta", "gamma"],
        "attributes": ["brand", "color", "size"],
    }
    code, out, _ = run("render", "--check", "--json")
    assert (code, json.loads(out)["clean"]) == (1, False)
    assert json.loads(run("render", "--json")[1])["write"]
    code, out, _ = run("render", "--check", "--json")
    assert (code, json.loads(out)) == (0, {"clean": True, "write": [], "remove": [], "misfits": {}})
    learned = json.loads(run("learn", "votes.jsonl", "--json")[1])
    assert learned["content_hash"].startswith("sha256:")
    assert [event["action"] for event in json.loads(run("history", "--json")[1])] == ["render"]


def test_validate_names_files_that_are_missing(folder: Path, run: Any) -> None:
    (folder / "votes.jsonl").unlink()
    code, _, err = run("validate")
    assert code == 1
    assert "members[0].options.votes" in err
    assert "members[2].options.votes" in err


def test_an_output_file_is_left_alone_when_nobody_answers(folder: Path, run: Any) -> None:
    (folder / "in.csv").write_text("title\na shoe\n", encoding="utf-8")
    (folder / "out.csv").write_text("yesterday's answers\n", encoding="utf-8")
    code, _, err = run("extract", "in.csv", "--out", "out.csv", "--force", "--patience", "0")
    assert code == 75
    assert "quorum up" in err
    assert not (folder / "out.csv.job").exists()
    assert (folder / "out.csv").read_text("utf-8") == "yesterday's answers\n"


def test_asking_where_nobody_answers_says_how_to_start(folder: Path, run: Any) -> None:
    code, _, err = run("ask", "a shoe", "--url", "127.0.0.1:1")
    assert code == 1
    assert "no connection to 127.0.0.1:1" in err
    assert "quorum up" in err


@pytest.mark.parametrize("value", ["[/]", "[bold]", "[red]x", "a [b] c", "\\[/]", "[link=x]"])
def test_values_with_brackets_are_shown_whole(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    answer = Answer(value, value, 0.5, (Vote("alpha", value, Status.ANSWERED),))
    monkeypatch.setattr(Client, "extract", lambda *_, **__: Extraction("id", (answer,), 1, 0.01))
    code, out, _ = run("ask", "a shoe", "-a", value)
    assert code == 0
    assert out.count(value) == 3


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (None, "red"),
        (math.log(0.93), "red p=.93"),
        (math.log(0.1), "red p=.10"),
        (0.0, "red p>.99"),
        (math.log(0.996), "red p>.99"),
        (-700.0, "red p<.01"),
    ],
)
def test_ask_shows_how_sure_a_member_is(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, score: float | None, shown: str
) -> None:
    votes = (Vote("alpha", "red", Status.ANSWERED, score), Vote("beta", None, Status.TIMEOUT))
    answer = Answer("color", "blue", 0.5, votes)
    monkeypatch.setattr(Client, "extract", lambda *_, **__: Extraction("id", (answer,), 1, 0.01))
    _, out, err = run("ask", "a shoe", "-a", "color")
    assert ("p: the probability that the member gave to its value" in err) == (score is not None)
    (cells,) = [re.split(" {2,}", line.strip()) for line in out.splitlines() if "blue" in line]
    assert cells[3:] == [shown, "(timeout)"]
    stated = json.loads(run("ask", "a shoe", "-a", "color", "--json")[1])["attributes"]["color"]["votes"]
    assert stated["alpha"]["score"] == (None if score is None else pytest.approx(score, abs=1e-6))
    assert stated["beta"]["score"] is None


@pytest.mark.parametrize(("header", "said"), [("sku", 0), ("shelf", 1)])
def test_rows_that_get_numbers_for_ids_are_told_once(folder: Path, run: Any, header: str, said: int) -> None:
    (folder / "in.csv").write_text(f"{header},title\nB-7,a shoe\nB-8,a hat\n", encoding="utf-8")
    _, _, err = run("extract", "in.csv", "--out", "out.csv", "--patience", "0")
    assert (err.count("2 of 2 rows"), err.count("with --id")) == (said, said)
    _, _, err = run("extract", "in.csv", "--out", "other.csv", "--id", header, "--patience", "0")
    assert "with --id" not in err
