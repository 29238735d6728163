# SPDX-License-Identifier: Apache-2.0
"""The run over a file as a Python call: what its record holds, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.deployment import write_deployment
from typer.testing import CliRunner

import quorum
from quorum.bulk.ask import NoAttributesError, attributes_of
from quorum.bulk.outputs import OutputError
from quorum.cli import app
from quorum.deployment.schema import AttributeSpec
from quorum.files import locked
from quorum_client import (
    Answer,
    AsyncClient,
    Client,
    DecisionStatus,
    Extraction,
    InvalidRequest,
    Overloaded,
    Status,
    Unreachable,
    Vote,
)
from quorum_contract.errors import QuorumError

ROWS = 50


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> quorum.Deployment:
    """A deployment whose server seems to be ready, with fifty listings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Client, "is_ready", lambda _: True)
    lines = "".join(f"s{i},{i}\n" for i in range(ROWS))
    (tmp_path / "in.csv").write_text("sku,title\n" + lines, "utf-8")
    return quorum.load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))


def serve(monkeypatch: pytest.MonkeyPatch, failures: dict[int, BaseException], **origin: Any) -> None:
    """Let the client answer each text, but for these rows."""

    async def extract(_: AsyncClient, text: str, *__: Any, **___: Any) -> Extraction:
        if error := failures.get(int(text)):
            raise error
        answer = Answer("color", "red", 0.5, (Vote("alpha", "red", Status.ANSWERED),))
        return Extraction("id", (answer,), 1, 0.01, **origin)

    monkeypatch.setattr(AsyncClient, "extract", extract)


def options(**more: Any) -> quorum.ExtractOptions:
    return quorum.ExtractOptions(out="out.csv", votes="voted.jsonl", attributes=["color"], **more)


def test_a_complete_run(deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, {7: InvalidRequest("too long")})
    seen: list[tuple[int, int]] = []
    report = quorum.extract(deployment, "in.csv", options(), progress=lambda *step: seen.append(step))
    assert (report.answered, report.failed, report.left) == (ROWS - 1, 1, 0)
    assert (report.ended, report.resume, report.last_error) == ("complete", None, None)
    assert report.by_channel == {"quorum": ROWS - 1}
    assert report.to_json() == {
        "answered": ROWS - 1, "failed": 1, "left": 0, "out": "out.csv", "votes": "voted.jsonl",
        "errors": {"INVALID_REQUEST": {"listings": 1, "first": "too long"}},
        "voted": ROWS - 1, "abstained": {}, "decided": ROWS - 1, "undecided": {},
    }  # fmt: skip
    assert seen == [(done, ROWS) for done in range(ROWS + 1)]
    assert len(Path("voted.jsonl").read_text("utf-8").splitlines()) == ROWS - 1


