# SPDX-License-Identifier: Apache-2.0
"""Budgets of members: counted by the minute and the day, across processes and restarts."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quorum.serving import budget as module
from quorum.serving.budget import CALLERS, Budget, Counts, Window, counts_path, read_windows
from quorum_contract import Price, Spent
from quorum_contract.usage import CALLED

DAY_S = 86_400
NOON_S = 20_000 * DAY_S + DAY_S // 2


class Clock:
    now_s = float(NOON_S)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(module.time, "time", lambda: own.now_s)
    return own


def budget(root: Path, price: Price | None = None, **limits: Any) -> Budget:
    return Budget("m", limits, price, root)


def spend(own: Budget, spent: Spent = Spent(1, 1000, 0)) -> bool:  # noqa: B008  (it is frozen)
    """Make a call; False: the budget is spent."""
    hold = own.take()
    if hold is not None:
        own.settle(hold, spent)
    return hold is not None


def calls(own: Budget, most: int = 100) -> int:
    """Number of calls until the budget is spent."""
    return next((number for number in range(most) if not spend(own)), most)


def test_a_clock_that_is_set_back_renews_no_budget(tmp_path: Path, clock: Clock) -> None:
    own = budget(tmp_path, calls_per_day=5)
    clock.now_s = 20_001.0 * DAY_S - 1
    assert calls(own) == 5
    clock.now_s += 2
    assert calls(own) == 5, "another day"
    for _ in range(4):
        clock.now_s -= 2
        assert calls(own) == 0
        clock.now_s += 2
        assert calls(own) == 0
    clock.now_s -= 2 * DAY_S
    assert calls(own) == 5, "it was wrong by days"


def test_money_is_settled_in_the_window_that_it_was_set_aside_in(tmp_path: Path, clock: Clock) -> None:
    own = budget(tmp_path, Price(per_call=1.0), per_minute=2.5)
    assert spend(own)
    clock.now_s -= 1
    assert calls(own) == 1
    assert read_windows(tmp_path, "m")[0].cost == 2.0


def test_calls_of_a_minute_and_of_a_day(tmp_path: Path, clock: Clock) -> None:
    own = budget(tmp_path, calls_per_minute=3, calls_per_day=8)
    assert calls(own) == 3
    clock.now_s += 59
    assert calls(own) == 0
    clock.now_s += 1
    assert calls(own) == 3
    clock.now_s += 60
    assert calls(own) == 2, "the day has eight"
    clock.now_s += DAY_S
    assert calls(own) == 3


def test_money_by_the_price_of_tokens(tmp_path: Path, clock: Clock) -> None:
    price = Price(per_1k_prompt_tokens=0.1)
    own = budget(tmp_path, price, per_day=1.0)
    assert calls(own) == 10
    clock.now_s += DAY_S
    assert calls(own) == 10
    assert calls(budget(tmp_path, price, per_day=1.25)) == 2, "a third would be above it"


def test_calls_in_flight_are_set_aside_by_what_calls_have_cost(tmp_path: Path, clock: Clock) -> None:
    own = budget(tmp_path, Price(per_call=1.0), per_day=5.0)
    assert spend(own)
    flying = [own.take() for _ in range(9)]
    assert sum(hold is not None for hold in flying) == 4
    for hold in flying:
        if hold:
            own.settle(hold, Spent(0))
    assert calls(own) == 4, "calls that were not made are given back"


def test_what_is_not_known_costs_what_was_set_aside(tmp_path: Path, clock: Clock) -> None:
    own = budget(tmp_path, Price(per_1k_prompt_tokens=1.0), per_day=3.0)
    assert spend(own)
    assert spend(own, CALLED)
    assert spend(own, CALLED)
    assert not spend(own)


def test_restarts_and_processes_count_together(tmp_path: Path, clock: Clock) -> None:
    assert calls(budget(tmp_path, calls_per_day=9), most=4) == 4
    assert calls(budget(tmp_path, calls_per_day=9)) == 5


def _spend_many(root: Path, out: Any) -> None:
    """Spend until the budget is spent; a call that another process's lock refuses is tried again."""
    own, spent = Budget("m", {"calls_per_day": 300}, None, root), 0
    while True:
        with contextlib.suppress(TimeoutError):
            if (hold := own.take()) is None:
                break
            spent += 1
            own.settle(hold, Spent(1, 1000, 0))
    out.put(spent)


