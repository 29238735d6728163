# SPDX-License-Identifier: Apache-2.0
"""The state machine of an endpoint, under a clock of its own: limits, breaker, retry budget, concurrency."""

from __future__ import annotations

import heapq
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorum.runtimes.remote.breaker import Breaker, Rules, State
from quorum.runtimes.remote.budget import SHARE, RetryBudget
from quorum.runtimes.remote.choice import choose
from quorum.runtimes.remote.concurrency import Concurrency
from quorum.runtimes.remote.endpoint import End, Ending, Endpoint, Latencies, Limits
from quorum.runtimes.remote.retry_after import retry_after_s
from quorum.runtimes.remote.window import Window

CHANCE = st.integers(0, 2**32 - 1).map(random.Random)


def most_in_any(times: list[float], length_s: float) -> int:
    """Most of these times, sorted, in any half-open span of that length."""
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - length_s:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(CHANCE, st.integers(1, 20), st.floats(0.0, 5.0))
def test_a_server_never_counts_more_than_the_limit_whatever_the_network_delays(
    chance: random.Random, limit: int, slowest_s: float
) -> None:
    """Each request is counted by the server at some time between being sent and being answered."""
    window, now = Window(limit, 10.0), 0.0
    answers: list[tuple[float, int]] = []
    counted: list[float] = []
    for _ in range(100):
        while (at := window.free_at(now, 1)) > now:
            at = min(at, answers[0][0]) if answers else at
            now = at
            while answers and answers[0][0] <= now:
                window.counted(heapq.heappop(answers)[0], 1)
        window.take(now, 1)
        took = chance.uniform(0, slowest_s)
        counted.append(now + chance.uniform(0, took))
        heapq.heappush(answers, (now + took, 1))
        now += chance.choice([0, 0, 0.1, 3])
        while answers and answers[0][0] <= now:
            window.counted(heapq.heappop(answers)[0], 1)
    assert most_in_any(sorted(counted), 10.0 - 1e-6) <= limit


def test_600_requests_to_a_server_that_allows_60_a_minute() -> None:
    """All at once, each answered after a second: none is refused, and all are answered in ten minutes."""
    endpoint, now, sent = Endpoint("", Limits(requests=60, concurrency=64)), 0.0, list[float]()
    in_flight: list[tuple[float, int, object]] = []
    left = 600
    while left or in_flight:
        ready = endpoint.ready_at(now, 1) if left else math.inf
        ends = in_flight[0][0] if in_flight else math.inf
        if ready <= now:
            heapq.heappush(in_flight, (now + 1, left, endpoint.start(now, 1)))
            sent.append(now)
            left -= 1
            continue
        now = min(ready, ends)
        assert math.isfinite(now), "waits for ever"
        while in_flight and in_flight[0][0] <= now:
            endpoint.end(heapq.heappop(in_flight)[2], now, End(Ending.ANSWERED))  # type: ignore[arg-type]
    assert most_in_any(sent, 60.0 - 1e-6) <= 60
    assert now < 600 + 9 * 2


def test_tokens_are_corrected_by_what_was_used() -> None:
    window = Window(100, 60.0)
    assert window.take(0, 80) == 80
    assert window.free_at(0, 30) == math.inf
    window.counted(1, 80, 20)
    assert window.used(1) == 20
    assert window.free_at(1, 80) == 1
    assert window.free_at(1, 500) == 61, "more than the limit waits until all of it is free"
    assert window.take(61, 500) == 100


@given(st.lists(st.sampled_from(["question", "pay"]), max_size=200))
def test_requests_per_question_stay_within_the_budget(steps: list[str]) -> None:
    budget, questions, repeated = RetryBudget(), 0, 0
    for step in steps:
        if step == "question":
            budget.save()
            questions += 1
        elif budget.pay():
            repeated += 1
        assert repeated <= SHARE * questions + 1e-6


