# SPDX-License-Identifier: Apache-2.0
"""Many products in one call: their order, how many are in flight, errors in place, waits for a server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.both_clients import UNAVAILABLE

import quorum_client as qc
from quorum_client import Item


def test_many_keep_their_order_and_stay_bounded(triton: Any, make: Any) -> None:
    triton.delay_s = lambda request: 0.05 if request.inputs[0].contents.bytes_contents[0] == b"0" else 0.002
    items = [Item(str(i), [f"a{i}"]) for i in range(40)]
    results = make(triton.url).many(iter(items), concurrency=4)
    assert [next(iter(result)) for result in results] == [f"a{i}" for i in range(40)]
    assert 1 < triton.most_in_flight <= 4


def test_many_read_their_items_only_as_needed(triton: Any) -> None:
    read = 0

    def items() -> Any:
        nonlocal read
        while True:
            read += 1
            yield Item("t", ["a"])

    with qc.Client(triton.url) as client:
        results = client.extract_many(items(), concurrency=2)
        assert read == 0
        next(results)
        results.close()  # type: ignore[attr-defined]
    assert read <= 9


def test_many_return_errors_in_their_place(triton: Any, make: Any) -> None:
    items = [Item("t", ["a"]), Item("", ["a"]), Item("t", ["b"])]
    first, second, third = make(triton.url).many(items, errors="return")
    assert isinstance(second, qc.InvalidRequest)
    assert (first["a"].value, third["b"].value) == ("v-a", "v-b")


def test_many_raise_the_first_error(triton: Any, make: Any) -> None:
    with pytest.raises(qc.InvalidRequest, match="TEXT: empty"):
        make(triton.url).many([Item("t", ["a"]), Item(" ", ["a"])])


def test_many_wait_for_a_server_that_is_away(nowhere: str, come: Callable[[], None], make: Any) -> None:
    seen: list[Any] = []

    def wait(reason: Any) -> None:
        seen.append(reason)
        # Longer than the attempts of one call take.
        if sum(one is not None for one in seen) > 1:
            come()

    results = make(nowhere).many([Item(str(n), ["a"]) for n in range(30)], errors="return", on_wait=wait)
    assert [result["a"].value for result in results] == ["v-a"] * 30
    assert isinstance(seen[0], qc.Unreachable)
    assert seen[-1] is None


@pytest.mark.parametrize("how", [{"away_s": 0}, {"priority": "interactive"}])
def test_many_wait_no_longer_than_they_may(nowhere: str, make: Any, how: dict[str, Any]) -> None:
    results = make(nowhere).many([Item("t", ["a"])] * 30, errors="return", **how)
    assert {type(result) for result in results} == {qc.Unreachable}


def test_many_do_not_send_again_what_broke_off(triton: Any, make: Any) -> None:
    triton.faults = [(UNAVAILABLE, "Socket closed")]
    first, second = make(triton.url).many([Item("t", ["a"])] * 2, errors="return", concurrency=1)
    assert (type(first), second["a"].value) == (qc.Disconnected, "v-a")
    assert len(triton.requests) == 2


@pytest.mark.parametrize("away_s", [-1, float("nan"), True, "1"])
def test_the_wait_for_a_server_must_be_a_time(triton: Any, make: Any, away_s: Any) -> None:
    with pytest.raises(qc.InvalidRequest, match="away_s"):
        make(triton.url).many([Item("t", ["a"])], away_s=away_s)


@pytest.mark.parametrize("concurrency", [0, -1, True, 2.0, "most"])
def test_concurrency_must_be_a_whole_number(triton: Any, make: Any, concurrency: Any) -> None:
    with pytest.raises(qc.InvalidRequest, match="concurrency"):
        make(triton.url).many([Item("t", ["a"])], concurrency=concurrency)


def test_answers_come_as_they_are_ready_each_with_its_item(triton: Any, make: Any) -> None:
    slow = threading.Event()
    triton.released = slow
    triton.delay_s = lambda request: 20.0 if request.inputs[0].contents.bytes_contents[0] == b"0" else 0.0

    def items() -> Any:
        yield from (Item(str(i), [f"a{i}"]) for i in range(7))
        # Read after answers of others only, as two are in flight.
        slow.set()
        yield Item("7", ["a7"])

    found = make(triton.url).as_completed(items(), concurrency=2)
    assert sorted(item.text for item, _ in found) == [str(i) for i in range(8)]
    assert found[0][0].text != "0"
    assert all(result[f"a{item.text}"].value == f"v-a{item.text}" for item, result in found)
    assert triton.most_in_flight == 2


@pytest.mark.parametrize("concurrency", [3, "auto"])
def test_answers_that_are_not_read_hold_up_the_reading_of_items(triton: Any, concurrency: Any) -> None:
    read = 0

    def items() -> Any:
        nonlocal read
        while True:
            read += 1
            yield Item("t", ["a"])

    with qc.Client(triton.url) as client:
        results = client.extract_as_completed(items(), concurrency=concurrency)
        assert read == 0
        next(results)
        results.close()  # type: ignore[attr-defined]
    assert read == 2 * (8 if concurrency == "auto" else concurrency)


def test_the_error_of_an_item_comes_with_it(triton: Any, make: Any) -> None:
    bad = Item("", ["a"])
    results = make(triton.url).as_completed([bad, Item("t", ["b"])])
    found = {id(item): result for item, result in results}
    assert isinstance(found.pop(id(bad)), qc.InvalidRequest)
    (other,) = found.values()
    assert other["b"].value == "v-b"


def test_no_items_give_no_answers(make: Any, nowhere: str) -> None:
    assert make(nowhere).as_completed([]) == []


def test_a_run_as_completed_waits_for_a_server(nowhere: str, come: Callable[[], None], make: Any) -> None:
    found = make(nowhere).as_completed(
        [Item(str(n), ["a"]) for n in range(30)], on_wait=lambda reason: come() if reason else None
    )
    assert [result["a"].value for _, result in found] == ["v-a"] * 30


def test_answers_that_are_not_kept_yet_are_no_more_than_calls_in_flight(triton: Any) -> None:
    """A caller that is killed while it writes an answer pays those again."""
    items = [Item(str(n), ["a"]) for n in range(40)]
    most = 0
    with qc.Client(triton.url) as client:
        for kept, _ in enumerate(client.extract_as_completed(items, concurrency=4)):
            time.sleep(0.02)
            most = max(most, len(triton.requests) - kept)
    assert most == 4

    async def go() -> int:
        most, before = 0, len(triton.requests)
        async with qc.AsyncClient(triton.url) as client:
            kept = 0
            async for _ in client.extract_as_completed(items, concurrency=4):
                await asyncio.sleep(0.02)
                most = max(most, len(triton.requests) - before - kept)
                kept += 1
        return most

    assert asyncio.run(go()) == 4
