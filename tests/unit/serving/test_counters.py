# SPDX-License-Identifier: Apache-2.0
"""Counts of a server's steps: each process has numbers of its own, and none is lost with a process."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quorum.serving import counters, families
from quorum.serving.counters import Counters, Layout, read_counters
from quorum.serving.families import FAMILIES
from quorum.serving.gate_counts import GateCounts, channel_of, question_of
from quorum.serving.shared_file import MARK, traces_of
from quorum.serving.vote_counts import Answered, VoteCounts
from quorum_contract import NOT_APPLICABLE, Status
from quorum_contract.errors import InvalidRequest, Overloaded, Unavailable

MEMBERS = ("a", "b")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Names the files of this test; removes them."""
    name = f"quorum-test-{os.getpid()}"
    monkeypatch.setenv(MARK, name)
    yield name
    for trace in traces_of(name):
        trace.unlink()


def layout(*names: str) -> Layout:
    made = Layout()
    for name in names:
        made.add((name, ()))
    return made


def answered(
    values: dict[str, str], votes: list[list[str | Status]], usage: list[float] | None = None
) -> Answered:
    """An answer: attribute -> decision, "" for none; votes of each member, a status for an abstention."""
    flat = [vote for row in votes for vote in row]
    return Answered(
        tuple(values),
        list(values.values()),
        np.array([0.95 if value else 0.0 for value in values.values()], np.float32),
        np.array([0 if value else 1 for value in values.values()], np.int32),
        ["" if isinstance(vote, Status) else vote for vote in flat],
        np.array([int(vote) if isinstance(vote, Status) else 0 for vote in flat], np.int32),
        np.array(usage or [1, 100, 10, 0, 0.5, 0.25] * len(votes), np.float32),
    )


def test_processes_of_one_step_add_up_and_the_next_one_continues(server: str) -> None:
    first, second = Counters("vote", layout("x", "y")), Counters("vote", layout("x", "y"))
    first.numbers[0] += 2
    second.numbers[0] += 3
    second.numbers[1] += 1
    assert read_counters(server) == {("x", ()): 5, ("y", ()): 1}
    first.close()
    third = Counters("vote", layout("x", "y"))
    assert third.numbers[0] == 2
    third.numbers[0] += 1
    assert read_counters(server)["x", ()] == 6
    assert len(traces_of(server)) == 2


def test_another_layout_is_another_file_and_both_count(server: str) -> None:
    Counters("vote", layout("x")).numbers[0] += 1
    Counters("vote", layout("y", "x")).numbers[1] += 1
    assert read_counters(server)["x", ()] == 2