def test_ten_questions_pay_one_retry() -> None:
    budget = RetryBudget()
    for _ in range(10):
        assert not budget.pay()
        budget.save()
    assert budget.pay()
    assert not budget.pay()


@given(CHANCE, st.integers(1, 64))
def test_concurrency_stays_within_its_bounds_and_recovers(chance: random.Random, most: int) -> None:
    concurrency, now, sent = Concurrency(most), 0.0, list[float]()
    for _ in range(300):
        now += 1
        if not concurrency.is_full and chance.random() < 0.7:
            concurrency.enter()
            sent.append(now)
        elif sent:
            is_bad = chance.random() < 0.2
            concurrency.leave(sent.pop(0), now, not is_bad, is_bad)
        assert 1 <= concurrency.limit <= most
        assert concurrency.in_flight == len(sent)
    while sent:
        concurrency.leave(sent.pop(), now, False, False)
    for _ in range(most * most + most):
        now += 1
        room = concurrency.limit
        for _ in range(room):
            concurrency.enter()
        for _ in range(room):
            concurrency.leave(now, now, True, False)
        if concurrency.limit == most:
            break
    assert concurrency.limit == most


def test_one_burst_of_refusals_halves_it_once() -> None:
    concurrency = Concurrency(64)
    for _ in range(8):
        concurrency.enter()
    for _ in range(8):
        concurrency.leave(0.0, 1.0, False, True)
    assert concurrency.limit == 4


def fail(breaker: Breaker, now: float, times: int) -> None:
    for _ in range(times):
        assert breaker.passes_at(now) == now
        breaker.leave(now, False, breaker.enter())


def test_the_life_of_a_breaker() -> None:
    breaker = Breaker(Rules(failures=5, pause_s=1.0, longest_s=4.0))
    fail(breaker, 0.0, 4)
    assert breaker.state is State.CLOSED
    fail(breaker, 0.0, 1)
    assert breaker.state is State.OPEN
    assert breaker.passes_at(0.5) == 1.0
    pauses = []
    now = 1.0
    for _ in range(4):
        assert breaker.passes_at(now) == now
        assert breaker.enter()
        assert breaker.state is State.PROBING
        assert breaker.passes_at(now) == math.inf, "one request tries"
        breaker.leave(now, False, True)
        pauses.append(breaker.passes_at(now) - now)
        now = breaker.passes_at(now)
    assert pauses == [2.0, 4.0, 4.0, 4.0]
    breaker.leave(now, None, breaker.enter())
    assert breaker.passes_at(now) == now, "a probe that was not waited for says nothing"
    breaker.leave(now, True, breaker.enter())
    assert breaker.state is State.CLOSED
    fail(breaker, now, 4)
    assert breaker.state is State.CLOSED, "it starts anew"
    assert breaker.opened == 1


def test_failures_in_a_row_count_whatever_was_before() -> None:
    endpoint = Endpoint("", Limits())
    for _ in range(50):
        endpoint.end(endpoint.start(0.0, 1), 0.1, End(Ending.ANSWERED))
    for _ in range(4):
        endpoint.end(endpoint.start(1.0, 1), 1.0, End(Ending.FAILED))
    overload(endpoint, 1.0, 0.1)
    assert endpoint.state is State.CLOSED
    endpoint.end(endpoint.start(2.0, 1), 2.0, End(Ending.FAILED))
    assert endpoint.state is State.OPEN


def test_a_few_failures_among_many_answers_open_nothing() -> None:
    breaker = Breaker()
    for number in range(400):
        breaker.leave(0.0, number % 3 != 0, breaker.enter())
    assert breaker.state is State.CLOSED


