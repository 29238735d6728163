# SPDX-License-Identifier: Apache-2.0
"""Both clients against a gRPC server in this process: what goes out, what comes back, what is raised."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import grpc
import pytest

import quorum_client as qc
from quorum_client import Item
from quorum_contract.errors import with_code

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SHOE_1 = 0x453A06506ECAB2C8
FULL = (UNAVAILABLE, "in ensemble 'quorum', 5 requests are being answered; retry later [quorum:OVERLOADED]")


class Blocking:
    """One surface over both clients, so that every test runs against each."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.client = qc.Client(url, **settings)

    def extract(self, *args: Any, **kwargs: Any) -> qc.Extraction:
        with self.client as client:
            return client.extract(*args, **kwargs)

    def many(self, items: Any, **kwargs: Any) -> list[Any]:
        with self.client as client:
            return list(client.extract_many(items, **kwargs))

    def is_ready(self, *args: Any) -> bool:
        with self.client as client:
            return client.is_ready(*args)


class Asyncio:
    def __init__(self, url: str, **settings: Any) -> None:
        self.client = qc.AsyncClient(url, **settings)

    def extract(self, *args: Any, **kwargs: Any) -> qc.Extraction:
        async def go() -> qc.Extraction:
            async with self.client as client:
                return await client.extract(*args, **kwargs)

        return asyncio.run(go())

    def many(self, items: Any, **kwargs: Any) -> list[Any]:
        async def go() -> list[Any]:
            async with self.client as client:
                return [result async for result in client.extract_many(items, **kwargs)]

        return asyncio.run(go())

    def is_ready(self, *args: Any) -> bool:
        async def go() -> bool:
            async with self.client as client:
                return await client.is_ready(*args)

        return asyncio.run(go())


@pytest.fixture(params=[Blocking, Asyncio], ids=["sync", "aio"])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_question_and_its_answer(triton: Any, make: Any) -> None:
    client = make(triton.url, headers={"X-Key": "k"}, channel="quorum_canary", timeout_s=10)
    found = client.extract("Schuh größe 42", ["brand", "size"], category="shoes", request_id="r-1")
    sent = triton.requests[0]
    assert (sent.model_name, sent.id) == ("quorum_canary", "r-1")
    assert {t.name: list(t.contents.bytes_contents) for t in sent.inputs} == {
        "TEXT": ["Schuh größe 42".encode()],
        "CATEGORY": [b"shoes"],
        "ATTRIBUTES": [b"brand", b"size"],
    }
    assert all(t.datatype == "BYTES" for t in sent.inputs)
    assert sent.parameters["timeout"].int64_param == 9_750_000
    assert triton.headers[0]["x-key"] == "k"
    assert found.request_id == "r-1"
    assert [a.value for a in found.answers] == ["v-brand", "v-size"]
    assert [(v.member, v.score) for v in found["brand"].votes] == [("llama", -0.5), ("qwen", -0.5)]
    assert 0 < found.latency_s < 10


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ((grpc.StatusCode.INVALID_ARGUMENT, "TEXT: too rude"), qc.InvalidRequest, "TEXT: too rude"),
        ((grpc.StatusCode.NOT_FOUND, "unknown model"), qc.ChannelNotFound, "no channel 'quorum'"),
        ((UNAVAILABLE, "no available versions"), qc.Unavailable, "no available versions"),
        (FULL, qc.Overloaded, "is full: in ensemble 'quorum', 5 requests are being answered; retry later$"),
        ((UNAVAILABLE, "going down [quorum:UNAVAILABLE]"), qc.Unavailable, "going down; try again later"),
        ((UNAVAILABLE, "who knows [quorum:LATER_RELEASE]"), qc.Disconnected, "broke off: who knows;"),
        ((UNAVAILABLE, "Exceeds maximum queue size"), qc.Overloaded, "is full"),
        ((UNAVAILABLE, "This protocol is restricted, expecting x"), qc.ServerError, "headers="),
        ((grpc.StatusCode.DEADLINE_EXCEEDED, ""), qc.DeadlineExceeded, "within 30 s"),
        ((grpc.StatusCode.INTERNAL, "stub gone"), qc.ServerError, "INTERNAL: stub gone"),
        ((grpc.StatusCode.PERMISSION_DENIED, "no"), qc.ServerError, "PERMISSION_DENIED"),
        ((grpc.StatusCode.UNAUTHENTICATED, "no [quorum:UNAUTHENTICATED]"), qc.Unauthenticated, "no; .*key="),
        ((UNAVAILABLE, "Stream removed (RST_STREAM with error code 7)"), qc.Overloaded, "is full"),
    ],
)
def test_every_status_becomes_one_of_our_errors(
    triton: Any, make: Any, fault: Any, kind: type[qc.QuorumError], words: str
) -> None:
    triton.always = fault
    with pytest.raises(qc.QuorumError, match=words) as caught:
        make(triton.url).extract("t", ["a"], request_id="r-9")
    assert type(caught.value) is kind
    assert caught.value.request_id == "r-9"
    assert isinstance(caught.value.__cause__, grpc.RpcError)