def test_a_killed_process_loses_nothing_that_it_wrote_and_blocks_nobody(server: str) -> None:
    code = (
        "import sys\nfrom quorum.serving.counters import Counters, Layout\nmade = Layout()\n"
        "made.add(('x', ()))\nCounters('vote', made).numbers[0] += 7\n"
        "print('there', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    Counters("vote", layout("x")).numbers[0] += 1
    assert read_counters(server) == {("x", ()): 8}
    assert len(traces_of(server)) == 1


def test_without_shared_memory_a_step_counts_for_nobody(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(counters, "SHARED_MEMORY", tmp_path / "missing")
    Counters("vote", layout("x")).numbers[0] += 1
    assert read_counters(server) == {}


def test_a_file_that_is_no_count_is_left_out(server: str) -> None:
    path = counters.SHARED_MEMORY / f"{server}_counts_vote_x_0"
    for content in (b"", b"qcounts1", b"qcounts1" + bytes(100), os.urandom(200)):
        path.write_bytes(content)
        assert read_counters(server) == {}


def test_answers_are_counted_by_member_attribute_and_channel(server: str) -> None:
    counts = VoteCounts(MEMBERS, ["brand", "color"], 3)
    counts.answered(0, 0.02, answered({"brand": "x", "color": "red"}, [["x", "red"], ["x", "blue"]]), [])
    mixed = answered({"brand": "", "color": NOT_APPLICABLE}, [[Status.TIMEOUT, "n/a"], [Status.ERROR, "n/a"]])
    counts.answered(1, math.nan, mixed, [(0, 1), (1, 2)])
    unknown = [1, math.nan, 3, 0, 0.5, math.nan] * 2
    counts.answered(0, 99.0, answered({"weight": ""}, [[Status.UNPARSABLE]] * 2, unknown), [])
    counts.ended(2, "failed")
    counts.flush()
    found = {series: number for series, number in read_counters(server).items() if number}
    of = lambda name: {labels: n for (own, labels), n in found.items() if own == name}  # noqa: E731
    assert of("quorum_requests_total") == {
        ("quorum", "answered"): 1,
        ("quorum_canary", "answered"): 1,
        ("quorum", "undecided"): 1,
        ("quorum_lazy", "failed"): 1,
    }
    assert of("quorum_answers_total") == {("quorum", "3"): 2, ("quorum_canary", "3"): 1}
    assert of("quorum_decisions_total") == {
        ("brand", "value"): 1,
        ("color", "value"): 1,
        ("brand", "no_answer"): 1,
        ("color", "not_applicable"): 1,
        ("other", "no_answer"): 1,
    }
    assert of("quorum_votes_total") == {
        ("a", "ANSWERED"): 3,
        ("b", "ANSWERED"): 3,
        ("a", "TIMEOUT"): 1,
        ("b", "ERROR"): 1,
        ("a", "UNPARSABLE"): 1,
        ("b", "UNPARSABLE"): 1,
    }
    assert of("quorum_votes_agreeing_total") == {("a",): 3, ("b",): 2}
    assert of("quorum_votes_spared_total") == {("a",): 1, ("b",): 2}
    assert of("quorum_member_calls_spared_total") == {("b",): 1}
    assert of("quorum_member_prompt_tokens_total") == {("a",): 200, ("b",): 200}
    assert of("quorum_member_answer_tokens_total") == {("a",): 23, ("b",): 23}
    assert of("quorum_member_cost_total") == {("a",): 0.5, ("b",): 0.5}
    assert of("quorum_member_unpriced_total") == {("a",): 1, ("b",): 1}
    assert of("quorum_request_seconds") == {
        ("quorum", "0.02"): 1,
        ("quorum", "+Inf"): 1,
        ("quorum", "sum"): pytest.approx(99.02),
    }
    confidence = of("quorum_confidence")
    assert confidence["quorum", "0.95"] == 2
    assert confidence["quorum_canary", "sum"] == pytest.approx(0.95)
    counts.close()


def test_a_batch_counts_as_one_by_one(server: str) -> None:
    """Answers of different sizes and channels, more than are counted at once."""
    counts = VoteCounts(MEMBERS, ["brand", "color"], 1)
    for number in range(300):
        names = ["brand", "color", f"open {number}"][: 1 + number % 3]
        values = {name: f"{name}-{number}" if (number + at) % 4 else "" for at, name in enumerate(names)}
        same = [value or Status.NOT_FOUND for value in values.values()]
        counts.answered(number % 4, 0.1, answered(values, [same, [Status.NOT_ASKED] * len(names)]), [])
    counts.close()
    found = read_counters(server)
    cells = sum(1 + number % 3 for number in range(300))
    empty = sum(not (n + at) % 4 for n in range(300) for at in range(1 + n % 3))
    assert found["quorum_votes_agreeing_total", ("a",)] == cells - empty
    assert found["quorum_votes_total", ("a", "NOT_FOUND")] == empty
    assert found["quorum_votes_total", ("b", "NOT_ASKED")] == cells
    requests = {labels: n for (name, labels), n in found.items() if name == "quorum_requests_total"}
    assert sum(requests.values()) == 300
    assert [requests[channel, "answered"] + requests[channel, "undecided"] for channel in (
        "quorum", "quorum_canary", "quorum_lazy", "quorum_lazy_canary"
    )] == [75] * 4  # fmt: skip


def test_a_version_counts_for_itself_and_for_the_vote(server: str) -> None:
    one, two = VoteCounts(MEMBERS, ["brand"], 1), VoteCounts(MEMBERS, ["brand"], 2)
    for counts in (one, two):
        counts.answered(0, 0.1, answered({"brand": "x"}, [["x"], ["x"]]), [])
        counts.close()
    found = read_counters(server)
    assert found["quorum_requests_total", ("quorum", "answered")] == 2
    assert (
        found["quorum_answers_total", ("quorum", "1")] == found["quorum_answers_total", ("quorum", "2")] == 1
    )


def test_the_gate_knows_channels_by_what_they_ask_it_for(server: str) -> None:
    assert [
        channel_of(question_of(requested), rows)
        for requested, rows in (
            (["QUESTION"], {}),
            (["CANARY_QUESTION", "CANARY_SHARE"], {}),
            (["QUESTION", "OPEN_2"], {"OPEN_2": 2}),
            (["CANARY_QUESTION", "OPEN_2"], {"OPEN_2": 2}),
            # A call of the gate alone asks for all that it has.
            (["CANARY_QUESTION", "QUESTION"], {}),
        )
    ] == [0, 1, 2, 3, 0]
    gate = GateCounts()
    gate.admitted(1, "bulk")
    for error in (InvalidRequest("x"), Overloaded("x"), Unavailable("x")):
        gate.refused(0, error)
    gate.cancelled(2)
    found = {series: number for series, number in read_counters(server).items() if number}
    assert found == {
        ("quorum_admitted_total", ("quorum_canary", "bulk")): 1,
        ("quorum_requests_total", ("quorum", "invalid")): 1,
        ("quorum_requests_total", ("quorum", "overloaded")): 1,
        ("quorum_requests_total", ("quorum", "stopping")): 1,
        ("quorum_cancellations_total", ()): 2,
    }


def test_every_series_of_a_step_is_of_a_family_with_its_labels(server: str) -> None:
    GateCounts()
    VoteCounts(MEMBERS, ["brand"], 1).close()
    for name, labels in read_counters(server):
        family = FAMILIES[name]
        assert len(labels) == len(family.labels) + (family.kind == "histogram"), name


def test_names_are_those_that_prometheus_wants() -> None:
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"quorum_[a-z0-9_]+", name)
        assert name.endswith("_total") == (family.kind == "counter"), name
        assert all(re.fullmatch(r"[a-z_]+", label) for label in family.labels)
    assert set(families.USAGE) <= set(FAMILIES.values())
