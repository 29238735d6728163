# SPDX-License-Identifier: Apache-2.0
"""Both clients against several servers of which some fail, are full, or are wrong: who is asked instead."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest
from support.both_clients import FULL, urls

import quorum_client as qc
from quorum_client import Item

FOREVER_S = 60.0


INTERNAL = (grpc.StatusCode.INTERNAL, "stub gone")
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape")
NO_CHANNEL = (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'quorum' is not found")
NO_KEY = (grpc.StatusCode.UNAUTHENTICATED, "no")


def failed(results: list[Any]) -> list[Any]:
    return [result for result in results if isinstance(result, qc.QuorumError)]


def test_a_server_that_fails_at_once_does_not_draw_the_calls(triton: Any, others: Any, make: Any) -> None:
    triton.always, triton.ready = INTERNAL, {}
    others[0].delay_s = lambda request: 0.01
    results = make(urls(triton, others[0])).many([Item("t", ["a"])] * 100, errors="return", concurrency=8)
    assert {type(error) for error in failed(results)} == {qc.ServerError}
    assert len(failed(results)) <= 8, "those that were on their way when the first failed"


def test_a_server_that_fails_and_says_that_it_is_ready_gets_one_call_at_a_time(
    triton: Any, others: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorum_client._servers._FIRST_PAUSE_S", 0.02)
    triton.refuse = {"quorum": INTERNAL}
    others[0].delay_s = lambda request: 0.01
    results = make(urls(triton, others[0])).many([Item("t", ["a"])] * 200, errors="return", concurrency=8)
    assert 1 <= len(failed(results)) <= 8 + triton.asked_if_ready, "one for each time that it says so"


@pytest.mark.parametrize("fault", [NO_KEY, INVALID, NO_CHANNEL, (grpc.StatusCode.PERMISSION_DENIED, "no")])
def test_what_only_one_server_refuses_another_answers(
    triton: Any, others: Any, make: Any, fault: Any
) -> None:
    triton.always = fault
    make_results = make(urls(triton, others[0])).many([Item("t", ["a"])] * 20, concurrency=1)
    assert len(make_results) == len(others[0].requests) == 20
    assert len(triton.requests) <= 2


@pytest.mark.parametrize("fault", [NO_KEY, INVALID, NO_CHANNEL])
def test_what_every_server_refuses_is_refused(triton: Any, others: Any, make: Any, fault: Any) -> None:
    triton.always = others[0].always = fault
    with pytest.raises((qc.Unauthenticated, qc.InvalidRequest, qc.ChannelNotFound)):
        make(urls(triton, others[0])).extract("t", ["a"])
    assert (len(triton.requests), len(others[0].requests)) == (1, 1)


def test_a_channel_that_no_server_has_leaves_none_alone(triton: Any, others: Any) -> None:
    triton.refuse = others[0].refuse = {"typo": NO_CHANNEL}
    with qc.Client(urls(triton, others[0])) as client:
        with pytest.raises(qc.ChannelNotFound):
            client.extract("t", ["a"], channel="typo")
        assert [server.away_until for server in client._connection.servers.all] == [0, 0]


def test_an_invalid_request_is_the_callers_at_a_server_that_has_answered(triton: Any, others: Any) -> None:
    with qc.Client(urls(triton, others[0])) as client:
        for _ in range(2):
            client.extract("t", ["a"])
        triton.faults = [INVALID]
        with pytest.raises(qc.InvalidRequest):
            client.extract("t", ["a"])
        assert not client._connection.servers.all[0].away_until
    assert len(others[0].requests) == 1


def test_a_failure_is_sent_to_another_server_where_the_caller_wants_it(
    triton: Any, others: Any, make: Any
) -> None:
    triton.always = INTERNAL
    results = make(urls(triton, others[0]), resend=True).many([Item("t", ["a"])] * 6, concurrency=1)
    assert len(results) == 6
    assert len(triton.requests) == 1


def test_a_server_that_breaks_the_contract_is_left_alone(triton: Any, others: Any, make: Any) -> None:
    triton.bend = lambda response: response.tensors.pop("VALUES")
    triton.ready = {}
    results = make(urls(triton, others[0])).many([Item("t", ["a"])] * 20, errors="return", concurrency=1)
    assert [type(error) for error in failed(results)] == [qc.ProtocolError]


@pytest.mark.parametrize("priority", ["interactive", "bulk"])
def test_full_servers_cost_no_call_while_another_has_room(
    triton: Any, others: Any, make: Any, priority: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorum_client._servers._FULL_S", FOREVER_S)
    triton.always = others[0].always = FULL
    others[1].delay_s = lambda request: 0.005
    results = make(urls(triton, *others)).many(
        [Item("t", ["a"])] * 300, errors="return", concurrency=8, priority=priority
    )
    assert failed(results) == []
    for full in (triton, others[0]):
        assert 1 <= len(full.requests) <= 8, "those that were on their way when the first was refused"


def test_retries_end_where_every_server_is_full(triton: Any, others: Any, make: Any, soon: None) -> None:
    triton.always = others[0].always = FULL
    results = make(urls(triton, others[0])).many(
        [Item("t", ["a"])] * 100, errors="return", concurrency=8, priority="interactive"
    )
    assert len(failed(results)) == 100
    assert len(triton.requests) + len(others[0].requests) < 100 * 3


def test_a_question_for_readiness_takes_no_longer_than_the_caller_has(triton: Any, make: Any) -> None:
    triton.ready_delay_s = FOREVER_S
    start = time.monotonic()
    assert not make(triton.url, timeout_s=FOREVER_S).is_ready(timeout_s=0.3)
    assert time.monotonic() - start < FOREVER_S / 2
    with pytest.raises(qc.InvalidRequest, match="timeout"):
        make(triton.url).is_ready(timeout_s=0)


def test_a_run_waits_for_a_full_server_rather_than_believe_one_that_is_wrong(
    triton: Any, others: Any, make: Any
) -> None:
    triton.faults = [FULL] * 3
    others[0].always = INVALID
    results = make(urls(triton, others[0])).many([Item("t", ["a"])] * 4, errors="return", concurrency=1)
    assert failed(results) == []