@pytest.mark.parametrize("key", [None, "k-1"])
def test_the_key_goes_with_every_call(triton: Any, make: Any, key: str | None) -> None:
    client = make(triton.url, key=key, headers={"x-team": "shoes"})
    client.extract("t", ["a"])
    sent = triton.headers[0]
    assert sent.get("authorization") == (f"Bearer {key}" if key else None)
    assert sent["x-team"] == "shoes"


def test_nobody_there(nowhere: str, make: Any) -> None:
    with pytest.raises(qc.Unreachable, match=f"no connection to {nowhere}"):
        make(nowhere, retries=False).extract("t", ["a"])


def test_no_such_host(make: Any) -> None:
    with pytest.raises(qc.Unreachable):
        make("host.invalid:8001", retries=False, timeout_s=10).extract("t", ["a"])


def test_a_full_server_is_tried_three_times(triton: Any, make: Any) -> None:
    triton.faults = [FULL, FULL]
    assert make(triton.url).extract("t", ["a"])["a"].value == "v-a"
    assert len(triton.requests) == 3


@pytest.mark.parametrize(("retries", "calls"), [(True, 3), (False, 1)])
def test_retries_end_and_can_be_switched_off(triton: Any, make: Any, retries: bool, calls: int) -> None:
    triton.always = FULL
    with pytest.raises(qc.Overloaded):
        make(triton.url, retries=retries).extract("t", ["a"])
    assert len(triton.requests) == calls


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_what_may_have_run_is_not_tried_again(triton: Any, make: Any, code: grpc.StatusCode) -> None:
    triton.always = (code, "broken")
    with pytest.raises(qc.QuorumError):
        make(triton.url).extract("t", ["a"])
    assert len(triton.requests) == 1


def test_a_server_that_comes_late_is_found(late_server: Callable[[float], str], make: Any) -> None:
    # Two backoffs of at least 0.08 s and 0.24 s lie between the three attempts.
    assert make(late_server(0.1)).extract("t", ["a"])["a"].value == "v-a"


def test_the_deadline_holds(triton: Any, make: Any) -> None:
    triton.delay_s = lambda request: 20.0
    with pytest.raises(qc.DeadlineExceeded, match=r"within 0\.2 s"):
        make(triton.url).extract("t", ["a"], timeout_s=0.2)


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


def test_many_wait_for_a_server_that_is_away(late_server: Callable[[float], str], make: Any) -> None:
    seen: list[Any] = []
    # Longer than the attempts of one call take.
    client = make(late_server(1.2))
    results = client.many([Item(str(n), ["a"]) for n in range(30)], errors="return", on_wait=seen.append)
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


@pytest.mark.parametrize("concurrency", [0, -1, True, 2.0])
def test_concurrency_must_be_a_whole_number(triton: Any, make: Any, concurrency: Any) -> None:
    with pytest.raises(qc.InvalidRequest, match="concurrency"):
        make(triton.url).many([Item("t", ["a"])], concurrency=concurrency)


def test_readiness(triton: Any, make: Any, nowhere: str) -> None:
    assert make(triton.url).is_ready()
    assert not make(triton.url).is_ready("quorum_canary")
    assert not make(nowhere, retries=False).is_ready()
    triton.always = (grpc.StatusCode.PERMISSION_DENIED, "no")
    with pytest.raises(qc.ServerError):
        make(triton.url).is_ready()