@pytest.mark.parametrize(("more", "title"), [({}, "'-1"), ({"escaped": False}, "-1")])
def test_cells_of_a_csv_are_escaped_unless_a_machine_reads_it(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, more: dict[str, bool], title: str
) -> None:
    serve(monkeypatch, {})
    Path("in.csv").write_text("sku,title\ns,-1\n", "utf-8")
    quorum.extract(deployment, "in.csv", options(**more))
    assert Path("out.csv").read_text("utf-8").splitlines()[1].startswith(f"s,{title},red,")
    assert '"title": "-1"' in Path("voted.jsonl").read_text("utf-8")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_values_that_were_withheld_are_marked_and_counted(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    async def extract(_: AsyncClient, text: str, *__: Any, **___: Any) -> Extraction:
        status = {0: DecisionStatus.NO_QUORUM, 1: DecisionStatus.NO_ANSWER}.get(int(text) % 5)
        vote = Vote("alpha", "red", Status.ANSWERED)
        found = (
            Answer("color", None, 0.0, (vote,), status) if status else Answer("color", "red", 0.5, (vote,))
        )
        return Extraction("id", (found,), 1, 0.01)

    monkeypatch.setattr(AsyncClient, "extract", extract)
    report = quorum.extract(deployment, "in.csv", replace(options(), out=f"out.{ending}"))
    assert (report.decided, report.undecided) == (30, {"NO_ANSWER": 10, "NO_QUORUM": 10})
    assert report.to_json()["undecided"] == report.undecided
    text = Path(f"out.{ending}").read_text("utf-8")
    if ending == "csv":
        rows = [(row["color"], row["color_status"]) for row in csv.DictReader(io.StringIO(text))]
    else:
        found = [json.loads(line)["attributes"]["color"] for line in text.splitlines()]
        rows = [(cell["value"] or "", cell["status"]) for cell in found]
    assert rows[:3] == [("", "NO_QUORUM"), ("", "NO_ANSWER"), ("red", "DECIDED")]
    assert len(Path("voted.jsonl").read_text("utf-8").splitlines()) == ROWS
    result = CliRunner().invoke(app, ["extract", "in.csv", "--out", "o.csv", "--attributes", "color"])
    assert result.exit_code == 0
    assert "no value in 20 of 50 answers: 10 NO_ANSWER, 10 NO_QUORUM" in result.stderr


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_answers_are_on_disk_as_they_come(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    serve(monkeypatch, {})
    header = ending == "csv"
    seen: list[int] = []

    def look(done: int, _: int) -> None:
        if done:
            seen.append(len(Path(f"out.{ending}").read_text("utf-8").splitlines()) - header)

    quorum.extract(deployment, "in.csv", replace(options(), out=f"out.{ending}"), progress=look)
    assert seen == list(range(1, ROWS + 1))


def test_channels_are_listed_where_a_share_is_routed(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, {}, fallback_from="quorum_canary")
    report = quorum.extract(deployment, "in.csv", options(canary_share=1.0))
    assert report.to_json()["channels"] == {"quorum for quorum_canary": ROWS}


def test_a_run_without_a_server_ends_and_names_the_row_to_go_on_from(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, {i: Unreachable(f"gone {i}") for i in range(10, ROWS)})
    report = quorum.extract(deployment, "in.csv", options(away_s=0))
    assert (report.ended, report.silent, report.resume) == ("unavailable", 20, 11)
    assert (report.answered, report.failed, report.left) == (10, 20, ROWS - 30)
    assert str(report.last_error) == "gone 29"


def test_a_run_waits_for_a_server_that_is_away_or_full_and_says_so(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: dict[int, list[QuorumError]] = {
        20: [Unreachable("gone")] * 3,
        30: [Overloaded("full")] * 2,
        40: [Overloaded("full")] * 2,
    }

    async def extract(_: AsyncClient, text: str, *__: Any, **___: Any) -> Extraction:
        if errors := failures.get(int(text)):
            raise errors.pop()
        return Extraction("id", (Answer("color", "red", 0.5, ()),), 1, 0.01)

    monkeypatch.setattr(AsyncClient, "extract", extract)
    notes: list[str] = []
    report = quorum.extract(deployment, "in.csv", options(concurrency=1), note=notes.append)
    assert (report.answered, report.ended) == (ROWS, "complete")
    assert [note.partition(" s")[0] for note in notes if "no id" not in note] == [
        "the run waits up to 60",
        "the run goes on after a wait of 1",
        "the run waits, as the",
    ]
    assert "as the server is away: gone" in notes[-3]
    assert "as the server is full: full" in notes[-1]


def test_the_most_frequent_error_is_shown(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: dict[int, BaseException] = {n: Overloaded(f"full {n}") for n in range(5, 9)}
    serve(monkeypatch, failures | {20: InvalidRequest("too long")})
    command = ["extract", "in.csv", "--out", "o.csv", "--attributes", "color"]
    result = CliRunner().invoke(app, [*command, "--priority", "interactive"])
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if "OVERLOADED" in line]
    assert line.startswith(
        "4 of 5 failed with OVERLOADED, the first: full 5; without `--priority interactive`"
    )


def test_abstentions_are_counted_by_member(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def extract(_: AsyncClient, text: str, *__: Any, **___: Any) -> Extraction:
        status = (Status.ERROR, Status.TIMEOUT, Status.ANSWERED)[int(text) % 3]
        votes = Vote("alpha", "red", Status.ANSWERED), Vote("beta", "red" if not status else None, status)
        return Extraction("id", (Answer("color", "red", 0.5, votes),), 1, 0.01)

    monkeypatch.setattr(AsyncClient, "extract", extract)
    report = quorum.extract(deployment, "in.csv", options())
    assert report.to_json()["abstained"] == {"beta": {"ERROR": 17, "TIMEOUT": 17}}
    command = ["extract", "in.csv", "--out", "o.csv", "--attributes", "color"]
    said = CliRunner().invoke(app, command).stderr
    assert "no vote in 34 of 100 cases: beta 17 ERROR, 17 TIMEOUT" in said


def test_an_interrupt_is_reported(deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, {12: KeyboardInterrupt()})
    report = quorum.extract(deployment, "in.csv", options(concurrency=1))
    done = report.answered + report.failed
    assert (report.ended, report.resume, report.left) == ("interrupted", done + 1, ROWS - done)
    assert report.answered <= 12


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"attributes": ["sku"]}, "has a column 'sku' already"),
        ({"attributes": ["color", "color"]}, "color"),
        ({"attributes": [" color"]}, "white space"),
        ({"attributes": []}, "no attributes"),
        ({"concurrency": 0}, "whole number above 0"),
        ({"canary_share": 2.0}, "canary_share"),
        ({"away_s": -1.0}, "away_s"),
        ({"timeout_s": -1.0}, "timeout"),
        ({"votes": "votes.csv"}, r"cannot tell the format of the votes from '\.csv'"),
        ({"votes": "absent/votes.jsonl"}, "absent/votes.jsonl: No such file"),
        ({"votes": "folder.jsonl"}, "folder.jsonl: Is a directory"),
        ({"votes": "out.csv"}, "read or written already"),
        ({"out": "out.txt"}, r"cannot tell the format from '\.txt'"),
        ({"out": "folder.jsonl"}, "folder.jsonl: Is a directory"),
        ({"text_column": "name"}, "needs column 'name'"),
        ({"id_column": "name"}, "has no column 'name'"),
    ],
)
def test_what_is_refused_leaves_earlier_outputs(
    deployment: quorum.Deployment, change: dict[str, Any], error: str
) -> None:
    Path("folder.jsonl").mkdir()
    for name in ("out.csv", "voted.jsonl"):
        Path(name).write_text("yesterday", "utf-8")
    with pytest.raises(QuorumError, match=error):
        quorum.extract(deployment, "in.csv", replace(options(force=True), **change))
    assert [Path(name).read_text("utf-8") for name in ("out.csv", "voted.jsonl")] == ["yesterday"] * 2