@given(st.lists(st.sampled_from(["ask", "ok", "bad", "lost", "wait"]), max_size=120))
def test_an_open_breaker_lets_at_most_one_request_through(steps: list[str]) -> None:
    breaker, now, in_flight = Breaker(Rules(failures=2)), 0.0, list[bool]()
    for step in steps:
        if step == "wait":
            now += 0.7
        elif step == "ask" and breaker.passes_at(now) <= now:
            in_flight.append(breaker.enter())
        elif step in ("ok", "bad", "lost") and in_flight:
            breaker.leave(now, {"ok": True, "bad": False}.get(step), in_flight.pop(0))
        assert sum(in_flight) <= 1
        assert (breaker.state is State.PROBING) == (sum(in_flight) == 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "999999999"}, 3600.0),
        ({"retry-after": "Thu, 99 Foo"}, None),
        ({"retry-after": "1" * 5000}, None),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, now=100.0) == seconds


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_header_is_a_bounded_time_or_none(one: str, other: str) -> None:
    found = retry_after_s({"retry-after": one, "retry-after-ms": other})
    assert found is None or 0 <= found <= 3600


def overload(endpoint: Endpoint, now: float, wait_s: float | None = None) -> None:
    endpoint.end(endpoint.start(now, 1), now, End(Ending.OVERLOADED, wait_s))


def test_retry_after_is_kept_to() -> None:
    endpoint = Endpoint("", Limits())
    overload(endpoint, 0.0, 7.0)
    assert endpoint.ready_at(1.0, 1) == 7.0
    assert endpoint.state is State.CLOSED, "too many requests are no fault of the server"


@pytest.mark.parametrize("named_s", [None, 0.0])
def test_pauses_grow_where_the_server_names_none_and_an_answer_ends_them(named_s: float | None) -> None:
    endpoint, now, pauses = Endpoint("", Limits(), random.Random(0)), 0.0, []
    for _ in range(8):
        overload(endpoint, now, named_s)
        pauses.append(endpoint.ready_at(now, 1) - now)
        now += pauses[-1]
    assert all(0.75 * 2**k <= pause <= 1.25 * 2**k for k, pause in enumerate(pauses[:5]))
    assert pauses[-1] <= 30 * 1.25
    endpoint.end(endpoint.start(now, 1), now, End(Ending.ANSWERED))
    overload(endpoint, now)
    assert endpoint.ready_at(now, 1) - now <= 1.25


def test_pauses_stay_as_long_however_often_it_was_overloaded() -> None:
    endpoint, now = Endpoint("", Limits(), random.Random(0)), 0.0
    for _ in range(1100):
        overload(endpoint, now)
        now = endpoint.ready_at(now, 1)
    overload(endpoint, now)
    assert endpoint.ready_at(now, 1) - now >= 30 * 0.75


def test_requests_that_were_in_flight_together_make_one_pause() -> None:
    endpoint = Endpoint("", Limits(), random.Random(0))
    grants = [endpoint.start(0.0, 1) for _ in range(8)]
    for grant in grants:
        endpoint.end(grant, 0.5, End(Ending.OVERLOADED))
    assert endpoint.ready_at(0.5, 1) <= 0.5 + 1.25


def test_after_a_refused_field_one_request_leads_until_one_is_answered() -> None:
    endpoint = Endpoint("", Limits())
    endpoint.end(endpoint.start(0.0, 1), 0.1, End(Ending.TAUGHT))
    for ending in (Ending.TAUGHT, Ending.DROPPED, Ending.ANSWERED):
        assert endpoint.ready_at(1.0, 1) == 1.0
        leading = endpoint.start(1.0, 1)
        assert endpoint.ready_at(1.0, 1) == math.inf
        endpoint.end(leading, 1.1, End(ending))
    endpoint.start(2.0, 1)
    assert endpoint.ready_at(2.0, 1) == 2.0
    assert endpoint.state is State.CLOSED


def test_what_was_given_up_says_nothing_and_what_was_late_after_a_second_is_a_failure() -> None:
    endpoint = Endpoint("", Limits())
    for ending, waited_s in ((Ending.DROPPED, 9.0), (Ending.LATE, 0.3)):
        for _ in range(20):
            endpoint.end(endpoint.start(0.0, 1), waited_s, End(ending))
    assert endpoint.state is State.CLOSED
    for _ in range(5):
        endpoint.end(endpoint.start(0.0, 1), 1.5, End(Ending.LATE))
    assert endpoint.state is State.OPEN


