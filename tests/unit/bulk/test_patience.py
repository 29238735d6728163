# SPDX-License-Identifier: Apache-2.0
"""What becomes of a row that failed, how long a job waits, and how it says both."""

from __future__ import annotations

import pytest

from quorum.bulk import patience as module
from quorum.bulk.durations import in_words, parse_duration
from quorum.bulk.patience import MOST_FAILURES, Fate, Patience
from quorum.bulk.progress import JobProgress, Pace
from quorum.cli.job_progress import line_of
from quorum_client import DeadlineExceeded, Disconnected, Overloaded, ServerError, Unreachable
from quorum_contract.errors import InvalidRequest

GONE, FULL, BROKE = Unreachable("gone"), Overloaded("full"), Disconnected("broke off")


def test_errors_of_the_server_are_asked_again_and_those_of_rows_kept() -> None:
    patience = Patience(60.0, lambda _: None)
    assert patience.fate(1, GONE) is patience.fate(1, FULL) is Fate.AGAIN
    assert patience.fate(1, DeadlineExceeded("late")) is patience.fate(1, InvalidRequest("long")) is Fate.KEEP


def test_a_row_is_blamed_only_if_others_are_answered_in_between() -> None:
    patience = Patience(60.0, lambda _: None)
    assert [patience.fate(1, BROKE) for _ in range(9)] == [Fate.AGAIN] * 9, "the server is broken"
    patience.answered(2)
    assert patience.fate(1, BROKE) is Fate.ALONE
    patience.answered(3)
    assert patience.fate(1, BROKE) is Fate.KEEP
    assert patience.fate(4, BROKE) is Fate.AGAIN


def test_a_late_row_is_blamed_if_others_were_answered_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    now, late = 100.0, DeadlineExceeded("late")
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    notes: list[str] = []
    patience = Patience(60.0, notes.append, timeout_s=10.0)
    patience.answered(1)
    now += 7
    assert patience.fate(2, late) is Fate.KEEP
    now += 2
    assert (patience.fate(3, late), patience.in_doubt, patience.waits) == (Fate.AGAIN, True, True)
    assert notes == ["the server is away: waiting up to 1 min for it (late)"]
    for fate in (Fate.ALONE, Fate.KEEP):
        # It is what hangs the server, which is well when it is not asked about it.
        patience.well()
        now += 10
        assert patience.fate(3, late) is fate


def test_where_all_fail_the_rest_is_spared() -> None:
    notes: list[str] = []
    patience = Patience(60.0, notes.append)
    error = ServerError("broken", status="INTERNAL")
    assert [patience.fate(row, error) for row in range(MOST_FAILURES)] == [Fate.KEEP] * MOST_FAILURES
    patience.answered(1)
    assert [patience.fate(row, error) for row in range(MOST_FAILURES)] == [Fate.KEEP] * MOST_FAILURES
    assert not patience.waits
    assert patience.fate(7, error) is Fate.AGAIN
    assert notes[0].startswith("the server is failing: waiting up to 1 min")


def test_only_an_answer_ends_a_wait() -> None:
    ends: list[float | None] = []
    notes: list[str] = []
    patience = Patience(600.0, notes.append, ends.append)
    patience.on_wait(GONE)
    patience.answered(1)
    assert patience.waits, "an answer from before the wait"
    patience.on_wait(None)
    patience.fate(2, BROKE)
    assert patience.waits
    assert len(ends) == 1, "the clock goes on"
    patience.answered(2)
    assert not patience.waits
    assert ends[1:] == [None]
    assert len(notes) == 2
    assert notes[1].startswith("the server answers again after")
    assert "waiting up to 10 min for it (gone)" in notes[0]


def test_pauses_grow_until_an_answer() -> None:
    patience = Patience(60.0, lambda _: None)
    pauses = [patience.next_pause_s() for _ in range(12)]
    assert pauses[0] < 0.2
    assert 7 < pauses[-1] < 13
    patience.answered(1)
    assert patience.next_pause_s() < 0.2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2 h", 7200), ("0", 0), ("0.5s", 0.5), ("1d", 86_400)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "ten", "5x", "m", "-1s", "1h30", "nan"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="write a number with its unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.34, "0.3 s"), (12.4, "12 s"), (90, "1 min 30 s"), (600, "10 min"), (5400, "1 h 30 min")],
)
def test_durations_are_said_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_pace_is_that_of_the_last_minute() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    assert pace.rate is None
    assert pace.eta_s(10) is None
    for _ in range(300):
        now += 1.0
        pace.add()
    assert pace.rate == pytest.approx(1.0, rel=0.05)
    for _ in range(900):
        now += 0.1
        pace.add()
    assert pace.rate == pytest.approx(10.0, rel=0.05)
    assert pace.eta_s(100) == pytest.approx(10.0, rel=0.05)


def test_a_line_says_what_is_done_and_left() -> None:
    state = JobProgress(
        done=250, total=1000, failed=2, rate=35.21, eta_s=90.0, cost=0.25, abstained=0.021, waits=False
    )
    assert line_of(state, "EUR") == (
        "250 of 1000 rows (25%), 35.2 rows/s, 1 min 30 s left, cost 0.25 EUR, 2.1% abstained, 2 failed"
    )
    waiting = JobProgress(done=0, total=10, waits=True)
    assert line_of(waiting, "") == "0 of 10 rows (0%), waiting for the server"