@pytest.mark.parametrize("filled", ["out.csv", "voted.jsonl"])
def test_files_that_hold_something_are_replaced_only_if_asked_for(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, filled: str
) -> None:
    serve(monkeypatch, {})
    other = {"out.csv": "voted.jsonl", "voted.jsonl": "out.csv"}[filled]
    before = "yesterday" if filled == "out.csv" else Path("votes.jsonl").read_text("utf-8")
    Path(filled).write_text(before, "utf-8")
    holds = " with votes of alpha, beta" if filled == "voted.jsonl" else ""
    with pytest.raises(OutputError, match=rf"{filled} exists{holds}; name another file.*by --force"):
        quorum.extract(deployment, "in.csv", options())
    assert Path(filled).read_text("utf-8") == before
    assert not Path(other).exists()
    result = CliRunner().invoke(
        app, ["extract", "in.csv", "--out", "out.csv", "--votes", "voted.jsonl", "-a", "color", "--force"]
    )
    assert result.exit_code == 0, result.output
    assert len(Path("voted.jsonl").read_text("utf-8").splitlines()) == ROWS


@pytest.mark.parametrize("written", ["out.csv", "voted.jsonl"])
def test_a_file_that_another_run_writes_is_refused(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Even with --force: the other run would go on in a file without its beginning."""
    other = {"out.csv": "voted.jsonl", "voted.jsonl": "out.csv"}[written]
    refusals: list[str] = []

    async def extract(_: AsyncClient, text: str, *__: Any, **___: Any) -> Extraction:
        if text == "9":
            second = replace(options(force=True), **{"votes" if written == "out.csv" else "out": None})
            with pytest.raises(OutputError) as refused:
                quorum.extract(deployment, "in.csv", second)
            refusals.append(str(refused.value))
        answer = Answer("color", "red", 0.5, (Vote("alpha", "red", Status.ANSWERED),))
        return Extraction("id", (answer,), 1, 0.01)

    monkeypatch.setattr(AsyncClient, "extract", extract)
    assert quorum.extract(deployment, "in.csv", options()).answered == ROWS
    (said,) = refusals
    assert f"{written}: is being changed by another process; wait for its end, or name another file" in said
    assert len(Path(other).read_text("utf-8").splitlines()) >= ROWS
    with locked(Path("out.csv"), Path("voted.jsonl")):
        pass


def test_a_file_without_content_may_be_written(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, {})
    for name in ("out.csv", "voted.jsonl"):
        Path(name).write_text("", "utf-8")
    assert quorum.extract(deployment, "in.csv", options()).answered == ROWS


def test_no_empty_answers_stay_where_the_votes_cannot_be_opened(deployment: quorum.Deployment) -> None:
    changed = replace(options(), out="new.csv", votes="absent/votes.jsonl")
    with pytest.raises(OutputError, match=r"absent/votes\.jsonl: No such file"):
        quorum.extract(deployment, "in.csv", changed)
    assert not Path("new.csv").exists()


def test_what_cannot_be_written_or_asked(deployment: quorum.Deployment) -> None:
    with pytest.raises(OutputError, match="nothing to write"):
        quorum.extract(deployment, "in.csv", quorum.ExtractOptions())
    with pytest.raises(OutputError, match="read or written already"):
        quorum.extract(deployment, "in.csv", quorum.ExtractOptions(out="in.csv"))
    with pytest.raises(NoAttributesError):
        attributes_of(deployment, [])


def test_unknown_attributes_are_remarked_with_the_nearest_name(deployment: quorum.Deployment) -> None:
    notes: list[str] = []
    assert attributes_of(deployment, ["colour", "brand"], notes.append) == ["colour", "brand"]
    (note,) = notes
    assert "did you mean 'color'?" in note
    assert attributes_of(deployment, None) == ["brand", "color", "size"]


def with_fields(deployment: quorum.Deployment) -> quorum.Deployment:
    pair = AttributeSpec(kind="label", values=["good", "bad"], fields=["query", "title"])
    return deployment.model_copy(update={"attributes": {"color": AttributeSpec(), "relevance": pair}})


def test_ask_refuses_fields_as_extract_does(deployment: quorum.Deployment) -> None:
    spec = with_fields(deployment)
    with pytest.raises(InvalidRequest, match=r"field 'brand' is none of .*; they are query, title"):
        quorum.ask(spec, {"query": "a", "brand": "b"}, ["relevance"])
    with pytest.raises(
        InvalidRequest, match=r"field 'query' is none of .*; there are none: give a plain text"
    ):
        quorum.ask(spec, {"query": "a"}, ["color"])
    with pytest.raises(NoAttributesError, match="ask for them separately"):
        quorum.ask(spec, "a text")
