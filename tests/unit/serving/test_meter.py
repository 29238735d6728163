# SPDX-License-Identifier: Apache-2.0
"""The working time of an LLM is shared out among its questions, none of it twice."""

from __future__ import annotations

import pytest

from quorum.serving import meter as module
from quorum.serving.meter import Meter


def test_questions_at_once_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    meter = Meter()
    now = 150.0  # Idle: of nobody.
    first = meter.start()
    now = 151.0
    second = meter.start()
    now = 153.0
    assert first.end() == 2.0  # One second alone, half of two.
    now = 157.0
    assert second.end() == 5.0  # Half of two, four alone.
    assert (first.end(), second.end()) == (2.0, 5.0)
    now = 160.0
    third = meter.start()
    now = 160.5
    assert third.end() == 0.5


def test_the_shares_add_up_to_the_time_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    meter, turns = Meter(), []
    for number in range(10):
        turns.append(meter.start())
        now += 0.1 * (number + 1)
    total = 0.0
    for turn in turns:
        total += turn.end()
        now += 0.25
    # The last 0.25 s are after the last question.
    assert total == pytest.approx(now - 0.25)
