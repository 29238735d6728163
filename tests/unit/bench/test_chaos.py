# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the chaos table: what a row counts, what it must not show, and what counts as left."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from typer import Exit

from quorum.server.leftovers import SCRATCH
from quorum.serving.shared_file import MARK, SHARED_MEMORY
from quorum_bench.chaos import cases
from quorum_bench.chaos.cases import BROKEN_MEMBER, Row, acts_since, gap_s, problems, silent_members
from quorum_bench.chaos.errors import ChaosError, ProcessNotFound
from quorum_bench.chaos.faults import Fault, begin
from quorum_bench.chaos.processes import files_of, marked, stale
from quorum_bench.chaos.traffic import CALL_S, Asked, Outcome, Traffic, outcome_of
from quorum_bench.chaos.world import MEMBERS, World
from quorum_bench.cli.chaos import chaos, table_of
from quorum_bench.workload import Product
from quorum_client import (
    Answer,
    AsyncClient,
    DeadlineExceeded,
    Disconnected,
    Extraction,
    Overloaded,
    ProtocolError,
    QuorumError,
    ServerError,
    Status,
    Unavailable,
    Unreachable,
    Vote,
)
from quorum_contract import GATE, VOTE

PRODUCT = Product("text", "shoes", ("color",))
ROW = Row(
    part="runtime of beta", fault="raise", rate_per_s=40.0, asked=642, answered=642, refused=0, broken=0,
    late=0, wrong=0, empty=0, missed=80, spread=0, gap_s=0.0, whole_s=1.0, slots=0, left=(), incidents=(),
    spares_steps=True, spares_graph=True, must_show=True,
)  # fmt: skip


def asked(*calls: tuple[float, float, Outcome]) -> list[Asked]:
    """Requests by second of sending, seconds until the outcome, and outcome."""
    return [Asked(PRODUCT, sent_s, took_s, outcome) for sent_s, took_s, outcome in calls]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, products=4)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Overloaded("full"), Outcome.refused),
        (Unavailable("stopping"), Outcome.refused),
        (Unreachable("no server"), Outcome.broken),
        (Disconnected("broke off"), Outcome.broken),
        (ServerError("failed", status="INTERNAL"), Outcome.broken),
        (ProtocolError("no answer"), Outcome.broken),
        (DeadlineExceeded("late"), Outcome.late),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, QuorumError) else one.value,
)
def test_only_a_server_that_is_there_refuses(error: QuorumError, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([(9.0, 0.1, Outcome.answered), (11.0, 0.1, Outcome.answered)], 0.0),
        ([(10.5, 2.0, Outcome.late), (11.0, 0.25, Outcome.answered)], 1.25),
        ([(10.5, 0.1, Outcome.refused), (12.0, 0.5, Outcome.answered)], 2.5),
        # What is answered in between is not yet for good.
        (
            [
                (10.5, 2.0, Outcome.late),
                (11.0, 0.1, Outcome.answered),
                (12.0, 0.1, Outcome.broken),
                (13.0, 0.5, Outcome.answered),
            ],
            3.5,
        ),
        # In the order of their ends, as the traffic keeps them.
        ([(12.0, 0.5, Outcome.answered), (11.0, 2.0, Outcome.late)], 2.5),
        ([(10.5, 0.1, Outcome.answered), (14.0, 0.1, Outcome.broken)], 4.0 + CALL_S),
        # Before the fault.
        ([(9.0, 0.1, Outcome.broken), (9.5, 0.25, Outcome.answered)], 0.0),
        ([], 0.0),
    ],
)  # fmt: skip
def test_a_gap_lasts_until_requests_are_answered_for_good(
    calls: list[tuple[float, float, Outcome]], expected: float
) -> None:
    assert gap_s(10.0, asked(*calls)) == pytest.approx(expected)


