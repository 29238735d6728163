# SPDX-License-Identifier: Apache-2.0
"""The runtime ``openai`` over real sockets: breaker, several endpoints, rate limits."""

from __future__ import annotations

import asyncio
import time

from support.fault_server import (
    FaultServer,
    fault_server,
    free_port,
)
from support.hf_members import ask
from support.openai_members import ask_one, member, question, state_of

from quorum.runtimes.base import Generated, Unsent
from quorum.runtimes.remote.endpoint import Endpoint, Limits
from quorum.runtimes.remote.line import Line, Place
from quorum_contract import Status


def test_a_breaker_opens_and_closes_and_few_requests_are_repeated(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.fault = "500"
    with member(url) as runtime:
        questions = 0
        while state_of(runtime)["state"] != "open":
            assert ask_one(runtime) is Status.ERROR
            questions += 1
            assert questions < 20
        sent = len(server.requests)
        for _ in range(20):
            assert ask_one(runtime) == Unsent(Status.ERROR)
        assert len(server.requests) == sent, "an open breaker lets nothing through"
        assert sent <= 1.1 * questions
        server.fault = ""
        began = time.monotonic()
        while not isinstance(ask_one(runtime), Generated):
            time.sleep(0.05)
        assert time.monotonic() - began < 20
        assert state_of(runtime)["state"] == "closed"
        assert state_of(runtime)["opened"] == 1


def test_another_endpoint_answers_where_one_fails(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with fault_server() as (broken, other), member(other, replicas=[url]) as runtime:
        broken.fault = "500"
        replies = [ask_one(runtime) for _ in range(40)]
        answered = sum(isinstance(reply, Generated) for reply in replies)
        requests = len(server.requests) + len(broken.requests)
    assert answered >= 40 - 5
    assert requests <= 1.1 * 40


def test_a_slow_question_is_asked_of_another_endpoint_too(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with fault_server() as (slow, other), member(other, replicas=[url], hedge=True) as runtime:
        slow.values = server.values
        server.delay_s = 0.05
        for _ in range(25):
            assert isinstance(ask_one(runtime), Generated)
        # The first is the quicker one, until it hangs.
        slow.fault = "hang"
        # On a busy machine an earlier question may have been slow too.
        began, before = time.monotonic(), runtime._caller.state().repeated
        assert isinstance(ask_one(runtime), Generated)
        assert time.monotonic() - began < 20
        assert runtime._caller.state().repeated == before + 1
        slow.stop.set()


def test_a_question_that_one_endpoint_got_was_sent(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.fault = "500"
    with member(url, replicas=[f"http://127.0.0.1:{free_port()}/v1"]) as runtime:
        replies = [ask_one(runtime) for _ in range(15)]
        found = runtime._caller.state()
    assert found.repeated, "some asked both"
    sent = sum(reply is Status.ERROR for reply in replies)
    assert sent == len(server.requests)
    assert sent + sum(reply == Unsent(Status.ERROR) for reply in replies) == 15


def test_a_dead_endpoint_and_a_name_without_address_are_statuses() -> None:
    for url in (f"http://127.0.0.1:{free_port()}/v1", "http://nowhere.invalid/v1"):
        with member(url) as runtime:
            assert ask_one(runtime) == Unsent(Status.ERROR)
            assert "ConnectError" in str(state_of(runtime)["problem"])


def test_a_limit_is_kept_to_and_nothing_fails(served: tuple[FaultServer, str]) -> None:
    """60 requests at once to a server that allows 12 in a second: five seconds, none refused."""
    server, url = served
    server.limit, server.window_s = 12, 1.0
    with member(url, limits=Limits(requests=12, window_s=1.0)) as runtime:
        replies = ask(runtime, [question("a shoe", 30.0) for _ in range(60)])
    assert all(isinstance(reply, Generated) for reply in replies)
    assert server.statuses == {200: 60}


def test_more_than_limits_let_through_in_time_is_overload(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with member(url, limits=Limits(requests=2, window_s=10.0), max_wait_s=1.0) as runtime:
        began = time.monotonic()
        replies = ask(runtime, [question("a shoe", 30.0) for _ in range(10)])
        assert time.monotonic() - began < 20
    assert sum(isinstance(reply, Generated) for reply in replies) == 2
    assert replies.count(Status.OVERLOADED) == 8
    assert len(server.requests) == 2


def test_a_question_past_its_deadline_is_not_sent(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with member(url) as runtime:
        assert isinstance(ask_one(runtime), Generated)
        assert ask(runtime, [question("a shoe", -0.1) for _ in range(5)]) == [Unsent(Status.TIMEOUT)] * 5
    assert len(server.requests) == 1


def test_a_question_that_is_still_in_line_at_its_deadline_was_no_call(
    served: tuple[FaultServer, str],
) -> None:
    server, url = served
    server.fault = "hang"
    with member(url, max_concurrency=1) as runtime:
        gone = question("a shoe", 30.0)
        gone.cancellation.cancel()
        sent, *waited = ask(runtime, [question("a shoe", 1.5), question("a shoe", 0.8), gone])
        server.stop.set()
    assert sent is Status.TIMEOUT
    assert waited == [Unsent(Status.TIMEOUT)] * 2
    assert len(server.requests) == 1


def test_a_question_that_waits_for_its_second_try_was_a_call(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with member(url, limits=Limits(requests=11, window_s=60.0), max_wait_s=1.0) as runtime:
        # They pay one repeated request.
        assert all(isinstance(ask_one(runtime), Generated) for _ in range(10))
        server.fault = "500"
        assert ask_one(runtime) is Status.ERROR
        assert ask_one(runtime) is Status.OVERLOADED
        assert runtime._caller.state().repeated == 1
    assert len(server.requests) == 11


def test_all_tries_of_a_question_wait_for_limits_once() -> None:
    async def enter(endpoint: Endpoint, wait_s: float, left_s: float) -> Place | Status:
        now = time.monotonic()
        return await Line([endpoint], time.monotonic).enter(1, now + wait_s, now + left_s)

    endpoint = Endpoint("", Limits(requests=1, window_s=60.0))
    assert asyncio.run(enter(endpoint, 5, -0.1)) is Status.TIMEOUT
    assert endpoint.concurrency.in_flight == 0
    assert isinstance(asyncio.run(enter(endpoint, -5, 5)), Place), "a second try that need not wait"
    assert asyncio.run(enter(endpoint, -5, 5)) is Status.OVERLOADED
