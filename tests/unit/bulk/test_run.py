# SPDX-License-Identifier: Apache-2.0
"""The job over files as a Python call: what its record holds, what ends it, how it goes on.

The client's answers are made up here, to inject what a server cannot be told to do; ``tests/e2e`` has the
server.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.runs import COMMAND, ROWS, VOTES, answer, failing, options, rows_of, serve, without_votes
from typer.testing import CliRunner

import quorum
from quorum.bulk import run as job_run
from quorum.bulk.ledger import JobLocked, LedgerError, NewWeights
from quorum.bulk.outputs import OutputError
from quorum.bulk.progress import JobProgress
from quorum.cli import app
from quorum_client import (
    Answer,
    ChannelNotFound,
    DeadlineExceeded,
    DecisionStatus,
    Extraction,
    InvalidRequest,
    Spent,
    Status,
    Unreachable,
    Vote,
)
from quorum_contract.errors import QuorumError


def test_a_complete_job(deployment: quorum.Deployment, asked: list[str]) -> None:
    seen: list[JobProgress] = []
    report = quorum.extract(deployment, "in.csv", options(), progress=seen.append)
    assert asked == [str(n) for n in range(ROWS)]
    assert report.to_json() == {
        "ended": "complete", "rows": ROWS, "answered": ROWS, "voteless": 0, "failed": 0, "bad": 0, "left": 0,
        "asked": ROWS, "outputs": ["out.csv", "voted.jsonl"], "job": "out.csv.job", "errors": {},
        "voted": 2 * ROWS, "abstained": {}, "decided": ROWS, "undecided": {}, "weights": {"1": ROWS},
    }  # fmt: skip
    assert [(row["sku"], row["color"]) for row in rows_of()] == [(f"s{n}", f"red {n}") for n in range(ROWS)]
    assert len(Path("voted.jsonl").read_text("utf-8").splitlines()) == ROWS
    assert [(state.done, state.total) for state in (seen[0], seen[-1])] == [(0, ROWS), (ROWS, ROWS)]


def test_the_same_call_again_asks_nothing(deployment: quorum.Deployment, asked: list[str]) -> None:
    quorum.extract(deployment, "in.csv", options())
    before = Path("out.csv").read_bytes()
    report = quorum.extract(deployment, "in.csv", options())
    assert (len(asked), report.asked, report.answered) == (ROWS, 0, ROWS)
    Path("out.csv").unlink()
    quorum.extract(deployment, "in.csv", options())
    assert Path("out.csv").read_bytes() == before
    assert len(asked) == ROWS


@pytest.mark.parametrize("at", [0, 7, 20, 39, 49])
def test_an_interrupted_job_goes_on(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    texts: list[str] = []
    serve(monkeypatch, texts, failing({at: [KeyboardInterrupt()]}))
    report = quorum.extract(deployment, "in.csv", options())
    done = report.answered
    # The answer before may not have been kept yet.
    assert done in (at - 1, at)
    assert (report.ended, report.left) == ("interrupted", ROWS - done)
    notes: list[str] = []
    report = quorum.extract(deployment, "in.csv", options(), note=notes.append)
    assert (report.ended, report.answered, report.asked) == ("complete", ROWS, ROWS - done)
    twice = [str(n) for n in range(done, at + 1)]
    assert sorted(texts, key=int) == sorted([*map(str, range(ROWS)), *twice], key=int)
    assert [row["color"] for row in rows_of()] == [f"red {n}" for n in range(ROWS)]
    assert any(f"goes on; {done} of {ROWS} rows are done already" in note for note in notes) == (done > 0)


def test_what_was_spent_is_said_when_a_job_goes_on(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def priced(text: str) -> Extraction:
        if text == "30" and len(texts) < ROWS:
            raise KeyboardInterrupt
        return replace(answer(text), cost=0.5, usage={"alpha": Spent(1, 10, 2, 0, 0.1, 0.5)})

    texts: list[str] = []
    serve(monkeypatch, texts, priced)
    quorum.extract(deployment, "in.csv", options())
    texts += [""] * ROWS
    notes: list[str] = []
    report = quorum.extract(deployment, "in.csv", options(), note=notes.append)
    assert any("30 of 50 rows are done already for 15" in note for note in notes)
    assert report.tally.spent.cost == 25


def test_rows_that_failed_are_asked_again_on_demand(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    late = DeadlineExceeded("late")
    serve(monkeypatch, texts, failing({3: [late], 4: [late], 45: [late]}))
    report = quorum.extract(deployment, "in.csv", options())
    assert (report.ended, report.answered, report.failed) == ("complete", ROWS - 3, 3)
    assert report.to_json()["errors"] == {"DEADLINE_EXCEEDED": {"listings": 3, "first": "late"}}
    assert [row["sku"] for row in rows_of() if row["error"] == "late"] == ["s3", "s4", "s45"]
    del texts[:]
    quorum.extract(deployment, "in.csv", options())
    assert texts == []
    report = quorum.extract(deployment, "in.csv", options(retry_failed=True))
    assert sorted(texts) == ["3", "4", "45"]
    assert (report.answered, report.failed) == (ROWS, 0)
    assert [row["color"] for row in rows_of()] == [f"red {n}" for n in range(ROWS)]
    assert [row["error"] for row in rows_of()] == [""] * ROWS


def test_rows_that_no_member_answered_are_asked_again_on_demand(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an outage of every LLM; where none was asked, or knew a value, there is nothing to repair."""
    outage = {
        "3": (Status.ERROR, Status.TIMEOUT),
        "4": (Status.BUDGET, Status.NOT_ASKED),
        "5": (Status.NOT_ASKED, Status.NOT_ASKED),
        "6": (Status.NOT_FOUND, Status.UNPARSABLE),
        "45": (Status.OVERLOADED, Status.REFUSED),
    }
    texts: list[str] = []
    serve(
        monkeypatch,
        texts,
        lambda text: without_votes(text, *outage[text]) if text in outage else answer(text),
    )
    result = CliRunner().invoke(app, [*COMMAND])
    assert result.exit_code == 1
    assert result.stderr.endswith("3 rows answered by no member: --retry-failed asks them again\n")
    del texts[:]
    serve(monkeypatch, texts, answer)
    result = CliRunner().invoke(app, [*COMMAND, "--retry-failed", "--json"])
    assert (result.exit_code, sorted(texts)) == (0, ["3", "4", "45"])
    assert json.loads(result.stdout)["voteless"] == 0
    assert [row["color"] for row in rows_of("o.csv") if row["sku"] in ("s3", "s5")] == ["red 3", ""]


