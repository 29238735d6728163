# SPDX-License-Identifier: Apache-2.0
"""The choice among several servers, on a clock of the test."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from quorum_client import InvalidRequest
from quorum_client._servers import Servers, addresses


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def servers(clock: Clock) -> Servers:
    return Servers(["a:1", "b:1", "c:1"], clock)


def urls(found: Any) -> list[str]:
    return sorted(server.url for server in found)


def test_calls_go_where_fewest_are_in_flight(servers: Servers) -> None:
    first = [servers.choose() for _ in range(6)]
    assert Counter(urls(first)) == {"a:1": 2, "b:1": 2, "c:1": 2}
    for server in first:
        if server.url == "b:1":
            servers.ended(server)
    assert urls(servers.choose() for _ in range(2)) == ["b:1", "b:1"]


def test_one_call_at_a_time_goes_to_each_in_turn(servers: Servers) -> None:
    seen = []
    for _ in range(6):
        server = servers.choose()
        seen.append(server)
        servers.ended(server)
    assert Counter(urls(seen)) == {"a:1": 2, "b:1": 2, "c:1": 2}


def test_a_server_that_is_away_is_left_alone_until_it_says_that_it_is_ready(
    servers: Servers, clock: Clock
) -> None:
    gone = servers.all[0]
    servers.failed(gone, "quorum")
    assert gone not in [servers.choose() for _ in range(6)]
    assert servers.due() == []
    clock.now_s += 0.6
    assert servers.due() == [gone]
    assert servers.due() == [], "one question at a time"
    servers.probed(gone, ready=False)
    clock.now_s += 0.6
    assert servers.due() == [], "it is left alone for longer"
    clock.now_s += 0.5
    assert servers.due() == [gone]
    assert gone.channel == "quorum"
    servers.probed(gone, ready=True)
    assert servers.choose() is gone, "it has the fewest calls"


def test_no_server_is_left_alone_for_ever(servers: Servers, clock: Clock) -> None:
    gone = servers.all[0]
    servers.failed(gone, "quorum")
    for _ in range(50):
        clock.now_s += 11
        assert servers.due() == [gone]
        servers.probed(gone, ready=False)


def test_calls_that_one_incident_ends_together_count_once(servers: Servers, clock: Clock) -> None:
    gone = servers.all[0]
    for _ in range(8):
        servers.failed(gone, "quorum")
    assert gone.failures == 1
    clock.now_s += 0.6
    servers.failed(gone, "quorum")
    assert servers.due() == [gone], "the question for readiness decides"


def late(servers: Servers, at: int, calls: int) -> None:
    for _ in range(calls):
        servers.late(servers.all[at], "quorum")


def test_a_server_that_gives_no_answer_in_time_is_left_alone(servers: Servers, clock: Clock) -> None:
    hung = servers.all[0]
    late(servers, 0, 2)
    servers.answered(hung)
    late(servers, 0, 2)
    assert not hung.away_until, "three in a row"
    late(servers, 0, 1)
    assert hung not in [servers.choose() for _ in range(6)]
    clock.now_s += 0.6
    assert servers.due() == [hung]
    servers.probed(hung, ready=True)
    assert not hung.away_until
    late(servers, 0, 1)
    assert hung.away_until, "it says that it is ready, and gave no answer since"


def test_servers_that_are_all_late_go_on_sharing_the_calls(servers: Servers) -> None:
    for _ in range(4):
        for at in range(3):
            late(servers, at, 1)
    assert Counter(urls(servers.choose() for _ in range(6))) == {"a:1": 2, "b:1": 2, "c:1": 2}


def test_where_all_are_away_the_one_that_may_be_back_first_is_asked(servers: Servers, clock: Clock) -> None:
    for server in reversed(servers.all):
        servers.failed(server, "quorum")
        clock.now_s += 0.1
    assert servers.choose().url == "c:1"
    assert not servers.left(())


def test_a_call_is_not_sent_again_to_a_server_that_it_was_sent_to(servers: Servers) -> None:
    tried = {servers.all[0], servers.all[1]}
    assert servers.left(tried)
    assert servers.choose(tried).url == "c:1"
    assert not servers.left(set(servers.all))
    assert servers.choose(servers.all), "unless it was sent to all"


def test_a_single_server_is_never_left_alone(clock: Clock) -> None:
    one = Servers(["a:1"], clock)
    one.failed(one.all[0], "quorum")
    clock.now_s += 60
    assert one.due() == []
    assert one.choose().url == "a:1"


def test_a_second_server_answers_and_is_another(servers: Servers) -> None:
    first = servers.choose()
    second = servers.spare([first])
    assert second not in (None, first)
    servers.failed(servers.all[2], "quorum")
    assert servers.spare(servers.all[:2]) is None


def test_clients_begin_at_any_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len({Servers(["a:1", "b:1", "c:1"]).choose().url for _ in range(200)}) == 3


def test_a_full_server_is_spared_for_a_moment(servers: Servers, clock: Clock) -> None:
    full = servers.all[0]
    servers.full(full)
    assert full not in [servers.choose() for _ in range(6)]
    assert servers.left(servers.all[1:])
    assert not servers.left(servers.all[1:], has_room=True)
    assert servers.choose(servers.all[1:]) is full, "of those that are left"
    servers.ended(full)
    clock.now_s += 0.2
    assert servers.choose() is full


def test_a_server_that_failed_gets_one_call_until_it_answers(servers: Servers, clock: Clock) -> None:
    back = servers.all[0]
    servers.failed(back, "quorum")
    clock.now_s += 0.6
    servers.due()
    servers.probed(back, ready=True)
    assert [servers.choose() for _ in range(6)].count(back) == 1
    servers.failed(back, "quorum")
    clock.now_s += 0.6
    assert servers.due() == [], "it is left alone for longer"
    servers.answered(back)
    assert [servers.choose() for _ in range(3)].count(back) > 1


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("a:1", ("a:1",)),
        ("a:1, b:2", ("a:1", "b:2")),
        (["a:1", "b:2,c:3", "a:1"], ("a:1", "b:2", "c:3")),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", ("ipv4:10.0.0.1:1,10.0.0.2:1",)),
        ("dns:///a:1", ("dns:///a:1",)),
        ("unix:/tmp/s", ("unix:/tmp/s",)),
    ],
)
def test_addresses(url: Any, found: tuple[str, ...]) -> None:
    assert addresses(url) == found


@pytest.mark.parametrize("url", ["", "a:1,", [], "http://a:1", ["a:1", ""], [1], "grpc://a:1,b:1"])
def test_addresses_that_cannot_be(url: Any) -> None:
    with pytest.raises(InvalidRequest, match="url"):
        addresses(url)
