# SPDX-License-Identifier: Apache-2.0
"""Who gets in: callers of the gate alone keep no trusted caller out, and bulk makes room for people."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.deployment import ATTRIBUTES, Live, running, said, title, write_deployment
from support.held import hold
from support.raw import bytes_tensor, grpc_request
from support.wire import Reply, grpc_reply
from tritonclient.grpc import service_pb2 as pb

from quorum.bulk.options import ExtractOptions
from quorum.bulk.run import extract
from quorum.serving.admission import UNUSED_NS, admission_of
from quorum.serving.packing import unpack_votes
from quorum_client import AsyncClient, Client, Item, QuorumError
from quorum_contract import GATE, PRIORITY, QUESTION, VOTE, VOTES, Status

LONG = bool(os.environ.get("QUORUM_LONG"))
SLOTS, BULK_SLOTS = 16, 4
THINKING_MS = 50
# Every slot of a call of the gate alone would be held for so long.
GATE_TIMEOUT_S = 120
AT_ONCE = 64


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The default number of slots; members that answer at once."""
    deploy = write_deployment(
        tmp_path_factory.mktemp("admission"), {"alpha": {}, "beta": {}}, gate={"timeout_s": GATE_TIMEOUT_S}
    )
    with running(deploy) as live:
        yield live


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Few slots, fewer for bulk, and members that think for a moment."""
    thinking = {"options": {"latency_ms": THINKING_MS, "latency_shape": "constant"}}
    gate = {"max_in_flight": SLOTS, "max_bulk_in_flight": BULK_SLOTS, "timeout_s": GATE_TIMEOUT_S}
    folder = tmp_path_factory.mktemp("small")
    with running(write_deployment(folder, {"alpha": thinking, "beta": {}}, gate=gate)) as live:
        yield live


@pytest.fixture(autouse=True)
def empty_gate(live: Live, small: Live) -> Iterator[None]:
    """Frees the slots that a test has left held."""
    yield
    for server in (live, small):
        gate = admission_of(server.server.pid or 0)
        for ticket in gate._tickets.tolist():
            gate.release(ticket)


def ask_gate(live: Live) -> Any:
    """Call the gate alone, as any caller can; the future of its response."""
    request = grpc_request(GATE, bytes_tensor([title(0).encode()]), [name.encode() for name in ATTRIBUTES])
    return live.stub.ModelInfer.future(request, timeout=30)


def inside(live: Live) -> int:
    return admission_of(live.server.pid or 0).inside(time.monotonic_ns())


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)


class Steady:
    """A trusted caller that sends at a fixed rate in the background, without a second try.

    With bulk in all its slots, so many of its questions at a time still have room in the small gate.
    """

    def __init__(self, url: str, rate_per_s: float) -> None:
        self.answered, self.failures = 0, list[QuorumError]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url, 1 / rate_per_s))

    def _run(self, url: str, gap_s: float) -> None:
        with Client(url, retries=False) as client, ThreadPoolExecutor(SLOTS - BULK_SLOTS) as pool:
            number = 0
            while not self._stop.wait(gap_s):
                pool.submit(self._ask, client, number)
                number += 1

    def _ask(self, client: Client, number: int) -> None:
        try:
            client.extract(title(number % 24), ATTRIBUTES)
            self.answered += 1
        except QuorumError as error:
            self.failures.append(error)

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_gate_filled_by_calls_of_the_gate_alone_opens_again(live: Live) -> None:
    for call in [ask_gate(live) for _ in range(live.spec.gate.max_in_flight)]:
        call.result()
    assert inside(live) == live.spec.gate.max_in_flight
    # As if all had come a moment ago, also where that took longer than they keep others out.
    gate, fresh_ns = admission_of(live.server.pid or 0), time.monotonic_ns() + 2_000_000_000
    for slot in range(live.spec.gate.max_in_flight):
        gate._claimed_ns[slot] = fresh_ns
    with pytest.raises(grpc.RpcError):
        live.ask(title(0), ATTRIBUTES)
    wait_until(lambda: _admitted(live), GATE_TIMEOUT_S / 4)


def test_calls_of_the_gate_alone_keep_no_trusted_caller_out(live: Live) -> None:
    rate, seconds = 200.0, 30.0 if LONG else 4.0
    calls, end = [], time.monotonic() + seconds
    with Steady(live.url, 20) as trusted:
        while time.monotonic() < end or len(calls) <= live.spec.gate.max_in_flight:
            # After a pause of a busy server all that wait would come at once.
            if len(calls) >= AT_ONCE:
                calls[-AT_ONCE].exception()
            calls.append(ask_gate(live))
            time.sleep(1 / rate)
        wait_until(lambda: trusted.answered > 10 or trusted.failures)
    assert all(call.result() for call in calls if not call.exception())
    assert len(calls) > live.spec.gate.max_in_flight, "more than the slots"
    assert not trusted.failures
    assert trusted.answered > 10


def test_few_calls_of_the_gate_alone_do_not_fill_it_for_good(small: Live) -> None:
    with Client(small.url, retries=False) as trusted:
        for _ in range(2 * SLOTS):
            ask_gate(small).result()
            time.sleep(1.5 * UNUSED_NS / 1e9 / SLOTS)
            assert trusted.extract(title(0), ATTRIBUTES).answers


def by_hand(live: Live, model: str, raw: dict[str, bytes]) -> dict[str, bytes]:
    """Send tensors of bytes to one step, as the ensemble does; output -> its bytes."""
    request = pb.ModelInferRequest(model_name=model)
    for name, content in raw.items():
        request.inputs.add(name=name, datatype="UINT8", shape=[len(content)])
        request.raw_input_contents.append(content)
    response = live.stub.ModelInfer(request, timeout=30)
    return dict(zip([o.name for o in response.outputs], response.raw_output_contents, strict=True))


def test_a_request_that_lost_its_slot_while_it_waited_is_answered_all_the_same(tmp_path: Path) -> None:
    with running(write_deployment(tmp_path, {"alpha": {}, "beta": {}}, gate={"max_in_flight": 1})) as live:
        response = ask_gate(live).result()
        outputs = [output.name for output in response.outputs]
        question = response.raw_output_contents[outputs.index(QUESTION)]
        # Another request takes the slot.
        wait_until(lambda: _admitted(live))
        votes = {
            f"{name}_{VOTES}": by_hand(live, name, {QUESTION: question})[VOTES] for name in ("alpha", "beta")
        }
        for packed in votes.values():
            assert {status for _, status, _ in unpack_votes(packed)} == {Status.ANSWERED}
        assert said(-1, 0, "brand").encode() in by_hand(live, VOTE, {QUESTION: question, **votes})["VALUES"]


def _admitted(live: Live) -> bool:
    try:
        return bool(live.ask(title(1), ATTRIBUTES).values)
    except grpc.RpcError:
        return False


def send(live: Live, priority: object) -> Any:
    request = grpc_request(
        "quorum", bytes_tensor([title(0).encode()]), [name.encode() for name in ATTRIBUTES]
    )
    if isinstance(priority, str):
        request.parameters[PRIORITY].string_param = priority
    elif priority is not None:
        request.parameters[PRIORITY].int64_param = priority
    return live.stub.ModelInfer.future(request, timeout=30)


def test_bulk_is_admitted_only_while_few_requests_are_inside(small: Live) -> None:
    assert grpc_reply(send(small, "bulk").result()).values
    let_go = hold(admission_of(small.server.pid or 0), SLOTS, BULK_SLOTS - 1)
    assert grpc_reply(send(small, "bulk").result()).values
    let_go()
    let_go = hold(admission_of(small.server.pid or 0), SLOTS, BULK_SLOTS)
    with pytest.raises(grpc.RpcError, match="max_bulk_in_flight") as caught:
        send(small, "bulk").result()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert caught.value.details().endswith("[quorum:OVERLOADED]")
    assert isinstance(grpc_reply(send(small, "interactive").result()), Reply)
    let_go()
    assert grpc_reply(send(small, "bulk").result()).values


@pytest.mark.parametrize("priority", ["", "urgent", "Bulk", "x" * 10_000, 1])
def test_another_priority_is_refused(small: Live, priority: object) -> None:
    with pytest.raises(grpc.RpcError, match=PRIORITY) as caught:
        send(small, priority).result()
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "interactive, bulk" in caught.value.details()


def test_bulk_that_wants_ten_times_the_room_keeps_no_one_out_and_loses_no_row(small: Live) -> None:
    items = [
        Item(title(at % 24), ATTRIBUTES, "shoes" if at % 2 else "") for at in range(400 if LONG else 100)
    ]
    with Steady(small.url, 20) as people, Client(small.url) as client:
        results = list(client.extract_many(items, concurrency=10 * SLOTS))
    assert not people.failures
    assert people.answered > 5
    wanted = [said(0, at % 24, "brand") for at in range(len(items))]
    assert [result.answers[0].votes[0].value for result in results] == wanted, "each row in its place"


def test_asyncio_bulk_waits_for_room_too(small: Live) -> None:
    items = [Item(title(at % 24), ATTRIBUTES) for at in range(60)]

    async def ask_all() -> list[Any]:
        async with AsyncClient(small.url) as client:
            return [result async for result in client.extract_many(items, concurrency=10 * SLOTS)]

    with Steady(small.url, 20) as people:
        results = asyncio.run(ask_all())
    assert not people.failures
    assert len(results) == len(items)


def test_a_run_over_a_file_waits_until_a_full_server_has_room(small: Live, tmp_path: Path) -> None:
    rows = "".join(f"p{at},{title(at)!r}\n" for at in range(12))
    (tmp_path / "listings.csv").write_text(f"id,text\n{rows}", encoding="utf-8")
    options = ExtractOptions(out=tmp_path / "answers.csv", url=small.url, attributes=["brand"])
    let_go = hold(admission_of(small.server.pid or 0), SLOTS, BULK_SLOTS)
    waits: list[str] = []

    def note(text: str) -> None:
        if "the server" not in text:
            return
        waits.append(text)
        # The gate stays too full for bulk for longer than the client retries by itself.
        threading.Timer(1.5, let_go).start()

    report = extract(small.spec, tmp_path / "listings.csv", options, note=note)
    assert [text.partition(":")[0] for text in waits] == ["the server is full"]
    assert (report.answered, report.failed, report.ended) == (12, 0, "complete")