def test_a_closed_client_says_so(triton: Any, make: Any) -> None:
    client = make(triton.url)
    client.extract("t", ["a"])
    with pytest.raises(RuntimeError, match="closed"):
        client.extract("t", ["a"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "http://localhost:8001"}, "without a scheme"),
        ({"url": ""}, "host:port"),
        ({"channel": ""}, "channel"),
        ({"timeout_s": None}, "timeout_s"),
        ({"headers": {"bad name": "v"}}, "not a header name"),
        ({"headers": {"key-bin": "v"}}, "not a header name"),
        ({"headers": {"key": "a\nb"}}, "not printable"),
        ({"key": ""}, "key: empty; .*None for a server without one"),
        ({"key": "größe"}, "key: not printable ASCII"),
        ({"key": "k", "headers": {"Authorization": "Basic x"}}, "key: .*already"),
    ],
)
@pytest.mark.parametrize("kind", [qc.Client, qc.AsyncClient])
def test_settings_that_cannot_work(kind: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(qc.InvalidRequest, match=words):
        kind(**settings)


@pytest.mark.parametrize("half", ["certificate", "key"])
def test_half_a_client_certificate(tmp_path: Any, half: Literal["certificate", "key"]) -> None:
    with pytest.raises(qc.InvalidRequest, match="together"):
        qc.Client(tls=qc.Tls(**{half: tmp_path / "x.pem"}))


def test_a_missing_authority_file(tmp_path: Any) -> None:
    with pytest.raises(qc.InvalidRequest, match=r"cannot read .*ca\.pem"):
        qc.Client(tls=qc.Tls(ca=tmp_path / "ca.pem"))


def test_the_tree_is_as_its_docstring_draws_it() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (qc.errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)(\w+)  +", line):
            depth = len(found[1]) // 4
            above = [*above[:depth], found[2]]
            drawn[found[2]] = above[-2] if depth else "Exception"
    defined = {
        name: thing.__bases__[0].__name__
        for name, thing in vars(qc.errors).items()
        if isinstance(thing, type) and issubclass(thing, qc.QuorumError)
    }
    assert drawn == defined
    assert issubclass(qc.InvalidRequest, ValueError)


def test_every_error_of_a_call_is_public() -> None:
    assert {name for name in vars(qc.errors) if name[0].isupper()} <= set(qc.__all__)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "kein Platz",
        "Socket closed",
        "failed to connect",
        "protocol is restricted",
        "say [quorum:NO] more",
    ],
)
@pytest.mark.parametrize(("error", "calls"), [(qc.Overloaded, 3), (qc.Unavailable, 3)])
def test_a_refusal_of_our_own_is_known_by_its_code_whatever_its_words(
    triton: Any, make: Any, words: str, error: type[qc.QuorumError], calls: int
) -> None:
    triton.always = (UNAVAILABLE, f"in ensemble 'quorum', {with_code(error(words), 500)}")
    with pytest.raises(qc.Unavailable) as caught:
        make(triton.url).extract("t", ["a"])
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert f"[quorum:{error.code}]" not in str(caught.value)
    assert len(triton.requests) == calls


def test_a_server_without_codes_costs_retries_and_asks_nobody_twice(triton: Any, make: Any) -> None:
    triton.always = (UNAVAILABLE, "5 requests are being answered; retry later")
    with pytest.raises(qc.Disconnected, match="5 requests are being answered"):
        make(triton.url).extract("t", ["a"])
    assert len(triton.requests) == 1


def test_the_servers_own_error_is_named_by_its_code(triton: Any, make: Any) -> None:
    triton.always = (grpc.StatusCode.INTERNAL, "version 3 is damaged [quorum:WEIGHTS_INVALID]")
    words = "version 3 is damaged; look at the server's log of this time, request r-9$"
    with pytest.raises(qc.ServerError, match=words) as caught:
        make(triton.url).extract("t", ["a"], request_id="r-9")
    assert (caught.value.status, caught.value.cause) == ("INTERNAL", "WEIGHTS_INVALID")


def test_a_call_that_broke_off_is_not_sent_again(triton: Any, make: Any) -> None:
    triton.always = (UNAVAILABLE, "Socket closed")
    with pytest.raises(qc.Disconnected, match="members may have been asked"):
        make(triton.url).extract("t", ["a"])
    assert len(triton.requests) == 1