def test_a_row_as_it_should_be_has_no_problem() -> None:
    assert problems(ROW) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"wrong": 1}, "1 wrong answers"),
        ({"gap_s": 10.1}, "no answers for 10.1 s"),
        ({"whole_s": None}, "not every member was back"),
        ({"whole_s": 10.1}, "not every member was back"),
        ({"slots": 2}, "2 slots held"),
        ({"slots": -1}, "slots"),
        ({"left": ("process 1 (x)",)}, "left: process 1"),
        ({"broken": 1}, "1 calls lost"),
        ({"late": 2}, "2 calls lost"),
        ({"missed": 0}, "was anything broken"),
        ({"spread": 3}, "in 3 answers members abstained that were not broken"),
        ({"incidents": ("tritonserver 7 was killed",)}, "the supervisor had to act: tritonserver 7"),
    ],
)
def test_what_a_row_must_not_show(changed: dict[str, object], words: str) -> None:
    (problem,) = problems(replace(ROW, **changed))  # type: ignore[arg-type]
    assert words in problem


def test_a_killed_step_may_cost_the_calls_in_it_and_an_incident_but_no_vote_of_others() -> None:
    step = replace(
        ROW, part="step of beta", spares_steps=False, must_show=False, missed=0, late=40, incidents=("died",)
    )
    assert problems(step) == []
    assert len(problems(replace(step, spread=1))) == 1
    gate = replace(step, part=GATE, spares_graph=False, spread=5)
    assert problems(gate) == []


def test_what_each_fault_may_touch() -> None:
    member, step, gate, server = (
        Fault("kill", (target,))
        for target in (("worker", BROKEN_MEMBER), ("stub", BROKEN_MEMBER), ("stub", GATE), ("server", ""))
    )
    both = Fault("kill", (("stub", BROKEN_MEMBER), ("stub", VOTE)))
    every = Fault("hang", tuple(("runtime", name) for name in MEMBERS))
    everything = (member, step, gate, server, both, every)
    assert [set(fault.members) for fault in everything] == [
        {BROKEN_MEMBER}, {BROKEN_MEMBER}, set(), set(), {BROKEN_MEMBER}, {*MEMBERS},
    ]  # fmt: skip
    assert [fault.spares_steps for fault in everything] == [True, False, False, False, False, True]
    assert [fault.spares_graph for fault in everything] == [True, True, False, False, False, True]
    assert [fault.must_show for fault in everything] == [False, False, False, False, False, True]


def test_every_short_case_is_a_long_one() -> None:
    long = [*cases.long_cases()]
    assert len(set(long)) == len(long)
    assert set(cases.short_cases()) <= set(long)


def answer_of(
    product: Product, values: dict[str, str], voted: dict[str, dict[str, str | None]]
) -> Extraction:
    def votes(name: str) -> tuple[Vote, ...]:
        return tuple(
            Vote(member, value, Status.TIMEOUT if value is None else Status.ANSWERED)
            for member, value in voted[name].items()
        )

    answers = tuple(Answer(name, values[name], 1.0, votes(name)) for name in product.attributes)
    return Extraction("id", answers, 1, 0.1)


def recorded(world: World) -> dict[str, dict[str, str | None]]:
    product = world.workload.products[0]
    return {name: dict(world._said[product.text, name]) for name in product.attributes}


def test_an_answer_is_held_against_the_vote_of_the_members_that_answered(world: World) -> None:
    product, said = world.workload.products[0], recorded(world)
    first = product.attributes[0]
    for name in product.attributes:
        said[name] = {member: said[name]["alpha"] if member == "alpha" else None for member in MEMBERS}
    values = {name: str(said[name]["alpha"]) for name in product.attributes}
    right = answer_of(product, values, said)
    assert world.mistakes(product, right) == []
    assert silent_members(right) == {"beta", "gamma"}
    other = answer_of(product, values | {first: "another"}, said)
    assert world.mistakes(product, other) == [f"{first}: 'another' for {values[first]!r}"]
    said[first]["alpha"] = "never recorded"
    foreign = answer_of(product, values | {first: "never recorded"}, said)
    assert world.mistakes(product, foreign) == [f"alpha on {first}: 'never recorded'"]


