# SPDX-License-Identifier: Apache-2.0
"""Rows of an encoder are computed in batches, and each costs its own vote at most."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from support.encoder_members import (
    ask,
    question,
    settings,
)

from quorum.runtimes import create
from quorum.runtimes.base import Question, Reply
from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.encoder_batch import Batcher, Job
from quorum.tasks.parse import Vote
from quorum_contract import Status

FAILED = Vote("", Status.ERROR)


def test_a_thousand_questions_are_each_answered_once(start_encoder: Any) -> None:
    runtime = start_encoder("label", max_batch=7)
    expected = [("red", "blue")[n % 2] for n in range(1000)]
    replies: list[list[Any]] = [[] for _ in expected]
    left = threading.Semaphore(0)

    def caller(first: int) -> None:
        for n in range(first, 1000, 8):

            def done(reply: Reply, n: int = n) -> None:
                replies[n].append(reply)
                left.release()

            runtime.submit(question(f"{'dark ' * (n % 20)}{expected[n]}", "shade"), done)

    threads = [threading.Thread(target=caller, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for _ in expected:
        assert left.acquire(timeout=30)
    for thread in threads:
        thread.join()
    assert [len(found) for found in replies] == [1] * 1000
    assert [found[0][0].value for found in replies] == expected


def test_a_vote_does_not_depend_on_the_others_in_its_batch(start_encoder: Any) -> None:
    runtime = start_encoder("spans")
    alone = ask(runtime, "dark red case", "entities")
    found: list[Any] = []
    for n in range(20):
        runtime.submit(question("for " * n + "red", "entities"), lambda reply: None)
        runtime.submit(question("dark red case", "entities"), found.append)
    assert ask(runtime, "dark red case", "entities") == alone
    assert found == [alone] * 20


def test_expired_and_cancelled_questions_are_not_computed() -> None:
    seen: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def compute(rows: Any) -> list[Vote]:
        seen.extend(rows)
        entered.set()
        assert go_on.wait(10)
        return [Vote("x", Status.ANSWERED)] * len(rows)

    batcher: Batcher[int, Vote] = Batcher("small", 4, compute, lambda row: row, FAILED)
    replies: dict[int, Reply] = {}

    def submit(number: int, asked: Question) -> None:
        votes = [Vote("", Status.NOT_ASKED)]
        batcher.submit(Job(asked, lambda reply: replies.update({number: reply}), {0: number}, votes))

    submit(0, question("", "a"))
    assert entered.wait(10)
    late, cancelled = question("", "a", seconds=0), question("", "a")
    submit(1, late)
    submit(2, cancelled)
    submit(3, question("", "a"))
    cancelled.cancellation.cancel()
    go_on.set()
    end = time.monotonic() + 10
    while len(replies) < 4 and time.monotonic() < end:
        time.sleep(0.005)
    batcher.close()
    assert seen == [0, 3]
    assert replies[1] == replies[2] == Status.TIMEOUT
    assert replies[0] == replies[3] == [Vote("x", Status.ANSWERED)]


def test_a_row_that_cannot_be_computed_costs_its_own_vote() -> None:
    go_on = threading.Event()

    def compute(rows: Any) -> list[Vote]:
        assert go_on.wait(10)
        if 5 in rows:
            raise RuntimeError("a poisoned row")
        return [Vote(str(row), Status.ANSWERED) for row in rows]

    batcher: Batcher[int, Vote] = Batcher("small", 8, compute, lambda row: row, FAILED)
    replies: dict[int, Any] = {}
    left = threading.Semaphore(0)
    for number in range(10):

        def done(reply: Reply, number: int = number) -> None:
            replies[number] = reply
            left.release()

        batcher.submit(Job(question("", "a"), done, {0: number}, [Vote("", Status.NOT_ASKED)]))
    go_on.set()
    for _ in range(10):
        assert left.acquire(timeout=10)
    batcher.close()
    assert replies.pop(5) == [Vote("", Status.ERROR)]
    assert {number: vote.value for number, (vote,) in replies.items()} == {n: str(n) for n in replies}


def test_rows_of_similar_length_are_computed_together() -> None:
    batches: list[list[int]] = []
    entered, go_on = threading.Event(), threading.Event()

    def compute(rows: Any) -> list[Vote]:
        batches.append(list(rows))
        entered.set()
        assert go_on.wait(10)
        return [Vote(str(row), Status.ANSWERED) for row in rows]

    batcher: Batcher[int, Vote] = Batcher("small", 4, compute, lambda row: row, FAILED)
    replies: dict[int, Reply] = {}
    left = threading.Semaphore(0)

    def submit(first: int, rows: list[int]) -> None:
        def done(reply: Reply) -> None:
            replies[first] = reply
            left.release()

        votes = [Vote("", Status.NOT_ASKED)] * len(rows)
        batcher.submit(Job(question("", *map(str, rows)), done, dict(enumerate(rows)), votes))

    submit(0, [0])
    assert entered.wait(10)
    asked = [[7, 1], [5], [3, 8], [2], [6, 4, 9]]
    for rows in asked:
        submit(rows[0], rows)
    go_on.set()
    for _ in range(1 + len(asked)):
        assert left.acquire(timeout=10)
    batcher.close()
    assert batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]
    for rows in asked:
        assert replies[rows[0]] == [Vote(str(row), Status.ANSWERED) for row in rows]


def test_a_failure_costs_its_batch_and_nothing_else(start_encoder: Any) -> None:
    runtime = start_encoder("label")
    compute = runtime._compute

    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    runtime._compute = fail
    assert ask(runtime, "red", "brand", "shade") == [Vote("", Status.NOT_ASKED), Vote("", Status.ERROR)]
    runtime._compute = lambda ids, mask: np.full((len(ids), 2), np.nan, np.float32)
    assert ask(runtime, "red", "shade") == [Vote("", Status.ERROR)]
    runtime._compute = compute
    assert ask(runtime, "red", "shade")[0].value == "red"


def test_a_caller_that_raises_does_not_stop_the_thread(start_encoder: Any) -> None:
    runtime = start_encoder("label")

    def broken(reply: Reply) -> None:
        raise RuntimeError("broken")

    runtime.submit(question("red", "shade"), broken)
    assert ask(runtime, "red", "shade")[0].value == "red"


def test_close_ends_the_thread_and_drops_what_waits(encoders: Path) -> None:
    runtime = create(settings(encoders, "label"))
    runtime.close()
    replies: list[Reply] = []
    runtime.submit(question("red", "shade"), replies.append)
    assert not [t for t in threading.enumerate() if t.name == "quorum-encoder" and t.is_alive()]
    assert replies == []


def test_cancelled_before_it_is_computed(start_encoder: Any) -> None:
    gone = Cancellation()
    gone.cancel()
    asked = Question("", "{}", "red", "", ("shade",), time.monotonic_ns() + 10**12, gone)
    assert ask(start_encoder("label"), asked) == Status.TIMEOUT