def test_other_weights_are_refused_unless_they_are_accepted(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a promotion in the middle of a run, and of one between two runs."""

    def promoted(text: str) -> Extraction:
        return answer(text, 1 if int(text) < 30 else 2)

    texts: list[str] = []
    serve(monkeypatch, texts, promoted)
    with pytest.raises(NewWeights, match=r"version 2 .* version 1 .*--accept-new-weights"):
        quorum.extract(deployment, "in.csv", options())
    monkeypatch.setattr(job_run, "served_version", lambda *_: 2)
    del texts[:]
    with pytest.raises(NewWeights, match="promote version 1 again"):
        quorum.extract(deployment, "in.csv", options())
    assert texts == [], "found out before anything is paid"
    report = quorum.extract(deployment, "in.csv", options(accept_new_weights=True))
    assert report.to_json()["weights"] == {"1": 30, "2": 20}
    assert [row["weights_version"] for row in rows_of()] == ["1"] * 30 + ["2"] * 20
    assert len(texts) == 20


@pytest.mark.parametrize("others", [("alpha",), ("alpha", "beta", "gamma")])
def test_a_server_of_other_members_is_refused(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, others: tuple[str, ...]
) -> None:
    """Of a job that goes on at another deployment's server, which has the same version of weights."""
    votes = tuple(Vote(member, "red", Status.ANSWERED) for member in others)

    def server(text: str) -> Extraction:
        if int(text) < 30:
            return answer(text)
        return Extraction("id", (Answer("color", "red", 0.5, votes),), 1, 0.01)

    texts: list[str] = []
    serve(monkeypatch, texts, server)
    with pytest.raises(LedgerError, match=f"the members {', '.join(others)}, the job is of alpha, beta: "):
        quorum.extract(deployment, "in.csv", options())
    del texts[:]
    serve(monkeypatch, texts, answer)
    assert quorum.extract(deployment, "in.csv", options()).answered == ROWS
    assert len(texts) == 20, "none of them was kept"


def test_other_options_are_refused(deployment: quorum.Deployment, asked: list[str]) -> None:
    quorum.extract(deployment, "in.csv", options())
    lines = Path("in.csv").read_text("utf-8")
    for change in ({"attributes": ["color", "size"]}, {"part_rows": 10}, {"text": ["sku"]}):
        with pytest.raises(LedgerError, match="is the job of another command"):
            quorum.extract(deployment, "in.csv", options(**change))
    Path("in.csv").write_text(lines.replace("s7,", "s8,"), "utf-8")
    with pytest.raises(QuorumError, match=r"in\.csv: has changed since the job began"):
        quorum.extract(deployment, "in.csv", options())
    assert len(asked) == ROWS


def test_a_job_that_another_process_works_on_is_refused(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[str] = []

    def server(text: str) -> Extraction:
        if text == "9":
            with pytest.raises(JobLocked) as refused:
                # Of a loop of its own, as a process would have.
                job_run.Ledger.begin(Path("out.csv.job"), spec[0])
            refusals.append(str(refused.value))
        return answer(text)

    spec: list[Any] = []
    begin = job_run.Ledger.begin

    def noted(folder: Path, of: Any, **more: Any) -> Any:
        spec.append(of)
        return begin(folder, of, **more)

    monkeypatch.setattr(job_run.Ledger, "begin", noted)
    serve(monkeypatch, [], server)
    assert quorum.extract(deployment, "in.csv", options()).answered == ROWS
    assert "another process works on this job" in refusals[0]


@pytest.mark.parametrize(("more", "title"), [({}, "'-1"), ({"escaped": False}, "-1")])
def test_cells_of_a_csv_are_escaped_unless_a_machine_reads_it(
    deployment: quorum.Deployment, asked: list[str], more: dict[str, bool], title: str
) -> None:
    Path("in.csv").write_text("sku,title\ns,-1\n", "utf-8")
    quorum.extract(deployment, "in.csv", options(**more))
    assert Path("out.csv").read_text("utf-8").splitlines()[1].startswith(f"s,{title},red -1,")
    assert '"title": "-1"' in Path("voted.jsonl").read_text("utf-8")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_values_that_were_withheld_are_marked_and_counted(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    def server(text: str) -> Extraction:
        status = {0: DecisionStatus.NO_QUORUM, 1: DecisionStatus.NO_ANSWER}.get(int(text) % 5)
        found = Answer("color", None, 0.0, VOTES, status) if status else Answer("color", "red", 0.5, VOTES)
        return Extraction("id", (found,), 1, 0.01)

    serve(monkeypatch, [], server)
    report = quorum.extract(deployment, "in.csv", options(out=f"out.{ending}"))
    assert (report.tally.decided, report.tally.undecided) == (30, {"NO_ANSWER": 10, "NO_QUORUM": 10})
    text = Path(f"out.{ending}").read_text("utf-8")
    if ending == "csv":
        rows = [(row["color"], row["color_status"]) for row in csv.DictReader(io.StringIO(text))]
    else:
        found = [json.loads(line)["attributes"]["color"] for line in text.splitlines()]
        rows = [(cell["value"] or "", cell["status"]) for cell in found]
    assert rows[:3] == [("", "NO_QUORUM"), ("", "NO_ANSWER"), ("red", "DECIDED")]
    result = CliRunner().invoke(app, ["extract", "in.csv", "--out", "o.csv", "--attributes", "color"])
    assert result.exit_code == 0, result.output
    assert "no value in 20 of 50 answers: 10 NO_ANSWER, 10 NO_QUORUM" in result.stderr


def test_channels_are_listed_where_a_share_is_routed(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, [], lambda text: answer(text, fallback_from="quorum_canary"))
    report = quorum.extract(deployment, "in.csv", options(canary_share=1.0))
    assert report.to_json()["channels"] == {"quorum for quorum_canary": ROWS}


def test_the_most_frequent_error_is_shown(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: dict[int, Any] = {n: DeadlineExceeded(f"late {n}") for n in range(5, 9)}
    serve(monkeypatch, [], failing(failures | {20: InvalidRequest("too long")}))
    result = CliRunner().invoke(app, [*COMMAND, "--max-bad", "1", "--concurrency", "1"])
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if "DEADLINE_EXCEEDED" in line]
    assert line == "4 of 5 failed with DEADLINE_EXCEEDED, the first: late 5; --retry-failed asks them again"


def test_abstentions_are_counted_by_member(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def server(text: str) -> Extraction:
        status = (Status.ERROR, Status.TIMEOUT, Status.ANSWERED)[int(text) % 3]
        votes = Vote("alpha", "red", Status.ANSWERED), Vote("beta", "red" if not status else None, status)
        return Extraction("id", (Answer("color", "red", 0.5, votes),), 1, 0.01)

    serve(monkeypatch, [], server)
    report = quorum.extract(deployment, "in.csv", options())
    assert report.to_json()["abstained"] == {"beta": {"ERROR": 17, "TIMEOUT": 17}}
    said = CliRunner().invoke(app, [*COMMAND]).stderr
    assert "no vote in 34 of 100 cases: beta 17 ERROR, 17 TIMEOUT" in said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted, 38 rows are left; run the same command again"),
        (Unreachable("gone"), 75, "stopped, 38 rows are left: the server did not answer for 0.1 s (gone)"),
        (ChannelNotFound("gone"), 75, "Once `quorum status` says that the channel answers, run the same"),
    ],
)
def test_ends_have_exit_codes_and_say_that_the_same_command_goes_on(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    serve(monkeypatch, [], failing(dict.fromkeys(range(12, ROWS), error)))
    how = ("--concurrency", "1", "--patience", "0.1s")
    result = CliRunner().invoke(app, [*COMMAND, *how])
    assert result.exit_code == code
    assert said in result.stderr
    serve(monkeypatch, [], answer)
    result = CliRunner().invoke(app, [*COMMAND, *how])
    assert result.exit_code == 0, result.output
    assert "12 of 50 rows are done already" in result.stderr
    assert "50 answered, 0 failed; wrote o.csv" in result.stderr


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"attributes": ["sku"], "open": True}, "has a column 'sku' already"),
        ({"attributes": ["color", "color"]}, "color"),
        ({"attributes": [" color"], "open": True}, "white space"),
        ({"attributes": ["colour"]}, "'colour' is not in the catalogue .* did you mean 'color'.*--open"),
        ({"attributes": []}, "no attributes"),
        ({"concurrency": 0}, "whole number above 0"),
        ({"canary_share": 2.0}, "canary_share"),
        ({"patience_s": -1.0}, "patience_s"),
        ({"part_rows": 0}, "part_rows"),
        ({"channel": "stabel"}, "channel: 'stabel' is none of quorum, quorum_canary"),
        ({"timeout_s": -1.0}, "timeout"),
        ({"votes": "votes.csv"}, r"votes\.csv: cannot tell the format from '\.csv'"),
        ({"votes": "absent/votes.jsonl"}, "absent/votes.jsonl: there is no such folder"),
        ({"out": "one.jsonl", "votes": "one.jsonl"}, "written there"),
        ({"out": "out.txt"}, r"cannot tell the format from '\.txt'"),
        ({"text": ["name"]}, "needs column 'name'"),
        ({"id": "name"}, "has no column 'name'"),
        ({"category": "name"}, "has no column 'name'"),
    ],
)
def test_what_is_refused_leaves_earlier_outputs(
    deployment: quorum.Deployment, asked: list[str], change: dict[str, Any], error: str
) -> None:
    for name in ("out.csv", "voted.jsonl"):
        Path(name).write_text("yesterday", "utf-8")
    with pytest.raises(QuorumError, match=error):
        quorum.extract(deployment, "in.csv", replace(options(force=True), **change))
    assert [Path(name).read_text("utf-8") for name in ("out.csv", "voted.jsonl")] == ["yesterday"] * 2
    assert asked == []


@pytest.mark.parametrize("filled", ["out.csv", "voted.jsonl"])
def test_files_that_hold_something_are_replaced_only_if_asked_for(
    deployment: quorum.Deployment, asked: list[str], filled: str
) -> None:
    other = {"out.csv": "voted.jsonl", "voted.jsonl": "out.csv"}[filled]
    Path(filled).write_text("yesterday", "utf-8")
    with pytest.raises(OutputError, match=filled):
        quorum.extract(deployment, "in.csv", options())
    assert Path(filled).read_text("utf-8") == "yesterday"
    assert not Path(other).exists()
    assert asked == []
    quorum.extract(deployment, "in.csv", options(force=True))
    assert len(Path("voted.jsonl").read_text("utf-8").splitlines()) == ROWS