def test_requests_that_are_not_counted_are_an_error_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def extract(*_: object, **__: object) -> Extraction:
        raise KeyError("no QuorumError")

    monkeypatch.setattr(AsyncClient, "extract", extract)
    traffic = Traffic("127.0.0.1:1", (PRODUCT,), 100.0)
    with pytest.raises(ChaosError, match="KeyError"), traffic:
        assert traffic._thread is not None
        traffic._thread.join(10)


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process of a server of a supervisor that bears this process's number, and no child of a server."""
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {MARK: f"{SCRATCH}{os.getpid()}-abc"},
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_found_by_its_mark_whoever_its_parent_is(orphan: subprocess.Popen[bytes]) -> None:
    assert marked(os.getpid()) == {orphan.pid: f"{SCRATCH}{os.getpid()}-abc"}
    # Neither another supervisor's, nor one whose number begins with the same digits.
    assert orphan.pid not in marked(int(str(os.getpid())[:-1] or "0"))
    orphan.kill()
    orphan.wait()
    assert marked(os.getpid()) == {}


def test_files_of_dead_servers_are_left_and_those_of_the_present_one_needed(tmp_path: Path) -> None:
    pid = os.getpid()
    names = [f"{SCRATCH}{pid}-old_region", f"{SCRATCH}{pid}-new_admission"]
    try:
        for name in names:
            (SHARED_MEMORY / name).write_bytes(b"")
        assert files_of(pid) == {*names}
    finally:
        for name in names:
            (SHARED_MEMORY / name).unlink()
    files = {"m-1_admission", "m-1_a", "m-10_a", "m-1", "m-0"}
    assert stale(files, "m-1") == {"m-10_a", "m-0"}
    assert stale(files, "") == files


def test_a_kill_that_hits_nothing_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(gone.pid)
    gone.wait()
    monkeypatch.setattr("quorum_bench.chaos.faults.found", lambda *_: process)
    with pytest.raises(ProcessNotFound, match="before it was killed"):
        begin(Fault("kill", (("worker", BROKEN_MEMBER),)), world.spec, world.faults)


def test_no_figure_of_the_table_is_cut_in_80_columns() -> None:
    rows = [
        replace(ROW, part=fault.name, fault=fault.kind, rate_per_s=rate) for fault, rate in cases.long_cases()
    ]
    most = replace(ROW, rate_per_s=0.5, asked=12345, answered=12345, refused=12345, broken=1234, wrong=1234)
    rows.append(replace(most, part="alpha+beta+gamma", fault="memory", gap_s=123.4, whole_s=None))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table_of(rows))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for words in ("what breaks", "answered", "refused", "642/642", "12345/12345", "1234", "123.4", "never"):
        assert words in text


@pytest.mark.parametrize(("wrong", "word", "code"), [(0, "passed: 1 case", 0), (1, "FAILED: 1 of 1 case", 1)])
def test_the_end_says_in_words_whether_it_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: int, word: str, code: int
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("quorum_bench.cli.chaos.World", lambda _: contextlib.nullcontext(Still()))
    monkeypatch.setattr("quorum_bench.cli.chaos.run_case", lambda *_: replace(ROW, wrong=wrong))
    try:
        chaos(fault=["raise"], part=["runtime"])
        ended = 0
    except Exit as error:
        ended = error.exit_code
    out = capsys.readouterr().out
    assert ended == code
    assert max(map(len, out.splitlines()[1:])) <= 80
    assert out.splitlines()[-1].startswith(word)
    for column in ("lost:", "wrong:", "left:"):
        assert column in out


class Still:
    """A deployment of which nothing is left."""

    def left(self) -> list[str]:
        return []


def test_a_choice_without_a_case_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(Exit) as error:
        chaos(fault=["kill"], part=["gatee"])
    assert error.value.exit_code == 2
    assert "no case has this --part and --fault; there are" in capsys.readouterr().err


def test_the_supervisor_acts_in_incidents_of_the_server_alone() -> None:
    old, worker = {"at": "1", "kind": "server"}, {"at": "2", "kind": "worker"}
    server = {"at": "3", "kind": "server"}
    assert acts_since([old], [old, worker, server]) == [server]
