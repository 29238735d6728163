# SPDX-License-Identifier: Apache-2.0
"""What is no longer waited for is cancelled by a request, sent without waiting for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import quorum_client as qc
from quorum_client._attempts import Attempts
from quorum_contract import ATTRIBUTES, CANCEL, CATEGORY, TEXT
from quorum_contract.checks import decode_text

FOREVER_S = 60.0


def is_cancel(request: Any) -> bool:
    return CANCEL in request.parameters


@pytest.fixture
def stuck(triton: Any) -> Any:
    """A server that answers cancellations only."""
    triton.delay_s = lambda request: 0.0 if is_cancel(request) else FOREVER_S
    return triton


def wait(for_what: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not for_what():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)


def cancelled(server: Any) -> list[str]:
    return [r.parameters[CANCEL].string_param for r in list(server.requests) if is_cancel(r)]


def test_the_message_names_the_request_and_is_no_question_to_an_earlier_server() -> None:
    message = qc.cancel_request("quorum_canary", "r-1")
    assert message.model_name == "quorum_canary"
    assert message.parameters[CANCEL].string_param == "r-1"
    contents = {tensor.name: list(tensor.contents.bytes_contents) for tensor in message.inputs}
    assert set(contents) == {TEXT, CATEGORY, ATTRIBUTES}
    with pytest.raises(qc.InvalidRequest):
        decode_text(contents[TEXT][0])


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_cancelled_task_is_cancelled_on_the_server(stuck: Any, how: str) -> None:
    async def run() -> None:
        async with qc.AsyncClient(stuck.url, key="k") as client:
            calls = [asyncio.create_task(client.extract("t", ["a"], request_id=f"r-{n}")) for n in range(3)]
            await asyncio.to_thread(wait, lambda: len(stuck.requests) == 3)
            if how == "cancel":
                calls[1].cancel()
            else:
                # Another class in Python 3.10.
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(calls[1], 0.01)
            await asyncio.to_thread(wait, lambda: cancelled(stuck) == ["r-1"])
            assert not calls[0].done()
            assert client._in_flight
        assert sorted(cancelled(stuck)) == ["r-0", "r-1", "r-2"], "closing cancels the others"
        await asyncio.gather(*calls, return_exceptions=True)
        assert not client._in_flight

    asyncio.run(run())
    assert stuck.headers[-1]["authorization"] == "Bearer k"


def test_answered_calls_and_failed_ones_are_not_cancelled(triton: Any) -> None:
    with qc.Client(triton.url) as client:
        client.extract("t", ["a"])
        with pytest.raises(qc.InvalidRequest):
            client.extract("", ["a"])
        list(client.extract_many([qc.Item("t", ["a"])] * 3))
        assert not client._in_flight
    assert cancelled(triton) == []


def test_an_interrupted_call_is_cancelled(stuck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with qc.Client(stuck.url) as client:
        monkeypatch.setattr(Attempts, "left_s", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            client.extract("t", ["a"], request_id="mine")
    assert cancelled(stuck) == ["mine"]


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt])
def test_a_run_that_is_read_no_further_cancels_its_own_calls_only(
    stuck: Any, end: type[BaseException]
) -> None:
    def items() -> Any:
        yield from [qc.Item("t", ["a"])] * 3
        wait(lambda: len(stuck.requests) == 4)
        raise end

    with qc.Client(stuck.url) as client:
        other = threading.Thread(target=client.extract, args=("t", ["a"]), kwargs={"request_id": "other"})
        other.start()
        with pytest.raises(end):
            list(client.extract_many(items()))
        wait(lambda: len(cancelled(stuck)) == 3)
        asked = {r.id for r in stuck.requests if not is_cancel(r)}
        assert set(cancelled(stuck)) == asked - {"other"}
        stuck.released.set()
        other.join()


def test_a_server_that_does_not_take_the_news_delays_the_close_for_a_second_at_most(triton: Any) -> None:
    triton.delay_s = lambda request: FOREVER_S

    async def run() -> None:
        async with qc.AsyncClient(triton.url) as client:
            call = asyncio.create_task(client.extract("t", ["a"]))
            await asyncio.to_thread(wait, lambda: len(triton.requests) == 1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert call.cancelled()
            assert client._cancelling, "nothing was waited for"
        assert not client._cancelling

    asyncio.run(asyncio.wait_for(run(), FOREVER_S / 2))