def test_a_connection_that_is_cut_under_a_call(triton: Any, make: Any) -> None:
    triton.delay_s = lambda request: 20.0
    with Wire(triton.url) as wire:
        cutter = threading.Thread(target=lambda: (wait_for(lambda: triton.in_flight == 1), wire.cut()))
        cutter.start()
        with pytest.raises(qc.Disconnected, match="members may have been asked"):
            make(wire.url).extract("t", ["a"])
        cutter.join()
    assert len(triton.requests) == 1


def test_a_server_that_is_far_away_is_reached(triton: Any, make: Any) -> None:
    """A busy server, or one on another continent, takes its time to answer a new connection."""
    with Wire(triton.url, accept_s=0.6) as wire:
        assert make(wire.url, retries=False).extract("t", ["a"]).weights_version == 7


def test_a_listener_that_never_answers_is_unreachable(make: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = make(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=1.0, retries=False)
        with pytest.raises(qc.Unreachable):
            client.extract("t", ["a"])


class Wire:
    """A way to a server that can be cut, and that takes a while before its first byte."""

    def __init__(self, url: str, accept_s: float = 0.0) -> None:
        self._accept_s = accept_s
        host, _, port = url.rpartition(":")
        self._target = (host, int(port))
        self._sockets: list[socket.socket] = [socket.create_server(("127.0.0.1", 0))]
        self.url = f"127.0.0.1:{self._sockets[0].getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._sockets[0].accept()
                time.sleep(self._accept_s)
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)

    def cut(self) -> None:
        for sock in self._sockets[1:]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        for sock in self._sockets:
            sock.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def bucket(product: str) -> int:
    """The formula in other words than the client's."""
    raw = hashlib.new("blake2b", product.encode(), digest_size=8).digest()
    return sum(byte << (8 * (7 - i)) for i, byte in enumerate(raw))


def test_the_formula_is_the_one_that_is_written_down() -> None:
    # printf %s shoe-1 | b2sum -l 64
    assert bucket("shoe-1") == SHOE_1
    assert qc.takes_canary("shoe-1", (SHOE_1 + 2**12) / 2**64)
    assert not qc.takes_canary("shoe-1", (SHOE_1 - 2**12) / 2**64)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.5, 0.99, 1.0])
def test_the_share_is_kept_and_grows_without_moving_anybody_out(share: float) -> None:
    products = [f"product-{i}" for i in range(20_000)]
    taken = {p for p in products if qc.takes_canary(p, share)}
    # Five standard deviations of a binomial.
    assert abs(len(taken) - share * 20_000) <= 5 * (20_000 * share * (1 - share)) ** 0.5
    assert taken <= {p for p in products if qc.takes_canary(p, min(1.0, share * 1.5))}


def served(share: float) -> Callable[[Any], None]:
    def bend(response: Any) -> None:
        response.tensors["CANARY_SHARE"] = ("FP64", [1], struct.pack("<d", share))

    return bend


def asked(triton: Any) -> list[str]:
    """Channels that were asked; the look at the share before the first call is not one of them."""
    return [r.model_name for r in triton.requests if r.parameters["timeout"].int64_param > 1]


@pytest.mark.parametrize(("share", "channel"), [(0, "quorum"), (1.0, "quorum_canary"), (1, "quorum_canary")])
def test_a_share_of_nothing_and_of_everything(triton: Any, make: Any, share: float, channel: str) -> None:
    found = make(triton.url, canary_share=share).extract("t", ["a"])
    assert (found.channel, found.fallback_from) == (channel, None)
    assert asked(triton) == [channel]


def test_a_product_goes_the_same_way_whatever_its_text(triton: Any, make: Any) -> None:
    items = [Item(f"text {i}", ["a"], product_id=f"p{i % 20}") for i in range(60)]
    found = make(triton.url, canary_share=0.5).many(items)
    ways = [result.channel for result in found]
    assert ways[:20] == ways[20:40] == ways[40:]
    assert ways[:20] == ["quorum_canary" if bucket(f"p{i}") < 2**63 else "quorum" for i in range(20)]


def test_the_served_share_is_known_before_the_first_product(triton: Any, make: Any) -> None:
    triton.bend = served(1.0)
    assert make(triton.url, canary_share="served").extract("t", ["a"]).channel == "quorum_canary"
    assert [r.model_name for r in triton.requests] == ["quorum", "quorum_canary"]


