# SPDX-License-Identifier: Apache-2.0
"""The job over files as a Python call: what its record holds, what it refuses, what ends it, how it goes on.

The client's answers are made up here, to inject what a server cannot be told to do; ``tests/e2e`` has the
server.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.deployment import write_deployment
from typer.testing import CliRunner

import quorum
from quorum.bulk import job as bulk_job
from quorum.bulk import patience
from quorum.bulk import run as job_run
from quorum.bulk.ask import NoAttributesError, UnknownAttributeError, attributes_of
from quorum.bulk.job_input import TooManyBad
from quorum.bulk.ledger import JobLocked, LedgerError, NewWeights, StorageFailed
from quorum.bulk.ledger.journal import Journal
from quorum.bulk.outputs import OutputError
from quorum.bulk.patience import Patience
from quorum.bulk.progress import JobProgress
from quorum.cli import app
from quorum.cli.job_progress import JobDisplay
from quorum.deployment.schema import AttributeSpec
from quorum_client import (
    Answer,
    AsyncClient,
    ChannelNotFound,
    DeadlineExceeded,
    DecisionStatus,
    Disconnected,
    Extraction,
    InvalidRequest,
    Overloaded,
    Spent,
    Status,
    Unreachable,
    Vote,
)
from quorum_contract.errors import QuorumError

ROWS = 50
VOTES = (Vote("alpha", "red", Status.ANSWERED), Vote("beta", "red", Status.ANSWERED))
Server = Callable[[str], Extraction]


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> quorum.Deployment:
    """A deployment whose server decides by weights version 1, with fifty listings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_run, "served_version", lambda *_: 1)
    lines = "".join(f"s{i},{i}\n" for i in range(ROWS))
    (tmp_path / "in.csv").write_text("sku,title\n" + lines, "utf-8")
    return quorum.load_deployment(write_deployment(tmp_path, {"alpha": {}, "beta": {}}))


