# SPDX-License-Identifier: Apache-2.0
"""Servers that take turns, and what the cross-check takes out: both by hand, without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quorum_bench.bench import Bench, Options
from quorum_bench.load import LoadError
from quorum_bench.measure import Effort
from quorum_bench.perf_analyzer import Seen
from quorum_bench.scenarios.peers import _take_turns
from quorum_bench.scenarios.peers_llms import absent_rows
from quorum_bench.targets.peer import PeerError
from quorum_bench.workload import Workload

TURNS = 3


class Server:
    def __init__(self, name: str, log: list[str], fails: Callable[[], None] = lambda: None) -> None:
        self._name, self._log, self._fails = name, log, fails

    def start(self) -> None:
        self._log.append(f"start {self._name}")
        self._fails()

    def stop(self) -> None:
        self._log.append(f"stop {self._name}")

    def caller(self, _: Workload) -> None:
        return None


class Tally:
    """Keeps who was measured when; a server called ``broken`` cannot be measured in the second turn."""

    effort = Effort(1.0, 0.0, TURNS)

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def run(self, point: Any, number: int) -> None:
        if point.labels["server"] == "broken" and number == 1:
            raise LoadError("no answers any more")
        self._log.append(f"{point.labels['server']} at {point.labels['load']} in turn {number}")

    def measured(self) -> list[Any]:
        return []


def turns(log: list[str], servers: dict[str, Callable[[], Server]]) -> Any:
    kind: Any = SimpleNamespace(
        name="none", workload=Workload.made(1), loads=(1, 2), deploy=None, makers=lambda: servers
    )
    bench: Any = SimpleNamespace(
        tally=lambda _: Tally(log), options=Options("short", Tally.effort), say=lambda _: None
    )
    return _take_turns(bench, kind)


def test_whoever_is_measured_is_alone_and_the_order_turns_round() -> None:
    log: list[str] = []
    found = turns(log, {"a": lambda: Server("a", log), "b": lambda: Server("b", log)})
    starts = [line for line in log if line.startswith("start")]
    assert starts == ["start a", "start b", "start b", "start a", "start a", "start b"]
    running: set[str] = set()
    for line in log:
        word, name = line.split()[:2]
        if word == "start":
            assert not running
            running.add(name)
        elif word == "stop":
            running.remove(name)
        else:
            assert running == {word}
    assert {name: len(times) for name, times in found.cold_start_s.items()} == {"a": TURNS, "b": TURNS}


def test_one_that_does_not_start_or_breaks_is_named_and_costs_nobody_else() -> None:
    log: list[str] = []

    def missing() -> None:
        raise PeerError("not installed")

    found = turns(
        log,
        {
            "a": lambda: Server("a", log),
            "absent": lambda: Server("absent", log, missing),
            "broken": lambda: Server("broken", log),
        },
    )
    assert found.absent == {"absent": "not installed", "broken": "after 1 turns: no answers any more"}
    assert [row[0] for row in absent_rows(found.absent, 2)] == [
        f"{name}: {why}" for name, why in found.absent.items()
    ]
    assert log.count("start absent") == log.count("stop absent") == 1
    assert sum(line.startswith("a at") for line in log) == 2 * TURNS
    assert log.count("stop broken") == 2


def test_a_lone_callers_client_is_taken_off_its_latency() -> None:
    seen = Seen(p50_ms=2.0, rate=400.0, own_ms=0.5).without_own(callers=1, cores=2)
    assert seen.p50_ms == pytest.approx(1.5)
    assert seen.rate == pytest.approx(500.0)


def test_clients_on_busy_cores_are_taken_off_their_share() -> None:
    # Two cores, 1.6 ms of server and 0.4 ms of client an answer: 1000 a second; without the client 1250.
    seen = Seen(p50_ms=8.0, rate=1000.0, own_ms=0.4).without_own(callers=8, cores=2)
    assert seen.rate == pytest.approx(1250.0)
    assert seen.p50_ms == pytest.approx(8.0 - 8 * 0.2)


def test_two_points_with_the_same_labels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "quorum_bench.bench.Tally._answered", lambda *_: (SimpleNamespace(window_ns=(0, 1)), None)
    )
    monkeypatch.setattr("quorum_bench.bench._line", lambda *_: "")
    file: Any = SimpleNamespace(add=lambda *_: None)
    tally = Bench(Options("short", Tally.effort), file).tally("s")
    point: Any = SimpleNamespace(labels={"n": 1})
    tally.run(point, 0)
    tally.run(point, 1)
    with pytest.raises(ValueError, match="same labels"):
        tally.run(point, 1)
    assert [len(one.runs) for one in tally.measured()] == [2]


def test_listings_become_a_workload(tmp_path: Path) -> None:
    path = tmp_path / "listings.jsonl"
    path.write_text('{"title": "red shoe", "category": "shoes"}\n{"title": "hat"}\n{"title": "left out"}\n')
    workload = Workload.of_listings(path, ["color", "size"], products=2)
    assert [(p.text, p.category, p.attributes) for p in workload.products] == [
        ("red shoe", "shoes", ("color", "size")),
        ("hat", "", ("color", "size")),
    ]
