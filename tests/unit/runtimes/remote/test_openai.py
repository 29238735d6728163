# SPDX-License-Identifier: Apache-2.0
"""The runtime ``openai`` against a server over real sockets: answers, faults, limits, several endpoints."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fault_server import (
    HUGE,
    MODEL,
    USAGE,
    FaultServer,
    fault_server,
    free_port,
    has_openssl,
    make_certificates,
)
from support.hf_members import ask
from support.openai_members import member, question, votes

from quorum.runtimes.base import Generated, Reply, RuntimeConfigError, Unsent, Usage
from quorum.runtimes.openai import OpenAiRuntime
from quorum.runtimes.remote.endpoint import Endpoint, Limits
from quorum.runtimes.remote.line import Line, Place
from quorum.runtimes.remote.note import RemoteNote
from quorum_contract import Status

KEY = "sk-made-up-0123456789-abcdefghij"
RIGHT = {"color": "navy blue", "brand": "größe 👟", "gender": "women"}


@pytest.fixture
def served() -> Iterator[tuple[FaultServer, str]]:
    with fault_server() as (server, url):
        server.values = dict(RIGHT)
        yield server, url


def ask_one(runtime: OpenAiRuntime, seconds: float = 10.0) -> Reply:
    (reply,) = ask(runtime, [question("a shoe", seconds)])
    return reply


def state_of(runtime: OpenAiRuntime, endpoint: int = 0) -> dict[str, object]:
    return runtime._caller.state().endpoints[endpoint].to_json()


def test_an_answer_with_scores_and_usage(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with member(url) as runtime:
        reply = ask_one(runtime)
        assert isinstance(reply, Generated)
        assert [vote.value for vote in votes(reply)] == list(RIGHT.values())
        assert all(vote.score is not None and vote.score < 0 for vote in votes(reply))
        assert reply.usage == Usage(100, 12, 64)
        found = state_of(runtime)
    assert (found["cached_tokens"], found["prompt_tokens"], found["scores"]) == (64, 100, True)
    (sent,) = server.requests
    assert sent["path"] == "/v1/chat/completions"
    assert (sent["model"], sent["temperature"], sent["seed"], sent["stream"]) == (MODEL, 0, 0, True)
    assert sent["messages"] == [{"role": "user", "content": "a shoe"}]
    assert sent["response_format"]["json_schema"]["strict"]
    assert "authorization" not in {name.lower() for name in sent["headers"]}


def test_a_server_that_does_not_stream(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.streams = False
    with member(url, scores=False) as runtime:
        reply = ask_one(runtime)
        assert [vote.value for vote in votes(reply)] == list(RIGHT.values())
        assert isinstance(reply, Generated)
        assert not reply.log_probs
        assert reply.usage == Usage(USAGE["prompt_tokens"], USAGE["completion_tokens"], 64)
    assert "logprobs" not in server.requests[0]


def test_control_tokens_stay_out_of_prompts(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with member(url) as runtime:
        ask(runtime, [question("a <|im_end|> shoe")])
    assert server.requests[0]["messages"][0]["content"] == "a shoe"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("429", Status.OVERLOADED),
        ("429 with retry-after", Status.OVERLOADED),
        ("429 with a date", Status.OVERLOADED),
        ("503 with retry-after", Status.OVERLOADED),
        ("500", Status.ERROR),
        ("reset", Status.ERROR),
        ("cut stream", Status.ERROR),
        ("error in stream", Status.ERROR),
        ("wrong json", Status.ERROR),
        ("empty choices", Status.ERROR),
        ("huge error", Status.ERROR),
        ("redirect", Status.ERROR),
        ("400", Status.ERROR),
        ("401", Status.ERROR),
        ("404", Status.ERROR),
        ("refusal", Status.UNPARSABLE),
        ("filtered", Status.UNPARSABLE),
        ("hang", Status.TIMEOUT),
        ("slow bytes", Status.TIMEOUT),
    ],
)
def test_every_fault_is_a_status(served: tuple[FaultServer, str], fault: str, status: Status) -> None:
    server, url = served
    server.fault = fault
    with member(url, max_wait_s=0.5) as runtime:
        began = time.monotonic()
        assert ask_one(runtime, 2.0) is status
        assert time.monotonic() - began < 4.0
        assert status is Status.TIMEOUT or state_of(runtime)["problem"]
        server.fault = ""


def test_a_status_counts_also_where_the_body_of_the_error_does_not_come(
    served: tuple[FaultServer, str],
) -> None:
    server, url = served
    server.fault, server.retry_after = "429 without a body", "70"
    with member(url) as runtime:
        assert ask_one(runtime, 3.0) is Status.OVERLOADED
        found = state_of(runtime)
    assert float(str(found["held_s"])) > 60
    assert found["problem"] == "HTTP 429: too much"


@pytest.mark.parametrize("streams", [True, False])
def test_an_error_in_an_answer_is_shown(served: tuple[FaultServer, str], streams: bool) -> None:
    server, url = served
    server.fault, server.streams = "error in stream", streams
    with member(url) as runtime:
        assert ask_one(runtime) is Status.ERROR
        assert "the engine died" in str(state_of(runtime)["problem"])


@pytest.mark.parametrize(("fault", "read"), [("wrong schema", 0), ("cut by length", 1)])
def test_what_can_be_read_of_an_answer_counts(served: tuple[FaultServer, str], fault: str, read: int) -> None:
    server, url = served
    server.fault = fault
    with member(url) as runtime:
        found = votes(ask_one(runtime))
    statuses = [vote.status for vote in found]
    assert statuses == [Status.ANSWERED] * read + [Status.UNPARSABLE] * (len(found) - read)


def test_a_stream_that_stays_open_behind_its_end_is_closed(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.fault = "no end"
    with member(url) as runtime:
        assert isinstance(ask_one(runtime, 5.0), Generated)


def test_a_huge_answer_is_cut_and_its_stream_closed(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.fault = "huge"
    with member(url) as runtime:
        reply = ask_one(runtime)
        assert isinstance(reply, Generated)
        assert len(reply.text) < HUGE / 4
        wait_until(lambda: server.closed_early == 1)


def test_the_stream_is_closed_behind_the_object(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.goes_on, server.keeps_schema = True, False
    with member(url) as runtime:
        began = time.monotonic()
        assert [vote.value for vote in votes(ask_one(runtime))] == list(RIGHT.values())
        assert time.monotonic() - began < 5
        wait_until(lambda: server.closed_early == 1)


def test_a_deadline_and_a_cancellation_close_the_stream(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.fault = "endless"
    with member(url) as runtime:
        assert ask_one(runtime, 0.5) is Status.TIMEOUT
        wait_until(lambda: server.closed_early == 1)
        replies: list[Reply] = []
        asked = question("a shoe")
        runtime.submit(asked, replies.append)
        wait_until(lambda: len(server.requests) == 2)
        asked.cancellation.cancel()
        wait_until(lambda: replies == [Status.TIMEOUT])
        wait_until(lambda: server.closed_early == 2)


def test_only_the_deadline_makes_a_slow_endpoint_fail(served: tuple[FaultServer, str]) -> None:
    """Grace of a second, of an endpoint that takes longer: it is dropped, and stays well."""
    server, url = served
    server.fault = "hang"
    with member(url) as runtime:
        replies: list[Reply] = []
        asked = [question("a shoe", 20.0) for _ in range(6)]
        for one in asked:
            runtime.submit(one, replies.append)
        wait_until(lambda: len(server.requests) == 6)
        time.sleep(1.1)
        for one in asked:
            one.cancellation.cancel()
        wait_until(lambda: len(replies) == 6)
        assert (state_of(runtime)["state"], state_of(runtime)["failed"]) == ("closed", 0)
        assert ask(runtime, [question("a shoe", 1.2) for _ in range(5)]) == [Status.TIMEOUT] * 5
        assert state_of(runtime)["state"] == "open"


def test_a_schema_that_is_ignored_is_noticed_and_remembered(
    served: tuple[FaultServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    server, url = served
    server.keeps_schema = False
    with member(url) as runtime:
        for _ in range(5):
            assert [vote.value for vote in votes(ask_one(runtime))] == list(RIGHT.values())
        assert "ignored" in str(state_of(runtime)["form"])
    assert ["response_format" in sent for sent in server.requests] == [True, True, True, False, False]
    assert sum("ignores JSON schemas" in record.message for record in caplog.records) == 1


def test_what_a_server_refuses_is_not_sent_again(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.refuses = {"json_schema", "logprobs", "seed"}
    with member(url) as runtime:
        replies = ask(runtime, [question("a shoe") for _ in range(8)])
        assert all([v.value for v in votes(reply)] == list(RIGHT.values()) for reply in replies)
        before = len(server.requests)
        assert [vote.score for vote in votes(ask_one(runtime))] == [None] * 3
        assert len(server.requests) == before + 1
        found = state_of(runtime)
    assert "refused" in str(found["form"])
    assert found["scores"] is False
    assert not {"logprobs", "seed"} & server.requests[-1].keys()
    assert server.requests[-1]["response_format"] == {"type": "json_object"}


def test_one_request_leads_while_it_is_learned_what_a_server_refuses(
    served: tuple[FaultServer, str],
) -> None:
    server, url = served
    server.refuses = {"json_schema", "json_object", "logprobs", "seed", "temperature", "stream_options"}
    server.delay_s = 0.1
    with member(url) as runtime:
        replies = ask(runtime, [question("a shoe", 30.0) for _ in range(8)])
        assert all(isinstance(reply, Generated) for reply in replies)
    fields = 4 + 3
    assert len(server.requests) <= 8 + fields + 8
    assert runtime._caller.state().repeated == len(server.requests) - 8


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
        assert time.monotonic() - began < 3.0
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
        began = time.monotonic()
        assert isinstance(ask_one(runtime), Generated)
        assert time.monotonic() - began < 5
        assert runtime._caller.state().repeated == 1
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


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not has_openssl:
        pytest.skip("no openssl on this machine")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_is_verified_by_an_authority_of_ones_own(certificates: Path) -> None:
    with fault_server(certificates) as (server, url):
        server.values = dict(RIGHT)
        with member(url, ca_file="ca.pem", root=certificates) as runtime:
            assert isinstance(ask_one(runtime), Generated)
        for options in ({"ca_file": "stranger.pem"}, {}):
            with member(url, root=certificates, **options) as runtime:
                assert ask_one(runtime) == Unsent(Status.ERROR)
                assert "certificate" in str(state_of(runtime)["problem"]).lower()
    with (
        fault_server(certificates, "stranger") as (_, url),
        member(url, ca_file="ca.pem", root=certificates) as runtime,
    ):
        assert ask_one(runtime) == Unsent(Status.ERROR)


def test_the_key_is_sent_and_shown_nowhere(
    served: tuple[FaultServer, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    server, url = served
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("QUORUM_TEST_KEY", KEY)
    monkeypatch.setenv("QUORUM_SERVER_FOLDER", str(tmp_path))
    with member(url, api_key_env="QUORUM_TEST_KEY") as runtime:
        assert isinstance(ask_one(runtime), Generated)
        assert {one["headers"]["authorization"] for one in server.requests} == {f"Bearer {KEY}"}
        for server.fault in ("401", "400", "500", "429", "404"):
            ask_one(runtime, 2.0)
        time.sleep(1.2)
        written = "".join(path.read_text() for path in tmp_path.iterdir())
        assert "you sent" in written, "the server repeats the key in its errors"
        assert KEY not in written + caplog.text + repr(runtime.__dict__) + str(runtime._caller.state())
        assert KEY[:8] not in written + caplog.text


def test_a_key_file_is_read_again_after_a_refusal(served: tuple[FaultServer, str], tmp_path: Path) -> None:
    server, url = served
    (tmp_path / "key").write_text("old-key-of-last-week\n")
    with member(url, api_key_file="key", root=tmp_path) as runtime:
        (tmp_path / "key").write_text("new-key-of-this-week\n")
        server.fault = "401"
        ask_one(runtime)
        server.fault = ""
        assert isinstance(ask_one(runtime), Generated)
    sent = [one["headers"]["authorization"] for one in server.requests]
    assert (sent[0], sent[-1]) == ("Bearer old-key-of-last-week", "Bearer new-key-of-this-week")


def test_cookies_are_not_kept(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with member(url) as runtime:
        for _ in range(2):
            assert isinstance(ask_one(runtime), Generated)
    assert len(server.requests) == 2
    assert not [one for one in server.requests if "cookie" in {name.lower() for name in one["headers"]}]


def test_redirects_are_not_followed(served: tuple[FaultServer, str], monkeypatch: pytest.MonkeyPatch) -> None:
    server, url = served
    monkeypatch.setenv("QUORUM_TEST_KEY", KEY)
    with fault_server() as (elsewhere, other), member(url, api_key_env="QUORUM_TEST_KEY") as runtime:
        server.fault, server.redirect_to = "redirect", f"{other}/chat/completions"
        assert ask_one(runtime) is Status.ERROR
        assert "redirects" in str(state_of(runtime)["problem"])
        assert elsewhere.requests == []


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """Takes connections, and keeps what they send first."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def take() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(2)
                received.append(connection.recv(65_536))

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield listener.getsockname()[1], received
        thread.join()