def answer(text: str, version: int = 1, **origin: Any) -> Extraction:
    found = Answer("color", f"red {text}", 0.5, VOTES)
    return Extraction("id", (found,), version, 0.01, **origin)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of all calls, in order; each is answered."""
    texts: list[str] = []
    serve(monkeypatch, texts, answer)
    return texts


def serve(monkeypatch: pytest.MonkeyPatch, texts: list[str], server: Server) -> None:
    """Let a function answer, or fail, each text."""

    async def extract(_: AsyncClient, text: str, *__: Any, **___: Any) -> Extraction:
        texts.append(text)
        await asyncio.sleep(0)
        return server(text)

    monkeypatch.setattr(AsyncClient, "extract", extract)


def failing(failures: dict[int, BaseException | list[BaseException]]) -> Server:
    """A server that fails on some texts: always, or as often as there are errors."""

    def server(text: str) -> Extraction:
        error = failures.get(int(text))
        if isinstance(error, list):
            error = error.pop() if error else None
        if error is not None:
            raise error
        return answer(text)

    return server


def options(**more: Any) -> quorum.ExtractOptions:
    chosen = {"out": "out.csv", "votes": "voted.jsonl", "attributes": ["color"], "concurrency": 1}
    return quorum.ExtractOptions(**chosen | {"part_rows": 20, "patience_s": 0.0} | more)


def rows_of(path: str = "out.csv") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text("utf-8"))))


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


def test_a_retry_counts_the_bad_rows_of_its_parts_once(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"s{n},{'' if n in (5, 6) else n}\n" for n in range(ROWS))
    Path("in.csv").write_text("sku,title\n" + lines, "utf-8")
    texts: list[str] = []
    serve(monkeypatch, texts, failing({7: [DeadlineExceeded("late")]}))
    assert quorum.extract(deployment, "in.csv", options(max_bad=3)).failed == 1
    del texts[:]
    seen: list[JobProgress] = []
    again = options(max_bad=3, retry_failed=True)
    report = quorum.extract(deployment, "in.csv", again, progress=seen.append)
    assert (texts, report.ended, report.failed, report.bad) == (["7"], "complete", 0, 2)
    assert max(state.bad for state in seen) == 2


@pytest.mark.parametrize(
    ("error", "state"),
    [(Unreachable("gone"), "away"), (ChannelNotFound("gone"), "away"), (Overloaded("gone"), "full")],
)
def test_a_server_that_does_not_answer_ends_the_job_so_that_it_goes_on(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, error: QuorumError, state: str
) -> None:
    texts: list[str] = []
    serve(monkeypatch, texts, failing(dict.fromkeys(range(10, ROWS), error)))
    notes: list[str] = []
    report = quorum.extract(deployment, "in.csv", options(patience_s=0.3), note=notes.append)
    assert (report.ended, report.answered, report.failed, report.left) == ("unavailable", 10, 0, ROWS - 10)
    assert report.last_error is error
    (said,) = [note for note in notes if "waiting" in note]
    assert said == f"the server is {state}: waiting up to 0.3 s for it (gone)"
    serve(monkeypatch, texts, answer)
    report = quorum.extract(deployment, "in.csv", options())
    assert (report.ended, report.answered, report.asked) == ("complete", ROWS, ROWS - 10)


def test_a_job_waits_for_a_server_and_says_so_once(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: dict[int, Any] = {
        10: [ChannelNotFound("loading")],
        20: [Unreachable("gone")] * 2,
        30: [Overloaded("full")] * 2,
        40: [Overloaded("full")] * 2,
    }
    serve(monkeypatch, [], failing(failures))
    notes: list[str] = []
    report = quorum.extract(deployment, "in.csv", options(patience_s=60.0), note=notes.append)
    assert (report.answered, report.ended) == (ROWS, "complete")
    said = [note.partition(": waiting")[0].partition(" after")[0] for note in notes if "the server" in note]
    away = ["the server is away", "the server answers again"]
    assert said == [*away, *away, "the server is full"]


def test_a_row_that_breaks_the_connection_fails_alone(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose text crashes the server: others that were in flight with it are asked again."""
    inside: list[str] = []

    async def extract(_: AsyncClient, text: str, *__: Any, **___: Any) -> Extraction:
        inside.append(text)
        try:
            await asyncio.sleep(0.001)
            if "7" in inside:
                raise Disconnected("broke off")
            return answer(text)
        finally:
            inside.remove(text)

    monkeypatch.setattr(AsyncClient, "extract", extract)
    chosen = options(concurrency=8, patience_s=60.0)
    report = quorum.extract(deployment, "in.csv", chosen)
    assert (report.answered, report.failed) == (ROWS - 1, 1)
    assert report.to_json()["errors"]["DISCONNECTED"]["listings"] == 1
    assert [row["sku"] for row in rows_of() if row["error"]] == ["s7"]


def without_votes(text: str, *statuses: Status) -> Extraction:
    votes = tuple(Vote(name, None, status) for name, status in zip(("alpha", "beta"), statuses, strict=True))
    found = Answer("color", None, 0.0, votes, status=DecisionStatus.NO_ANSWER)
    return Extraction("id", (found,), 1, 0.01)


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


