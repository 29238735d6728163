# SPDX-License-Identifier: Apache-2.0
"""When a server counts as silent, and when its process is worth keeping."""

from __future__ import annotations

import time

import pytest

from quorum.server import life
from quorum.server.life import Life
from quorum_contract import CANARY, CHANNELS, STABLE


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(life.time, "monotonic", lambda: now[0])
    return now


def test_a_server_that_is_not_asked_is_live(now: list[float]) -> None:
    lives = Life()
    now[0] += 1000
    assert lives.is_live
    assert not lives.is_silent


def test_silence_needs_time_and_a_failed_question_to_every_channel(now: list[float]) -> None:
    lives = Life(silence_s=5)
    lives.begin()
    now[0] += 1
    for channel in CHANNELS:
        lives.failed(channel, now[0])
    assert not lives.is_silent, "too early"
    now[0] += 4
    assert lives.is_silent
    assert not lives.is_live
    lives.answered(CANARY, now[0])
    assert not lives.is_silent, "one channel is enough"
    now[0] += 60
    assert not lives.is_silent, "no question failed since: this process slept, not the server"
    lives.failed(CANARY, now[0])
    assert lives.is_silent


def test_an_answer_counts_from_its_question(now: list[float]) -> None:
    """Questions overtake each other: one that failed earlier takes nothing back."""
    lives = Life()
    lives.begin()
    lives.answered(STABLE, 120.0)
    lives.answered(STABLE, 110.0)
    lives.failed(STABLE, 105.0)
    now[0] = 126.0
    assert lives.answered_at[STABLE] == 120.0
    assert not lives.is_silent
    assert lives.answer_since(115.0, {STABLE})
    assert not lives.answer_since(115.0, {STABLE, CANARY})
    assert not lives.answer_since(120.0, set()), "a question that was sent before says nothing"


def test_channels_that_did_not_answer_before_are_not_waited_for(now: list[float]) -> None:
    lives = Life(silence_s=5)
    lives.begin()
    now[0] += 11
    lives.answered(STABLE, now[0] - 1)
    assert lives.answering() == {STABLE}


def test_a_first_restart_is_live_and_the_next_is_not(now: list[float]) -> None:
    lives = Life()
    lives.begin()
    now[0] += 60
    for channel in CHANNELS:
        lives.failed(channel, now[0])
    live = []
    for lives.restarts in range(4):
        live.append(lives.is_live)
    assert live == [False, True, False, False]
    assert time.monotonic() == now[0]