def test_a_proxy_is_only_tunnelled_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUORUM_TEST_KEY", KEY)
    with listening() as (port, received):
        proxy = f"http://127.0.0.1:{port}"
        options = {"api_key_env": "QUORUM_TEST_KEY", "proxy": proxy}
        with member("https://api.example.invalid/v1", **options) as runtime:
            assert ask_one(runtime) is Status.ERROR
    assert received[0].startswith(b"CONNECT api.example.invalid:443")
    assert KEY.encode() not in received[0]


def test_proxies_of_the_environment_are_not_used(
    served: tuple[FaultServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with member(served[1]) as runtime:
        assert isinstance(ask_one(runtime), Generated)


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
        assert time.monotonic() - began < 8
    assert sum(isinstance(reply, Generated) for reply in replies) == 2
    assert replies.count(Status.OVERLOADED) == 8
    assert len(server.requests) == 2


def test_a_question_past_its_deadline_is_not_sent(served: tuple[FaultServer, str]) -> None:
    server, url = served
    with member(url) as runtime:
        assert isinstance(ask_one(runtime), Generated)
        assert ask(runtime, [question("a shoe", -0.1) for _ in range(5)]) == [Status.TIMEOUT] * 5
    assert len(server.requests) == 1


def test_all_tries_of_a_question_wait_for_limits_once() -> None:
    async def enter(endpoint: Endpoint, wait_s: float, left_s: float) -> Place | Status:
        now = time.monotonic()
        return await Line([endpoint], time.monotonic).enter(1, now + wait_s, now + left_s)

    endpoint = Endpoint("", Limits(requests=1, window_s=60.0))
    assert asyncio.run(enter(endpoint, 5, -0.1)) is Status.TIMEOUT
    assert endpoint.concurrency.in_flight == 0
    assert isinstance(asyncio.run(enter(endpoint, -5, 5)), Place), "a second try that need not wait"
    assert asyncio.run(enter(endpoint, -5, 5)) is Status.OVERLOADED


def test_a_missing_key_is_named_at_the_start() -> None:
    with (
        pytest.raises(RuntimeConfigError, match="api_key_env: the environment variable QUORUM_NO_KEY"),
        member("https://api.example.com/v1", api_key_env="QUORUM_NO_KEY"),
    ):
        pass


def test_a_note_that_cannot_be_written_keeps_no_question_from_being_asked(
    served: tuple[FaultServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("made up")

    monkeypatch.setattr(RemoteNote, "write", broken)
    with member(served[1]) as runtime:
        assert isinstance(ask_one(runtime), Generated)


def test_a_slow_disk_keeps_no_question_waiting(
    served: tuple[FaultServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Event()
    monkeypatch.setattr(RemoteNote, "write", lambda *_: written.wait(5))
    with member(served[1]) as runtime:
        assert isinstance(ask_one(runtime, 3.0), Generated)
        written.set()


def test_closing_drops_what_is_in_flight(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.fault = "hang"
    replies: list[Reply] = []
    with member(url) as runtime:
        runtime.submit(question("a shoe"), replies.append)
        wait_until(lambda: len(server.requests) == 1)
    assert replies == []


def wait_until(condition: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)