def test_the_served_share_is_kept_current(triton: Any, make: Any) -> None:
    # The answer to the fourth request (the look, then three products) takes the share back.
    triton.bend = lambda response: served(0.0 if len(triton.requests) >= 4 else 1.0)(response)
    found = make(triton.url, canary_share="served").many([Item("t", ["a"])] * 5, concurrency=1)
    assert [result.channel for result in found] == ["quorum_canary"] * 3 + ["quorum"] * 2


def test_a_look_that_fails_costs_no_answer(triton: Any, make: Any) -> None:
    triton.faults = [FULL]
    found = make(triton.url, canary_share="served").many([Item("t", ["a"])] * 2, concurrency=1)
    assert [result.channel for result in found] == ["quorum"] * 2
    assert len(triton.requests) == 3, "one look that failed, two products"


def test_a_look_takes_its_time_from_the_product(triton: Any, make: Any) -> None:
    triton.delay_s = lambda request: 20.0 if request.parameters["timeout"].int64_param == 1 else 0.0
    make(triton.url, canary_share="served").extract("t", ["a"], timeout_s=2)
    _, product = triton.requests
    # Half of the two seconds went into the look; of the other a tenth is kept for the way back.
    assert product.parameters["timeout"].int64_param <= 900_000


def test_a_call_that_names_a_channel_needs_no_look(triton: Any, make: Any) -> None:
    make(triton.url, canary_share="served").extract("t", ["a"], channel="quorum")
    assert len(triton.requests) == 1


def test_a_client_that_is_closed_between_two_attempts_says_so(
    triton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton.always = FULL
    client = qc.Client(triton.url)
    monkeypatch.setattr("quorum_client._sync_calls.time.sleep", lambda _: client.close())
    with pytest.raises(RuntimeError, match="this client is closed"):
        client.extract("t", ["a"])

    async def ask() -> None:
        other = qc.AsyncClient(triton.url)

        async def close(_: float) -> None:
            await other.close()

        monkeypatch.setattr("quorum_client._aio_calls.asyncio.sleep", close)
        await other.extract("t", ["a"])

    with pytest.raises(RuntimeError, match="this client is closed"):
        asyncio.run(ask())


def test_a_server_that_tells_no_share_wants_none(triton: Any, make: Any) -> None:
    assert make(triton.url, canary_share="served").extract("t", ["a"]).channel == "quorum"


def test_a_call_that_names_a_channel_is_not_routed(triton: Any, make: Any) -> None:
    assert make(triton.url, canary_share=1.0).extract("t", ["a"], channel="quorum").channel == "quorum"


@pytest.mark.parametrize(
    "fault",
    [
        (grpc.StatusCode.NOT_FOUND, "unknown model"),
        (UNAVAILABLE, "no available versions"),
        (UNAVAILABLE, "Socket closed"),
        (grpc.StatusCode.INTERNAL, "stub gone"),
    ],
)
def test_a_canary_that_fails_is_replaced_by_stable_and_the_result_says_so(
    triton: Any, make: Any, fault: Any
) -> None:
    triton.refuse = {"quorum_canary": fault}
    found = make(triton.url, canary_share=1.0).extract("t", ["a"], request_id="r-5")
    assert (found.channel, found.fallback_from, found.request_id) == ("quorum", "quorum_canary", "r-5")
    assert asked(triton)[-1] == "quorum"


@pytest.mark.parametrize("fault", [FULL, (grpc.StatusCode.INVALID_ARGUMENT, "no")])
def test_what_stable_cannot_mend_is_raised(triton: Any, make: Any, fault: Any) -> None:
    triton.refuse = {"quorum_canary": fault}
    with pytest.raises((qc.Overloaded, qc.InvalidRequest)):
        make(triton.url, canary_share=1.0).extract("t", ["a"])
    assert set(asked(triton)) == {"quorum_canary"}


def test_a_canary_that_was_named_is_not_replaced(triton: Any, make: Any) -> None:
    triton.refuse = {"quorum_canary": (grpc.StatusCode.NOT_FOUND, "unknown model")}
    with pytest.raises(qc.ChannelNotFound):
        make(triton.url, channel="quorum_canary").extract("t", ["a"])


@pytest.mark.parametrize(
    "settings",
    [{"canary_share": s} for s in (-0.1, 1.1, float("nan"), "5%", True)]
    + [{"canary_share": 0.1, "channel": "quorum_canary"}],
)
def test_shares_that_cannot_be(make: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(qc.InvalidRequest, match="canary_share"):
        make("localhost:1", **settings)