def test_where_no_member_answers_any_more_the_rest_waits(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MOST_FAILURES", 4)
    lost = Status.ERROR, Status.ERROR
    serve(monkeypatch, [], lambda text: answer(text) if int(text) < 7 else without_votes(text, *lost))
    report = quorum.extract(deployment, "in.csv", options(patience_s=0.3))
    assert (report.ended, report.answered, report.voteless) == ("unavailable", 11, 4)
    assert str(report.last_error) == "no member answered: alpha ERROR, beta ERROR"


@pytest.mark.parametrize("bad", [[ROWS - 1], [0], [47, 48, 49]])
def test_a_row_that_breaks_the_connection_does_not_block_the_job(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, bad: list[int]
) -> None:
    """As the last or first row, where no other is answered in between: the server says that it is well."""

    async def is_ready(*_: Any) -> bool:
        return True

    serve(monkeypatch, [], failing(dict.fromkeys(bad, Disconnected("broke off"))))
    monkeypatch.setattr(AsyncClient, "is_ready", is_ready)
    report = quorum.extract(deployment, "in.csv", options(patience_s=60.0))
    assert (report.ended, report.answered, report.failed) == ("complete", ROWS - len(bad), len(bad))
    assert [row["sku"] for row in rows_of() if row["error"]] == [f"s{n}" for n in bad]


def test_a_last_row_that_ends_a_server_which_starts_slowly_fails(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_at = 0.0

    def server(text: str) -> Extraction:
        nonlocal back_at
        if time.monotonic() < back_at:
            raise Unreachable("gone")
        if text == str(ROWS - 1):
            back_at = time.monotonic() + 0.5
            raise Disconnected("broke off")
        return answer(text)

    async def is_ready(*_: Any) -> bool:
        return time.monotonic() >= back_at

    serve(monkeypatch, [], server)
    monkeypatch.setattr(AsyncClient, "is_ready", is_ready)
    report = quorum.extract(deployment, "in.csv", options(patience_s=1.2))
    assert (report.ended, report.answered, report.failed) == ("complete", ROWS - 1, 1)


@pytest.mark.parametrize("is_well", [False, True])
def test_a_server_that_breaks_every_connection_is_waited_for(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, is_well: bool
) -> None:
    """It may say that it is well: then a few rows fail, and the others wait."""

    async def is_ready(*_: Any) -> bool:
        return is_well

    serve(monkeypatch, [], failing(dict.fromkeys(range(5, ROWS), Disconnected("broke off"))))
    monkeypatch.setattr(AsyncClient, "is_ready", is_ready)
    monkeypatch.setattr(patience, "MOST_FAILURES", 2)
    monkeypatch.setattr(Patience, "next_pause_s", lambda _: 0.01)
    report = quorum.extract(deployment, "in.csv", options(patience_s=0.5))
    assert (report.ended, report.answered, report.failed) == ("unavailable", 5, 2 if is_well else 0)


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


def test_a_dry_run_says_and_checks_bad_rows_and_that_a_job_is_begun(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    bad = {5: "", 6: "x" * 40_000}
    lines = "".join(f"s{n},{bad.get(n, n)}\n" for n in range(ROWS))
    Path("in.csv").write_text("sku,title\n" + lines, "utf-8")
    with pytest.raises(TooManyBad, match=r"2 of 50 rows are bad, 1 are allowed. The first: in\.csv: row 6"):
        quorum.estimate_extract(deployment, "in.csv", options(url="localhost:1"))
    quorum.extract(deployment, "in.csv", options(max_bad=2))
    del asked[:]
    notes: list[str] = []
    again = options(max_bad=2, url="localhost:1")
    assert quorum.estimate_extract(deployment, "in.csv", again, note=notes.append).requests == ROWS - 2
    assert any(
        note.startswith("2 of 50 rows are bad and not asked; the first: in.csv: row 6") for note in notes
    )
    assert any(note.startswith("out.csv.job is begun: the estimate is for all rows") for note in notes)
    assert not asked


def test_bad_rows_are_dead_letters_and_end_the_run_before_it_asks(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    bad = {5: "", 6: "x" * 40_000}
    lines = "".join(f"s{n},{bad.get(n, n)}\n" for n in range(ROWS))
    Path("in.csv").write_text("sku,title\n" + lines, "utf-8")
    with pytest.raises(TooManyBad, match=r"2 of 50 rows are bad, 1 are allowed. The first: in\.csv: row 6"):
        quorum.extract(deployment, "in.csv", options())
    assert asked == []
    assert not Path("out.csv.job").exists()
    report = quorum.extract(deployment, "in.csv", options(max_bad=2))
    assert (report.answered, report.failed, report.bad, report.left) == (ROWS - 2, 0, 2, 0)
    assert len(rows_of()) == ROWS - 2
    dead = [json.loads(line) for line in Path("out.csv.dead.jsonl").read_text("utf-8").splitlines()]
    assert [line["row"] for line in dead] == [6, 7]
    assert "32768" in dead[1]["reason"]
    assert "out.csv.dead.jsonl" in report.outputs


@pytest.mark.parametrize(
    ("given", "rows", "allowed"), [("1%", 50, 1), ("0", 9, 0), (7, 9, 7), ("50 %", 9, 5)]
)
def test_bad_rows_are_allowed_as_a_number_or_a_share(given: Any, rows: int, allowed: int) -> None:
    assert options(max_bad=given).bad_allowed(rows) == allowed


@pytest.mark.parametrize("given", ["-1", "1.5", "101%", "some", "nan"])
def test_a_number_of_bad_rows_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest, match="max_bad"):
        options(max_bad=given).check()


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


COMMAND = ("extract", "in.csv", "--out", "o.csv", "--attributes", "color")


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


def test_a_server_that_is_away_at_the_start_is_waited_for(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [Unreachable("gone"), Unreachable("gone"), 1]

    def version(*_: Any) -> int:
        found = answers.pop(0)
        if isinstance(found, QuorumError):
            raise found
        return int(found)

    monkeypatch.setattr(job_run, "served_version", version)
    notes: list[str] = []
    report = quorum.extract(deployment, "in.csv", options(patience_s=60.0), note=notes.append)
    assert report.answered == ROWS
    assert sum("the server is away" in note for note in notes) == 1
    answers[:] = [Unreachable("gone")] * 2
    result = CliRunner().invoke(app, [*COMMAND, "--patience", "0"])
    assert result.exit_code == 75
    assert "stopped before anything was asked: gone; `quorum up` starts a server here" in result.stderr
    assert not Path("o.csv.job").exists()


def test_a_failed_start_keeps_the_input_in_the_folder_that_is_named_as_the_job(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> int:
        raise Unreachable("gone")

    monkeypatch.setattr(job_run, "served_version", away)
    feed = Path("data/input/feed.csv")
    feed.parent.mkdir(parents=True)
    shutil.copy("in.csv", feed)
    with pytest.raises(LedgerError, match=r"data is the folder of no job: it holds 'input/feed\.csv'"):
        quorum.extract(deployment, str(feed), options(job="data"))
    assert feed.read_bytes() == Path("in.csv").read_bytes()
    assert list(Path("data").iterdir()) == [feed.parent]


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_job_over_standard_input_goes_on_with_its_copy(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path("in.csv").read_bytes()

    def away(*_: Any) -> int:
        raise Unreachable("gone")

    pipe(monkeypatch, content)
    with monkeypatch.context() as patch:
        patch.setattr(job_run, "served_version", away)
        with pytest.raises(Unreachable):
            quorum.extract(deployment, "-", options())
    texts: list[str] = []
    pipe(monkeypatch, b"")
    serve(monkeypatch, texts, failing({30: KeyboardInterrupt()}))
    assert quorum.extract(deployment, "-", options()).ended == "interrupted"
    serve(monkeypatch, texts, answer)
    pipe(monkeypatch, b"sku,title\na,1\n")
    with pytest.raises(LedgerError, match=r"standard input: is not what the job in out\.csv\.job began with"):
        quorum.extract(deployment, "-", options())
    for again in (b"", content):
        pipe(monkeypatch, again)
        report = quorum.extract(deployment, "-", options())
        assert (report.ended, report.answered) == ("complete", ROWS)
    (copy,) = Path("out.csv.job/input").iterdir()
    assert copy.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"sku,price\na,1\n", b'sku,title\na,"1\n'])
def test_standard_input_that_is_refused_leaves_nothing(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    pipe(monkeypatch, content)
    with pytest.raises(QuorumError):
        quorum.extract(deployment, "-", options())
    assert not Path("out.csv.job").exists()


def test_copies_of_standard_input_that_no_job_has_are_removed(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("out.csv.job/input")
    folder.mkdir(parents=True)
    for name in (".stdin-abcdefgh", "stdin-0123456789abcdef"):
        (folder / name).write_text("of a killed run")
    pipe(monkeypatch, Path("in.csv").read_bytes())
    quorum.extract(deployment, "-", options())
    (copy,) = folder.iterdir()
    assert copy.read_bytes() == Path("in.csv").read_bytes()


@pytest.mark.parametrize("retry", [False, True])
def test_a_rewrite_that_was_killed_waits_for_no_server(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch, retry: bool
) -> None:
    with Path("in.csv").open("a", encoding="utf-8") as file:
        file.write("bad,\n")
    quorum.extract(deployment, "in.csv", options(max_bad="5%"))
    before = Path("out.csv").read_bytes()

    def away(*_: Any) -> int:
        raise Unreachable("gone")

    monkeypatch.setattr(job_run, "served_version", away)
    Path("out.csv").unlink()
    Path("out.csv.job/complete.json").unlink()
    report = quorum.extract(deployment, "in.csv", options(max_bad="5%", retry_failed=retry))
    assert (report.ended, report.asked, report.bad) == ("complete", 0, 1)
    assert Path("out.csv").read_bytes() == before


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


def waiting_job(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, progress: Callable[[JobProgress], None]
) -> quorum.ExtractReport:
    """A job whose server goes away for good after seven answers; it waits for a second."""
    monkeypatch.setattr(bulk_job, "_WATCH_S", 0.05)
    serve(monkeypatch, [], failing(dict.fromkeys(range(7, ROWS), Unreachable("gone"))))
    return quorum.extract(deployment, "in.csv", options(patience_s=1.0), progress=progress)


def test_the_state_is_shown_while_the_server_is_waited_for(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[JobProgress] = []
    display = JobDisplay("EUR", 0.2)

    def show(state: JobProgress) -> None:
        seen.append(state)
        display(state)

    report = waiting_job(deployment, monkeypatch, show)
    assert (report.ended, report.answered) == ("unavailable", 7)
    assert sum(state.waits for state in seen) >= 5
    lines = capsys.readouterr().err.splitlines()
    assert sum("7 of 50 rows (14%), waiting for the server" in line for line in lines) >= 2


def test_what_was_answered_is_on_the_disk_while_the_server_is_waited_for(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []

    def show(state: JobProgress) -> None:
        if state.waits:
            synced.append(all(journal.is_synced for journal in journals))

    journals: list[Journal] = []
    begin = Journal.__init__

    def noted(journal: Journal, *given: Any) -> None:
        begin(journal, *given)
        journals.append(journal)

    monkeypatch.setattr(Journal, "__init__", noted)
    waiting_job(deployment, monkeypatch, show)
    assert journals
    assert synced[1:], "shown while it waited"
    assert all(synced[1:])


def test_a_disk_that_fails_while_the_server_is_waited_for_ends_the_job(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(_: Journal) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Journal, "sync", sync)
    with pytest.raises(StorageFailed, match="Input/output error"):
        waiting_job(deployment, monkeypatch, lambda _: None)


def test_refused_rows_count_as_bad_over_all_runs(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both runs end in the middle, after as many refused rows as are too many, those of before included."""
    texts: list[str] = []
    failures: dict[int, Any] = {n: InvalidRequest("too long") for n in (5, 25, 30, 35)}
    serve(monkeypatch, texts, failing(failures | {27: [KeyboardInterrupt()]}))
    report = quorum.extract(deployment, "in.csv", options(max_bad=2))
    assert (report.ended, report.failed) == ("interrupted", 2)
    del texts[:]
    with pytest.raises(TooManyBad, match=r"^3 of 50 rows are bad, 2 are allowed\. .*row 31: too long"):
        quorum.extract(deployment, "in.csv", options(max_bad=2))
    assert "35" not in texts
    report = quorum.extract(deployment, "in.csv", options(max_bad=4))
    assert (report.ended, report.failed) == ("complete", 4)


def test_bad_rows_count_once_where_failed_rows_are_asked_again(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"s{n},{'' if n == 5 else n}\n" for n in range(ROWS))
    Path("in.csv").write_text("sku,title\n" + lines, "utf-8")
    serve(monkeypatch, [], failing({9: [DeadlineExceeded("late")]}))
    assert quorum.extract(deployment, "in.csv", options()).failed == 1
    report = quorum.extract(deployment, "in.csv", options(retry_failed=True))
    assert (report.answered, report.failed, report.bad) == (ROWS - 1, 0, 1)


def test_gold_of_the_wrong_kind_is_found_before_anything_is_asked(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    gold = ['{"color": ["red"]}'] * 8 + ['{"color": [["red", "shade"]]}'] * 2
    lines = [json.dumps({"sku": f"s{n}", "title": str(n), "gold": json.loads(g)}) for n, g in enumerate(gold)]
    Path("in.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.raises(
        TooManyBad, match=r"^2 of 10 rows are bad, 1 are allowed\. .*in\.jsonl: row 9: gold of"
    ):
        quorum.extract(deployment, "in.jsonl", options())
    assert asked == []
    report = quorum.extract(deployment, "in.jsonl", options(max_bad=2))
    assert (len(asked), report.answered, report.bad) == (8, 8, 2)
    letters = [json.loads(line) for line in Path("out.csv.dead.jsonl").read_text("utf-8").splitlines()]
    assert [letter["reason"][:15] for letter in letters] == ["gold of 'color'"] * 2


def test_several_files_make_one_job(deployment: quorum.Deployment, asked: list[str]) -> None:
    Path("more").mkdir()
    Path("more/a.jsonl").write_text('{"sku": "t1", "title": "101"}\n{"sku": "t2", "title": "102"}\n', "utf-8")
    report = quorum.extract(deployment, ["in.csv", "more"], options(out="answers/"))
    assert report.answered == ROWS + 2
    parts = sorted(Path("answers").iterdir())
    assert [path.suffix for path in parts] == [".parquet"] * 4
    shutil.rmtree("answers")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_parquet_with_times_and_decimals_is_written_in_every_format(
    deployment: quorum.Deployment, asked: list[str], ending: str
) -> None:
    at, price = datetime(2026, 12, 1, 8, tzinfo=UTC), Decimal("1.20")
    row = {
        "sku": Decimal(7),
        "title": "7",
        "seen": at,
        "prices": [price],
        "first": {"at": at, "raw": b"\xff"},
    }
    pq.write_table(pa.Table.from_pylist([row]), "in.parquet")
    report = quorum.extract(deployment, "in.parquet", options(out=f"out.{ending}", id="sku"))
    assert (report.ended, report.answered) == ("complete", 1)


def test_what_cannot_be_written_or_asked(deployment: quorum.Deployment) -> None:
    with pytest.raises(OutputError, match="nothing to write"):
        quorum.extract(deployment, "in.csv", quorum.ExtractOptions())
    with pytest.raises(NoAttributesError):
        attributes_of(deployment, [])
    with pytest.raises(UnknownAttributeError):
        attributes_of(deployment, ["colour"], is_open=False)


@pytest.mark.parametrize(
    ("files", "out", "error"),
    [
        ("in.csv", "in.csv", "that file is read"),
        ("feed", "feed/out.csv", "the input feed would hold it"),
        ("feed/*.csv", "feed/out.csv", "would hold it"),
    ],
)
def test_outputs_that_are_read_are_refused(
    deployment: quorum.Deployment, asked: list[str], files: str, out: str, error: str
) -> None:
    Path("feed").mkdir()
    shutil.copy("in.csv", "feed/in.csv")
    before = Path("in.csv").read_bytes()
    with pytest.raises(OutputError, match=error):
        quorum.extract(deployment, files, options(out=out, force=True))
    assert Path("in.csv").read_bytes() == before
    assert asked == []


@pytest.mark.parametrize(
    ("files", "change"),
    [("**/*.csv", {"out": "all.csv"}), ("feed", {"job": "feed/job"}), ("feed/**", {"job": "feed/job"})],
)
def test_a_pattern_does_not_stand_for_what_the_job_writes(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, files: str, change: dict[str, Any]
) -> None:
    Path("feed").mkdir()
    shutil.move("in.csv", "feed/in.csv")
    texts: list[str] = []
    serve(monkeypatch, texts, failing({30: KeyboardInterrupt()}))
    assert quorum.extract(deployment, files, options(**change)).ended == "interrupted"
    serve(monkeypatch, texts, answer)
    for _ in range(2):
        report = quorum.extract(deployment, files, options(**change))
        assert (report.ended, report.answered, report.rows) == ("complete", ROWS, ROWS)


def test_a_file_that_is_new_in_a_folder_is_not_left_out(
    deployment: quorum.Deployment, asked: list[str]
) -> None:
    Path("feed").mkdir()
    shutil.copy("in.csv", "feed/monday.csv")
    quorum.extract(deployment, "feed", options())
    shutil.copy("in.csv", "feed/tuesday.csv")
    with pytest.raises(LedgerError, match=r"feed/tuesday\.csv: is new since the job in out\.csv\.job began"):
        quorum.extract(deployment, "feed", options())
    assert len(asked) == ROWS


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