def test_late_is_told_by_what_is_usual_not_by_the_slowest() -> None:
    endpoint = Endpoint("", Limits())
    for took in (*[2.0] * 9, 30.0):
        endpoint.end(endpoint.start(0.0, 1), took, End(Ending.ANSWERED))
    for waited_s, state in ((2.4, State.CLOSED), (2.6, State.OPEN)):
        for _ in range(12):
            if endpoint.ready_at(50.0, 1) <= 50.0:
                endpoint.end(endpoint.start(50.0, 1), 50.0 + waited_s, End(Ending.LATE))
        assert endpoint.state is state


@given(CHANCE)
def test_latencies_keep_the_latest(chance: random.Random) -> None:
    latencies, all_times = Latencies(), [chance.random() for _ in range(250)]
    assert latencies.share(0.5) is None
    for time in all_times:
        latencies.add(time)
    latest = sorted(all_times[-100:])
    assert latencies.share(0.5) == latest[50]
    assert latencies.share(0.95) == latest[95]
    assert latencies.share(1.0) == latest[-1]


def test_the_faster_endpoint_is_chosen_and_the_other_when_it_fails() -> None:
    fast, slow = Endpoint("fast", Limits()), Endpoint("slow", Limits())
    for endpoint, took in ((fast, 0.1), (slow, 0.5)):
        for _ in range(5):
            endpoint.end(endpoint.start(0.0, 1), took, End(Ending.ANSWERED))
    assert choose([slow, fast], 1.0, 1).endpoint is fast
    assert choose([slow, fast], 1.0, 1, [fast]).endpoint is slow
    for _ in range(5):
        fast.end(fast.start(1.0, 1), 1.0, End(Ending.FAILED))
    assert choose([slow, fast], 1.0, 1).endpoint is slow
    assert choose([slow, fast], 2.0, 1).endpoint is fast, "it gets the one request that tries"
    fast.start(2.0, 1)
    assert choose([slow, fast], 2.0, 1).endpoint is slow


def test_where_all_fail_nothing_waits() -> None:
    endpoint = Endpoint("", Limits())
    for _ in range(5):
        endpoint.end(endpoint.start(0.0, 1), 0.0, End(Ending.FAILED))
    found = choose([endpoint], 0.5, 1)
    assert found.all_open
    assert found.endpoint is None


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["start", "wait", "second"]),
        st.tuples(st.sampled_from(list(Ending)), st.one_of(st.none(), st.floats(0, 5)), st.integers(0, 50)),
    ),
    max_size=150,
)


@given(STEPS, st.integers(1, 6))
def test_whatever_happens_an_endpoint_can_be_asked_again(steps: list[object], requests: int) -> None:
    """Limits are kept, and nothing that happened keeps an endpoint from being asked for ever."""
    limits = Limits(requests=requests, tokens=60, concurrency=4, window_s=10.0)
    endpoint, now = Endpoint("", limits, random.Random(1)), 0.0
    open_grants, sent = [], list[float]()
    for step in steps:
        if step == "start" and endpoint.ready_at(now, 10) <= now:
            open_grants.append(endpoint.start(now, 10))
            sent.append(now)
        elif step in ("wait", "second"):
            now += 0.1 if step == "wait" else 1.0
        elif isinstance(step, tuple) and open_grants:
            endpoint.end(open_grants.pop(0), now, End(*step))
        assert endpoint.concurrency.in_flight == len(open_grants) <= 4
    for grant in open_grants:
        endpoint.end(grant, now, End(Ending.DROPPED))
    assert most_in_any(sent, 10.0 - 1e-6) <= requests
    ready = endpoint.ready_at(now, 10)
    assert now <= ready <= now + 60
    assert all(later >= earlier for earlier, later in pairwise(sent))
