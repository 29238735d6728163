# SPDX-License-Identifier: Apache-2.0
"""Members that hang or are full, and a gate that is full: the others' answers come, in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment
from support.raw import bytes_tensor
from support.wire import Reply, grpc_reply, plain_majority

from quorum.serving.admission import GRACE_NS, admission_of
from quorum_client import Client, Overloaded
from quorum_contract import Status

HANG = {"hang_share": 1}
MEMBER_TIMEOUT_S = 0.8
LIMIT = 4
ENOUGH_US = 4_000_000
"""For those who answer at once, on a machine that does much else."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`hung` never answers; `narrow` neither, and holds two questions at most."""
    members: dict[str, Any] = {
        "alpha": {},
        "hung": {"options": HANG, "timeout_s": MEMBER_TIMEOUT_S, "max_in_flight": 10_000},
        "narrow": {"options": HANG, "timeout_s": MEMBER_TIMEOUT_S, "max_in_flight": 2},
    }
    with running(write_deployment(tmp_path_factory.mktemp("faults"), members)) as live:
        yield live


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A gate that admits four; whoever is inside stays six seconds."""
    members: dict[str, Any] = {
        "alpha": {},
        "hung": {"options": HANG, "timeout_s": 60, "max_in_flight": 10_000},
    }
    deploy = write_deployment(
        tmp_path_factory.mktemp("small"),
        members,
        gate={"max_in_flight": LIMIT, "timeout_s": 6, "max_timeout_s": 6},
    )
    with running(deploy) as live:
        yield live


def statuses(reply: Reply, member: str) -> set[int]:
    return {status for _, status in reply.votes[member]}


def check_others_voted(reply: Reply) -> None:
    assert statuses(reply, "alpha") == {Status.ANSWERED}
    for at in range(len(ATTRIBUTES)):
        assert reply.values[at] == plain_majority([reply.votes[m][at] for m in reply.members]) != ""
        assert reply.confidence[at] == 1.0


def inside(live: Live) -> int:
    assert live.server.pid
    return admission_of(live.server.pid).inside(time.monotonic_ns())


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)


def send(live: Live, count: int, **how: Any) -> list[Any]:
    return [
        live.ask_raw(bytes_tensor([title(i % 24).encode()]), ATTRIBUTES, "shoes" if i % 2 else "", **how)
        for i in range(count)
    ]


def test_a_hung_member_times_out_alone(live: Live) -> None:
    start = time.monotonic()
    reply = live.ask(title(0), ATTRIBUTES)
    assert time.monotonic() - start >= MEMBER_TIMEOUT_S
    assert statuses(reply, "hung") == {Status.TIMEOUT}
    assert statuses(reply, "narrow") <= {Status.TIMEOUT, Status.OVERLOADED}
    check_others_voted(reply)


def test_the_callers_deadline_is_kept_when_it_is_earlier(small: Live) -> None:
    reply = small.ask(title(0), ATTRIBUTES, server_timeout_us=ENOUGH_US)
    assert statuses(reply, "hung") == {Status.TIMEOUT}
    check_others_voted(reply)


def test_a_deadline_too_short_to_ask_anybody_is_a_timeout(small: Live) -> None:
    reply = small.ask(title(0), ATTRIBUTES, server_timeout_us=1_000)
    assert statuses(reply, "alpha") == statuses(reply, "hung") == {Status.TIMEOUT}
    assert reply.values == [""] * len(ATTRIBUTES)
    assert reply.confidence == [0.0] * len(ATTRIBUTES)


def test_many_hung_calls_do_not_wedge_the_server(live: Live) -> None:
    for _ in range(2):
        replies = [grpc_reply(future.result()) for future in send(live, 150)]
        for reply in replies:
            check_others_voted(reply)
            assert statuses(reply, "hung") == {Status.TIMEOUT}
    assert live.control.is_ready("quorum")


def test_a_full_member_abstains_as_overloaded(live: Live) -> None:
    replies = [grpc_reply(future.result()) for future in send(live, 8)]
    assert all(statuses(reply, "narrow") <= {Status.TIMEOUT, Status.OVERLOADED} for reply in replies)
    assert sum(statuses(reply, "narrow") == {Status.OVERLOADED} for reply in replies) >= 6
    for reply in replies:
        check_others_voted(reply)


def test_a_full_gate_refuses_at_once_and_harms_nobody(small: Live) -> None:
    wait_until(lambda: inside(small) == 0)
    first = send(small, LIMIT)
    wait_until(lambda: inside(small) == LIMIT)
    for refused in send(small, 20):
        with pytest.raises(grpc.RpcError) as caught:
            refused.result()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "max_in_flight" in caught.value.details()
    with Client(small.url, retries=False) as client, pytest.raises(Overloaded, match="full"):
        client.extract(title(0), ATTRIBUTES)
    assert not any(future.done() for future in first)
    for future in first:
        check_others_voted(grpc_reply(future.result()))
    wait_until(lambda: inside(small) == 0)
    for future in send(small, LIMIT, server_timeout_us=ENOUGH_US):
        check_others_voted(grpc_reply(future.result()))


def test_slots_of_callers_who_went_away_are_free_again(small: Live) -> None:
    wait_until(lambda: inside(small) == 0)
    gone = send(small, LIMIT, server_timeout_us=4_000_000)
    wait_until(lambda: inside(small) == LIMIT)
    for future in gone:
        future.cancel()
    wait_until(lambda: inside(small) == 0, 4 + GRACE_NS / 1e9 + 10)
    check_others_voted(small.ask(title(1), ATTRIBUTES, "shoes", server_timeout_us=ENOUGH_US))


def test_a_server_with_hung_questions_stops(tmp_path: Any) -> None:
    members: dict[str, Any] = {"alpha": {}, "hung": {"options": HANG, "timeout_s": 4}}
    with running(write_deployment(tmp_path, members)) as live:
        futures = send(live, 5)
        wait_until(lambda: inside(live) == len(futures))
        stopper = threading.Thread(target=live.server.stop)
        stopper.start()
        for future in futures:
            check_others_voted(grpc_reply(future.result()))
        stopper.join(60)
        assert not stopper.is_alive()
        assert live.server.pid is None
