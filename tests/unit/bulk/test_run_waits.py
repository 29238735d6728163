# SPDX-License-Identifier: Apache-2.0
"""Jobs whose server is away, breaks connections, or answers without votes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import COMMAND, ROWS, answer, failing, options, rows_of, serve, without_votes
from typer.testing import CliRunner

import quorum
from quorum.bulk import job as bulk_job
from quorum.bulk import patience
from quorum.bulk import run as job_run
from quorum.bulk.ledger import StorageFailed
from quorum.bulk.ledger.journal import Journal
from quorum.bulk.patience import Patience
from quorum.bulk.progress import JobProgress
from quorum.cli import app
from quorum.cli.job_progress import JobDisplay
from quorum_client import (
    AsyncClient,
    ChannelNotFound,
    Client,
    Disconnected,
    Extraction,
    Overloaded,
    Status,
    Unreachable,
)
from quorum_contract.errors import QuorumError


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
    """Each start takes two thirds of the patience, which begins anew with it."""
    starting, skipped_s = 0, 0.0

    def is_up() -> bool:
        nonlocal starting, skipped_s
        if starting:
            starting -= 1
            skipped_s += 20.0
            return False
        return True

    def server(text: str) -> Extraction:
        nonlocal starting
        if not is_up():
            raise Unreachable("gone")
        if text == str(ROWS - 1):
            starting = 2
            raise Disconnected("broke off")
        return answer(text)

    async def is_ready(*_: Any) -> bool:
        return is_up()

    serve(monkeypatch, [], server)
    monkeypatch.setattr(AsyncClient, "is_ready", is_ready)
    clock = time.monotonic
    # Also the clock of asyncio's timers.
    monkeypatch.setattr(time, "monotonic", lambda: clock() + skipped_s)
    report = quorum.extract(deployment, "in.csv", options(patience_s=60.0))
    assert (report.ended, report.answered, report.failed) == ("complete", ROWS - 1, 1)


@pytest.mark.parametrize("is_well", [False, True])
def test_a_server_that_breaks_every_connection_is_waited_for(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, is_well: bool
) -> None:
    """It may say that it is well: then a few rows fail, and the others wait."""

    clock, questions = time.monotonic, 0

    async def is_ready(*_: Any) -> bool:
        nonlocal questions
        questions += 1
        return is_well

    # The patience ends after more questions than the rows take that fail.
    monkeypatch.setattr(time, "monotonic", lambda: clock() + (1000.0 if questions > 40 else 0.0))
    serve(monkeypatch, [], failing(dict.fromkeys(range(5, ROWS), Disconnected("broke off"))))
    monkeypatch.setattr(AsyncClient, "is_ready", is_ready)
    monkeypatch.setattr(patience, "MOST_FAILURES", 2)
    monkeypatch.setattr(Patience, "next_pause_s", lambda _: 0.01)
    report = quorum.extract(deployment, "in.csv", options(patience_s=300.0))
    assert (report.ended, report.answered, report.failed) == ("unavailable", 5, 2 if is_well else 0)


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


def test_a_server_without_a_deployment_is_waited_for(
    deployment: quorum.Deployment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.path.unlink()
    answers: list[Any] = [Unreachable("gone"), ChannelNotFound("loading"), answer("")]

    def extract(*_: Any, **__: Any) -> Extraction:
        found = answers.pop(0)
        if isinstance(found, QuorumError):
            raise found
        assert isinstance(found, Extraction)
        return found

    monkeypatch.setattr(Client, "extract", extract)
    command = [*COMMAND, "--url", "127.0.0.1:1"]
    result = CliRunner().invoke(app, [*command, "--patience", "5m"])
    assert (result.exit_code, len(asked)) == (0, ROWS), result.stderr
    assert result.stderr.count("the server is away: waiting up to 5 min for it (gone)") == 1
    answers[:] = [Unreachable("gone")]
    result = CliRunner().invoke(app, [*command, "--out", "p.csv", "--patience", "0"])
    assert result.exit_code == 75
    assert "stopped before anything was asked: gone; `quorum up` starts a server here" in result.stderr


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


def waiting_job(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, progress: Callable[[JobProgress], None]
) -> quorum.ExtractReport:
    """A job whose server goes away after seven answers, until the wait was shown five times."""
    monkeypatch.setattr(bulk_job, "_WATCH_S", 0.05)
    monkeypatch.setattr(Patience, "next_pause_s", lambda _: 0.05)
    looks = 0

    def server(text: str) -> Extraction:
        if int(text) >= 7 and looks < 5:
            raise Unreachable("gone")
        return answer(text)

    def show(state: JobProgress) -> None:
        nonlocal looks
        looks += state.waits
        progress(state)

    serve(monkeypatch, [], server)
    return quorum.extract(deployment, "in.csv", options(patience_s=300.0), progress=show)


def test_the_state_is_shown_while_the_server_is_waited_for(
    deployment: quorum.Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = waiting_job(deployment, monkeypatch, JobDisplay("EUR", 1e-6))
    assert (report.ended, report.answered) == ("complete", ROWS)
    lines = capsys.readouterr().err.splitlines()
    assert sum("7 of 50 rows (14%), waiting for the server" in line for line in lines) >= 4


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
