# SPDX-License-Identifier: Apache-2.0
"""Both clients against several servers, and against one that comes and goes: where calls go, what is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from support.both_clients import FULL, UNAVAILABLE, urls

import quorum_client as qc
from quorum_client import Item
from quorum_client._attempts import Attempts

BROKEN = (UNAVAILABLE, "Socket closed")
NOT_READY = (UNAVAILABLE, "request for model 'quorum' is not at ready state")
FOREVER_S = 60.0


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not happen within 30 s"
        time.sleep(0.005)


def test_many_products_are_shared_out(triton: Any, others: Any, make: Any) -> None:
    servers = [triton, *others]
    for server in servers:
        server.delay_s = lambda request: 0.01
    results = make(",".join(urls(*servers))).many([Item(str(n), ["a"]) for n in range(60)], concurrency=6)
    assert len(results) == 60
    assert sum(len(server.requests) for server in servers) == 60
    assert min(len(server.requests) for server in servers) >= 10
    assert max(server.most_in_flight for server in servers) <= 4


@pytest.mark.parametrize("fault", [FULL, NOT_READY])
def test_what_one_server_refuses_another_answers_at_once(
    triton: Any, others: Any, make: Any, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton.always = others[0].always = fault
    monkeypatch.setattr("quorum_client._attempts._PAUSES_S", ())
    results = make(urls(triton, *others)).many([Item("t", ["a"])] * 12, priority="interactive", concurrency=1)
    assert len(results) == len(others[1].requests) == 12


@pytest.mark.parametrize(("fault", "requests"), [(FULL, 6), (NOT_READY, 4)])
def test_two_servers_are_asked_as_often_as_the_guide_says(
    triton: Any, others: Any, make: Any, soon: None, fault: Any, requests: int
) -> None:
    triton.always = others[0].always = fault
    with pytest.raises(qc.Unavailable):
        make(urls(triton, others[0])).extract("t", ["a"])
    assert len(triton.requests) + len(others[0].requests) == requests


def test_a_full_server_is_no_reason_for_a_run_to_wait_while_another_has_room(
    triton: Any, others: Any, make: Any
) -> None:
    triton.always = FULL
    waits: list[Any] = []
    results = make(urls(triton, others[0])).many([Item("t", ["a"])] * 12, concurrency=1, on_wait=waits.append)
    assert len(results) == 12
    assert waits == []


def test_a_dead_server_is_asked_by_few_calls(triton: Any, nowhere: str, make: Any) -> None:
    results = make([nowhere, triton.url]).many([Item("t", ["a"])] * 50, priority="interactive")
    assert [result["a"].value for result in results] == ["v-a"] * 50


def test_a_server_that_is_back_is_asked_again(triton: Any, nowhere: str, come: Callable[[], None]) -> None:
    with qc.Client([triton.url, nowhere]) as client:
        for _ in range(4):
            client.extract("t", ["a"])
        back = client._connection.servers.all[1]
        assert back.away_until
        come()

        def is_asked() -> bool:
            client.extract("t", ["a"])
            return not back.away_until

        wait(is_asked)
        before = len(triton.requests)
        for _ in range(10):
            client.extract("t", ["a"])
        assert len(triton.requests) == before + 5


def test_a_server_without_the_channel_stays_alone(triton: Any, others: Any) -> None:
    """Its port answers, so only the question for readiness says that it is not back."""
    others[0].always = None
    others[0].refuse = {"quorum": NOT_READY}
    others[0].ready = {}
    with qc.Client(urls(triton, others[0])) as client:
        server = client._connection.servers.all[1]

        def was_asked_twice() -> bool:
            client.extract("t", ["a"])
            return server.failures > 1

        wait(was_asked_twice)
        assert len(others[0].requests) == 1


def test_a_server_that_answers_nothing_is_asked_by_few_calls(triton: Any, others: Any, make: Any) -> None:
    slow(triton)
    triton.ready = {}
    results = make(urls(triton, others[0]), timeout_s=1.0).many(
        [Item("t", ["a"])] * 20, errors="return", concurrency=1, priority="interactive"
    )
    assert sum(isinstance(result, qc.DeadlineExceeded) for result in results) == 3


@pytest.mark.parametrize("resend", [False, True])
def test_a_call_that_broke_off_is_sent_again_only_where_the_caller_wants_it(
    triton: Any, others: Any, make: Any, resend: bool
) -> None:
    triton.always = BROKEN
    results = make(urls(triton, others[0]), resend=resend).many(
        [Item("t", ["a"])] * 4, errors="return", concurrency=1, priority="interactive"
    )
    lost = [result for result in results if isinstance(result, qc.Disconnected)]
    assert len(lost) == (0 if resend else 1)
    assert len(triton.requests) == 1


def test_a_question_that_kills_its_server_is_sent_three_times_at_most(triton: Any, make: Any) -> None:
    triton.always = BROKEN
    with pytest.raises(qc.Disconnected):
        make(triton.url, resend=True, wait_for_ready=True).extract("t", ["a"])
    assert len(triton.requests) == 3


def test_a_call_waits_for_a_server_until_its_deadline(
    nowhere: str, come: Callable[[], None], make: Any, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []
    pause_s = Attempts.pause_s

    def count(self: Any, *failed: Any) -> float | None:
        attempts.append(self)
        # Without waiting there are three attempts.
        if len(attempts) == 5:
            come()
        return pause_s(self, *failed)

    monkeypatch.setattr(Attempts, "pause_s", count)
    assert make(nowhere, wait_for_ready=True, timeout_s=60).extract("t", ["a"])["a"].value == "v-a"
    assert len(attempts) >= 5


def test_a_call_waits_no_longer_than_its_deadline(nowhere: str, make: Any, soon: None) -> None:
    start = time.monotonic()
    with pytest.raises(qc.Unreachable):
        make(nowhere, wait_for_ready=True, timeout_s=0.5).extract("t", ["a"])
    assert time.monotonic() - start < 10


def test_a_full_server_is_not_waited_for(triton: Any, make: Any) -> None:
    triton.always = FULL
    with pytest.raises(qc.Overloaded):
        make(triton.url, wait_for_ready=True).extract("t", ["a"])
    assert len(triton.requests) == 3


def test_one_call_survives_the_end_of_its_server(triton: Any, make: Any, soon: None) -> None:
    """The connection breaks in the middle of an answer, and the server takes longer than three attempts."""
    triton.faults = [BROKEN, NOT_READY, NOT_READY, NOT_READY, NOT_READY]
    found = make(triton.url, wait_for_ready=True, resend=True).extract("t", ["a"])
    assert (found["a"].value, len(triton.requests)) == ("v-a", 6)
    assert found.latency_s > 0.1, "the time of all attempts"


def test_it_is_ready_when_one_server_is(triton: Any, others: Any, nowhere: str, make: Any) -> None:
    others[0].ready = {}
    assert make([nowhere, others[0].url, triton.url]).is_ready()
    assert not make([nowhere, others[0].url], retries=False).is_ready()


def test_it_is_ready_although_another_server_refuses_the_question(
    triton: Any, others: Any, make: Any
) -> None:
    triton.always = (grpc.StatusCode.PERMISSION_DENIED, "not from here")
    others[1].ready_delay_s = 0.2
    assert make(urls(triton, others[1])).is_ready()
    others[0].ready = {}
    with pytest.raises(qc.ServerError, match="not from here") as raised:
        make(urls(triton, others[0])).is_ready()
    assert isinstance(raised.value.__cause__, grpc.RpcError)


def test_all_servers_are_asked_at_once_whether_they_are_ready(triton: Any, others: Any, make: Any) -> None:
    triton.ready_delay_s = others[0].ready_delay_s = FOREVER_S
    start = time.monotonic()
    assert make(urls(triton, *others), timeout_s=20).is_ready(), "one answers at once"
    assert time.monotonic() - start < 5
    start = time.monotonic()
    assert not make(urls(triton, others[0]), timeout_s=2).is_ready()
    assert time.monotonic() - start < 4, "one deadline"


@pytest.mark.parametrize("name", ["wait_for_ready", "resend"])
def test_what_needs_retries_is_refused_without(make: Any, name: str) -> None:
    with pytest.raises(qc.InvalidRequest, match=f"{name}: .*retries"):
        make("a:1", retries=False, **{name: True})


def test_headers_of_one_call_go_with_it_alone(triton: Any) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with qc.Client(triton.url, key="k", headers={"x-team": "shoes"}) as client:
        client.extract("t", ["a"], headers={"traceparent": parent, "X-Team": "hats"})
        client.extract("t", ["a"])
        with pytest.raises(qc.InvalidRequest, match="headers"):
            client.extract("t", ["a"], headers={"trace parent": parent})
    first, second = triton.headers
    assert (first["traceparent"], first["x-team"], first["authorization"]) == (parent, "hats", "Bearer k")
    assert "traceparent" not in second
    assert second["x-team"] == "shoes"


def slow(server: Any) -> None:
    server.delay_s = lambda request: 0.0 if "quorum_cancel" in request.parameters else FOREVER_S


def cancelled(server: Any) -> list[str]:
    return [
        r.parameters["quorum_cancel"].string_param for r in server.requests if "quorum_cancel" in r.parameters
    ]


def test_a_slow_server_is_hedged_by_another(triton: Any, others: Any, make: Any) -> None:
    other = others[0]
    slow(triton)
    client = make(urls(triton, other), hedge_s=0.05)
    # The first of equals is the first server.
    found = client.extract("t", ["a"], request_id="r-1")
    assert found["a"].value == "v-a"
    wait(lambda: cancelled(triton) == ["r-1"])
    assert [request.id for request in other.requests] == ["r-1"]
    servers = client.client._connection.servers.all
    assert [server.asking for server in servers] == [0, 0]


def test_hedges_are_few(triton: Any, others: Any) -> None:
    for server in (triton, others[0]):
        server.delay_s = lambda request: 0.03
    with qc.Client(urls(triton, others[0]), hedge_s=0.001, hedge_share=0.1) as client:
        for _ in range(40):
            client.extract("t", ["a"])
    asked = [r for s in (triton, others[0]) for r in s.requests if "quorum_cancel" not in r.parameters]
    assert 40 + 3 <= len(asked) <= 40 + 6


def test_an_answer_in_time_is_not_hedged(triton: Any, others: Any, make: Any) -> None:
    make(urls(triton, others[0]), hedge_s=20.0).extract("t", ["a"])
    assert len(triton.requests) + len(others[0].requests) == 1


def test_bulk_is_not_hedged(triton: Any, others: Any, make: Any) -> None:
    for server in (triton, others[0]):
        server.delay_s = lambda request: 0.05
    make(urls(triton, others[0]), hedge_s=0.001).many([Item("t", ["a"])] * 4)
    assert len(triton.requests) + len(others[0].requests) == 4


def test_a_hedge_that_fails_leaves_the_first_call_alone(triton: Any, others: Any, make: Any) -> None:
    triton.delay_s = lambda request: 0.3
    others[0].always = (grpc.StatusCode.INTERNAL, "stub gone")
    found = make(urls(triton, others[0]), hedge_s=0.05).extract("t", ["a"])
    assert found["a"].value == "v-a"
    assert len(others[0].requests) == 1


def test_hedged_calls_that_both_fail_raise(triton: Any, others: Any, make: Any) -> None:
    for server in (triton, others[0]):
        server.delay_s = lambda request: 0.1
        server.always = (grpc.StatusCode.INTERNAL, "stub gone")
    with pytest.raises(qc.ServerError, match="stub gone"):
        make(urls(triton, others[0]), hedge_s=0.02).extract("t", ["a"])


def both(first: Any, second: Any, fault: Any, second_fault: Any, lead_s: float = 0.0) -> None:
    """Both fail once both were asked, the first by so many seconds earlier; it is later below 0."""

    def after(pause_s: float) -> Callable[[Any], float]:
        def delay_s(request: Any) -> float:
            wait(lambda: bool(first.requests and second.requests))
            return pause_s

        return delay_s

    first.always, second.always = fault, second_fault
    first.delay_s, second.delay_s = after(max(0.0, -lead_s)), after(max(0.0, lead_s))


def test_a_hedged_call_that_two_full_servers_refuse_pauses(
    triton: Any, others: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorum_client._attempts._PAUSES_S", (0.02, 0.05))
    both(triton, others[0], FULL, FULL)
    with pytest.raises(qc.Overloaded):
        make(urls(triton, others[0]), hedge_s=0.02, hedge_share=1.0).extract("t", ["a"])
    assert len(triton.requests) + len(others[0].requests) == 6, "each once, and two rounds"


@pytest.mark.parametrize("lead_s", [0.2, -0.2])
@pytest.mark.parametrize(
    ("fault", "error"), [(BROKEN, qc.Disconnected), ((grpc.StatusCode.INTERNAL, "stub gone"), qc.ServerError)]
)
def test_a_failure_that_forbids_another_try_ends_a_hedged_call(
    triton: Any, others: Any, make: Any, fault: Any, error: Any, lead_s: float
) -> None:
    both(triton, others[0], fault, FULL, lead_s)
    with pytest.raises(error, match=triton.url) as raised:
        make(urls(triton, others[0]), hedge_s=0.02, hedge_share=1.0).extract("t", ["a"])
    assert isinstance(raised.value.__cause__, grpc.RpcError)
    assert len(triton.requests) == len(others[0].requests) == 1


def test_a_hedged_call_that_broke_off_on_both_is_sent_again_where_the_caller_wants_it(
    triton: Any, others: Any, make: Any, soon: None
) -> None:
    both(triton, others[0], None, None)
    triton.faults, others[0].faults = [BROKEN], [BROKEN]
    client = make(urls(triton, others[0]), hedge_s=0.02, hedge_share=1.0, resend=True, wait_for_ready=True)
    assert client.extract("t", ["a"])["a"].value == "v-a"
    assert all(server.asking == 0 for server in client.client._connection.servers.all)


def test_a_call_that_fails_before_its_hedge_is_tried_again(triton: Any, others: Any, make: Any) -> None:
    triton.always = others[0].always = NOT_READY
    with pytest.raises(qc.Unavailable):
        make(urls(triton, others[0]), hedge_s=5.0).extract("t", ["a"])
    assert len(triton.requests) + len(others[0].requests) == 4, "each once, and two rounds"
