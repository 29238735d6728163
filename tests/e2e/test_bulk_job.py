# SPDX-License-Identifier: Apache-2.0
"""A job over listings outlives every end of its process and of its server: each row once, nothing paid twice.

By default the client is killed at a few moments, and the server at one. ``QUORUM_LONG=1`` kills client,
server or both fifty times in a job of ten thousand rows, which takes minutes; ``--log-cli-level=INFO`` shows
the figures.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import quorum, wait_for_note
from support.deployment import title, write_jsonl
from support.jobs import Command, Paid, paid_deployment, write_rows
from support.supervised import Supervised, supervised, until

from quorum.votes import read_votes

logger = logging.getLogger(__name__)
LONG = bool(os.environ.get("QUORUM_LONG"))
ROWS, KILLS = (10_000, 50) if LONG else (180, 5)
IN_FLIGHT = 8
LAST = 20
"""The last row of a short job."""
LATENCY_MS = 20.0
OPTIONS = ("--concurrency", str(IN_FLIGHT), "--part-rows", str(ROWS // 6), "--votes", "votes.parquet")


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paid]:
    folder = tmp_path_factory.mktemp("job")
    write_rows(folder / "in.jsonl", ROWS)
    with paid_deployment(folder, LATENCY_MS) as found:
        yield found


@pytest.fixture(scope="module")
def up(paid: Paid) -> Iterator[Supervised]:
    with supervised(paid.folder) as served:
        yield served


@pytest.fixture(scope="module")
def undisturbed(up: Supervised, paid: Paid) -> Path:
    """The answers of a run that nothing disturbs."""
    before = paid.calls
    out = paid.folder / "undisturbed.csv"
    job = Command(paid.folder, "in.jsonl", "--out", out.name, *OPTIONS[:4])
    job.start()
    assert job.ended() == 0, job.said
    assert f"{ROWS} answered, 0 failed" in job.said
    assert paid.calls - before == ROWS
    return out


def struck(number: int) -> str:
    """Whom the kill of this number strikes."""
    if LONG:
        return ("client", "server", "both")[number % 3]
    return "server" if number == KILLS - 2 else "client"


@pytest.mark.timeout(3600 if LONG else 120)
def test_killed_jobs_answer_every_row_once_and_pay_for_no_more_than_was_in_flight(
    paid: Paid, up: Supervised, undisturbed: Path
) -> None:
    draw = random.Random(7)
    out = paid.folder / "out.csv"
    job = Command(paid.folder, "in.jsonl", "--out", out.name, *OPTIONS)
    before, started = paid.calls, time.monotonic()
    at = sorted(draw.sample(range(1, ROWS), KILLS))
    kills = servers = 0
    try:
        job.start()
        for number, calls in enumerate(at):
            until(lambda calls=calls: paid.calls - before >= calls or not job.is_alive, 300.0)
            if not job.is_alive:
                break
            # Anywhere between two calls.
            time.sleep(draw.random() * LATENCY_MS / 1e3)
            whom = struck(number)
            if whom in ("server", "both"):
                up.strike("server", signal.SIGKILL)
                servers += 1
            if whom in ("client", "both"):
                job.kill()
                job.start()
            kills += 1
        code = job.ended()
    finally:
        job.close()
    assert code == 0, job.said
    assert kills >= KILLS / 2
    paid_for = paid.calls - before
    took = f"{time.monotonic() - started:.0f} s"
    logger.info("%d kills (%d of the server), %d calls for %d rows, %s", kills, servers, paid_for, ROWS, took)
    assert ROWS <= paid_for <= ROWS + IN_FLIGHT * kills
    # In the order of the input, byte for byte.
    assert out.read_bytes() == undisturbed.read_bytes()
    votes = read_votes(paid.folder / "votes.parquet")
    assert votes.n_products == ROWS
    assert len(votes.cells) == ROWS * 3


@pytest.mark.timeout(120)
def test_a_last_row_that_ends_the_server_each_time_fails_alone(paid: Paid, up: Supervised) -> None:
    rows = [{"sku": f"s{n}", "title": "a poisoned cup" if n == LAST else title(n)} for n in range(LAST + 1)]
    write_jsonl(paid.folder / "poisoned.jsonl", rows)
    kills: list[float] = []
    paid.when_asked("a poisoned cup", lambda: kills.append(up.strike("server", signal.SIGKILL)))
    job = Command(paid.folder, "poisoned.jsonl", "--out", "poisoned.csv", *OPTIONS[:2])
    try:
        job.start()
        assert job.ended() == 1, job.said
    finally:
        job.close()
    assert f"{LAST} answered, 1 failed" in job.said
    assert "1 failed with DISCONNECTED" in job.said
    assert len(kills) >= 3


@pytest.mark.timeout(120)
def test_a_server_that_hangs_is_waited_for(paid: Paid, up: Supervised, undisturbed: Path) -> None:
    job = Command(paid.folder, "in.jsonl", "--out", "hung.csv", *OPTIONS[:4], "--timeout", "1.5")
    before = paid.calls
    try:
        job.start()
        until(lambda: paid.calls - before >= ROWS // 3)
        up.strike("server", signal.SIGSTOP)
        until(lambda: "the server is away: waiting" in job.said or not job.is_alive)
        up.strike("server", signal.SIGCONT)
        assert job.ended() == 0, job.said
    finally:
        up.strike("server", signal.SIGCONT)
        job.close()
    assert (paid.folder / "hung.csv").read_bytes() == undisturbed.read_bytes()


def test_ctrl_c_and_the_same_command_say_what_is_done_and_what_it_cost(
    paid: Paid, up: Supervised, undisturbed: Path
) -> None:
    job = Command(paid.folder, "in.jsonl", "--out", "stopped.csv", *OPTIONS[:4], "--progress-every", "0.1s")
    before = paid.calls
    try:
        job.start()
        until(lambda: paid.calls - before >= ROWS // 3)
        job.interrupt()
        assert job.ended() == 130
        assert "run the same command again" in job.said
        assert not (paid.folder / "stopped.csv").exists()
        job.start()
        assert job.ended() == 0, job.said
    finally:
        job.close()
    goes_on = next(line for line in job.said.splitlines() if "goes on" in line)
    done = int(goes_on.split("goes on; ")[1].split()[0])
    assert ROWS // 3 - IN_FLIGHT <= done < ROWS
    assert f"of {ROWS} rows are done already for 0." in goes_on
    assert "rows/s" in job.said, "a plain line now and then, without a terminal"
    assert (paid.folder / "stopped.csv").read_bytes() == undisturbed.read_bytes()
    assert paid.calls - before <= ROWS + IN_FLIGHT


def test_a_server_that_stays_away_ends_the_job_with_75(paid: Paid, up: Supervised, undisturbed: Path) -> None:
    """The last test of this file that needs the server: nothing starts it again."""
    job = Command(paid.folder, "in.jsonl", "--out", "away.csv", *OPTIONS[:4], "--patience", "1s", "--json")
    before = paid.calls
    try:
        job.start()
        until(lambda: paid.calls - before >= ROWS // 3)
        up.process.send_signal(signal.SIGINT)
        assert job.ended() == 75, job.said
        report = json.loads(job.printed)
        assert (report["ended"], report["failed"]) == ("unavailable", 0)
        assert report["left"] == ROWS - report["answered"] > 0
        assert "the server is away: waiting up to 1 s for it" in job.said
        assert "Once `quorum status` says that the channel answers, run the same command again" in job.said
        until(lambda: up.process.poll() is not None)
        with supervised(paid.folder) as again:
            wait_for_note(paid.folder, again.process)
            job.start()
            assert job.ended() == 0, job.said
    finally:
        job.close()
    assert (paid.folder / "away.csv").read_bytes() == undisturbed.read_bytes()


def test_without_a_server_nothing_is_begun(paid: Paid, undisturbed: Path) -> None:
    _, said = quorum(
        paid.folder,
        "extract",
        "in.jsonl",
        "--out",
        "none.csv",
        "--url",
        "127.0.0.1:9",
        "--patience",
        "0",
        code=75,
    )
    assert "stopped before anything was asked" in said
    assert sorted(path.name for path in paid.folder.glob("none*")) == []