def test_processes_at_once_spend_no_call_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    workers = [context.Process(target=_spend_many, args=(tmp_path, found)) for _ in range(3)]
    for worker in workers:
        worker.start()
    spent = [found.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    # At midnight two days have a budget each.
    assert sum(spent) in (300, 600)


FULL = Counts(Window(3, 4, 0.5), Window(1, 9, 2.5), 7.5, 30, b"12345678")


def test_counts_are_read_as_they_were_written() -> None:
    assert Counts.unpack(b"") == Counts()
    assert Counts.unpack(FULL.pack()) == FULL


@pytest.mark.parametrize(
    "data",
    [b"x" * 500, FULL.pack()[:-1], FULL.pack() + b"x", replace(FULL, usual_cost=float("nan")).pack()],
    ids=["other", "cut", "longer", "nan"],
)
def test_a_damaged_file_counts_as_nothing_and_is_logged_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    own = budget(tmp_path, calls_per_day=2)
    counts_path(tmp_path, "m").write_bytes(data)
    assert calls(own) == 2
    assert sum("counted as 0" in message for message in caplog.messages) == 1


def test_a_call_that_costs_more_than_the_limit_is_made_once_in_each_window(
    tmp_path: Path, clock: Clock
) -> None:
    own = budget(tmp_path, Price(per_call=7.0), per_day=5.0)
    for _ in range(3):
        assert calls(own) == 1
        clock.now_s += DAY_S


def test_what_calls_cost_lately_is_set_aside(tmp_path: Path, clock: Clock) -> None:
    own = budget(tmp_path, Price(per_1k_prompt_tokens=1.0), per_day=1000.0)
    for _ in range(100):
        assert spend(own, Spent(1, 9000))
    clock.now_s += DAY_S
    for _ in range(400):
        assert spend(own, Spent(1, 1000))
    hold = own.take()
    assert hold
    assert hold.cost == pytest.approx(1.0, abs=0.02)


def test_another_price_says_nothing_of_what_calls_cost(tmp_path: Path, clock: Clock) -> None:
    assert spend(budget(tmp_path, Price(per_call=100.0), per_day=1000.0))
    hold = budget(tmp_path, Price(per_call=0.1), per_day=1000.0).take()
    assert hold
    assert hold.cost == 0.0


def test_what_is_known_of_a_call_is_charged(tmp_path: Path, clock: Clock) -> None:
    own = budget(tmp_path, Price(per_call=1.0, per_1k_prompt_tokens=1.0), per_day=3.0)
    assert [spend(own, CALLED) for _ in range(4)] == [True, True, True, False]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_counts_in_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path / "shared")
    (tmp_path / "shared").mkdir()
    tmp_path.chmod(0o500)
    own = budget(tmp_path, calls_per_day=1)
    assert (spend(own), spend(own)) == (True, False)


def test_what_was_spent_so_far_can_be_read(tmp_path: Path, clock: Clock) -> None:
    nothing = read_windows(tmp_path, "m")
    assert [(w.calls, w.cost) for w in nothing] == [(0, 0.0)] * 2
    own = budget(tmp_path, Price(per_call=0.5), calls_per_day=9)
    assert spend(own)
    clock.now_s += 60
    assert spend(own)
    assert own.take()
    assert [(w.calls, w.cost) for w in read_windows(tmp_path, "m")] == [(2, 1.0), (3, 1.5)]
    counts_path(tmp_path, "m").write_bytes(b"damaged")
    assert [w.calls for w in read_windows(tmp_path, "m")] == [0, 0]


def test_a_link_in_place_of_the_counts_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARED_MEMORY", tmp_path)
    target = tmp_path / "precious"
    target.write_text("content", "utf-8")
    path = counts_path(tmp_path, "m")
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    own = budget(tmp_path, calls_per_day=1)
    assert (spend(own), spend(own)) == (True, False), "it is counted in shared memory instead"
    assert target.read_text("utf-8") == "content"


def test_a_lock_that_another_process_holds_is_not_waited_for(tmp_path: Path) -> None:
    budget = Budget("m", {"calls_per_day": 5}, None, tmp_path)
    with counts_path(tmp_path, "m").open("rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="holds its lock"):
            budget.take()
    assert budget.take() is not None


def test_a_spent_window_says_when_it_is_renewed(tmp_path: Path, clock: Clock) -> None:
    clock.now_s += 15
    own = budget(tmp_path, calls_per_minute=2, calls_per_day=3)
    assert own.renews_in_s() == 0
    assert calls(own) == 2
    assert own.renews_in_s() == 45
    clock.now_s += 45
    assert own.renews_in_s() == 0
    assert calls(own) == 1, "the day allows no more"
    assert own.renews_in_s() == DAY_S / 2 - 60


def test_a_call_that_was_not_made_is_given_back(tmp_path: Path, clock: Clock) -> None:
    """Of a caller, whose calls have a cost of their own and no price."""
    own = Budget("c", {"calls_per_day": 2, "per_day": 1.0}, None, tmp_path, CALLERS)
    for made, cost in ((0, 0.0), (1, 0.4), (0, 0.0), (1, None)):
        hold = own.take()
        assert hold
        own.count(hold, made, cost)
    _, day = read_windows(tmp_path, "c", CALLERS)
    assert (day.calls, day.cost) == (2, pytest.approx(0.8))
    assert own.take() is None
    assert not counts_path(tmp_path, "c").exists(), "a member of that name has counts of its own"


def test_a_refusal_names_the_limits_that_are_spent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = {"calls_per_minute": 1, "calls_per_day": 1, "per_day": 5.0}
    budget = Budget("shop", limits, None, tmp_path, CALLERS)
    hold = budget.take()
    assert hold is not None
    assert budget.take() is None
    assert budget.spent_limits == "1 requests per minute, 1 requests per day"
    budget.count(hold, 1, 6.0)
    assert budget.take() is None
    assert budget.spent_limits.endswith("1 requests per day, cost of 5 per day")
    assert "caller shop: its quota is spent (1 requests per minute" in caplog.text
