# SPDX-License-Identifier: Apache-2.0
"""The runtime ``openai`` against a server over real sockets: answers, faults, deadlines."""

from __future__ import annotations

import threading
import time

import pytest
from support.fault_server import (
    HUGE,
    MODEL,
    USAGE,
    FaultServer,
)
from support.hf_members import ask
from support.openai_members import RIGHT, ask_one, member, question, state_of, votes, wait_until

from quorum.runtimes.base import Generated, Reply, Usage
from quorum.runtimes.remote.note import RemoteNote
from quorum_contract import Status


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
        assert ask_one(runtime, 2.0 if status is Status.TIMEOUT else 20.0) is status
        assert time.monotonic() - began < 20
        assert status is Status.TIMEOUT or state_of(runtime)["problem"]
        server.fault = ""


def test_a_status_counts_also_where_the_body_of_the_error_does_not_come(
    served: tuple[FaultServer, str],
) -> None:
    server, url = served
    server.fault, server.retry_after = "429 without a body", "70"
    with member(url) as runtime:
        assert ask_one(runtime, 20.0) is Status.OVERLOADED
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
        assert isinstance(ask_one(runtime, 20.0), Generated)


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
        assert time.monotonic() - began < 20
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
    monkeypatch.setattr(RemoteNote, "write", lambda *_: written.wait(60))
    with member(served[1]) as runtime:
        assert isinstance(ask_one(runtime, 20.0), Generated)
        written.set()


def test_closing_drops_what_is_in_flight(served: tuple[FaultServer, str]) -> None:
    server, url = served
    server.fault = "hang"
    replies: list[Reply] = []
    with member(url) as runtime:
        runtime.submit(question("a shoe"), replies.append)
        wait_until(lambda: len(server.requests) == 1)
    assert replies == []
