# SPDX-License-Identifier: Apache-2.0
"""Readiness that tells the truth: steady while things load, false when a step is dead or hung, never late."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.command import quorum, quorum_json, start
from support.deployment import (
    ATTRIBUTES,
    WITH_HTTP,
    Live,
    running,
    table,
    title,
    write_deployment,
)
from support.raw import bytes_tensor
from support.traces import stub_of

from quorum.repository.store import Store
from quorum.rollout.channels import Rollout
from quorum.server.http import ProbeServer
from quorum.server.probe import Pulse, probe_channel, take_pulse
from quorum.serving.admission import admission_of
from quorum_contract import CHANNELS

HANG = {"hang_share": 1}
LOADS = 20 if os.environ.get("QUORUM_LONG") else 8
"""Half of them new versions, half processes that are replaced: each model's at least once."""
STOPPED_S = 0.5
"""Triton aborts when a step that was asked is stopped for more than a second."""


def get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Steps that a test stops go on at its end; the last test replaces them."""
    members: dict[str, Any] = {"alpha": {}, "beta": {}}
    with running(write_deployment(tmp_path_factory.mktemp("probed"), members, server=WITH_HTTP)) as live:
        yield live


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`hung` never answers its questions; four may be inside."""
    members: dict[str, Any] = {"alpha": {}, "hung": {"options": HANG, "timeout_s": 60}}
    gate = {"max_in_flight": 4, "timeout_s": 60}
    with running(write_deployment(tmp_path_factory.mktemp("stuck"), members, gate=gate)) as live:
        yield live


@pytest.mark.parametrize("model", ["beta", "quorum_vote", "quorum_gate"])
def test_a_stopped_process_is_not_ready_until_it_goes_on(live: Live, model: str) -> None:
    pid = stub_of(live.server, model)
    os.kill(pid, signal.SIGSTOP)
    try:
        pulse = take_pulse(live.spec, live.url, "quorum", timeout_s=STOPPED_S)
        assert not pulse.ready
        assert pulse.version is None
        assert f"{STOPPED_S} s" in pulse.reason
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: take_pulse(live.spec, live.url, "quorum", 5).ready)


def test_a_stuck_llm_holds_up_neither_probe_nor_rollout(stuck: Live) -> None:
    pulse = take_pulse(stuck.spec, stuck.url, "quorum")
    assert pulse.ready
    assert probe_channel(stuck.spec, stuck.url, "quorum", timeout_s=30) == 1
    # Long enough for the others to answer on a busy machine; the stuck one would take a minute.
    full = take_pulse(stuck.spec, stuck.url, "quorum", timeout_s=6, full=True)
    assert full.ready, "the others answer"
    assert full.reason == "abstained: hung TIMEOUT"


def test_a_full_question_wants_a_member_at_work(tmp_path: Path) -> None:
    members: dict[str, Any] = {"hung": {"options": HANG, "timeout_s": 60}}
    with running(write_deployment(tmp_path, members)) as live:
        assert take_pulse(live.spec, live.url, "quorum").ready
        full = take_pulse(live.spec, live.url, "quorum", timeout_s=4, full=True)
        assert not full.ready
        assert full.version == 1


def test_a_full_gate_is_ready(stuck: Live) -> None:
    assert stuck.server.pid
    admission = admission_of(stuck.server.pid)
    wait_until(lambda: admission.inside(time.monotonic_ns()) == 0)
    text = bytes_tensor([title(0).encode()])
    held = [stuck.ask_raw(text, ATTRIBUTES, server_timeout_us=8_000_000) for _ in range(4)]
    wait_until(lambda: admission.inside(time.monotonic_ns()) == 4)
    pulse = take_pulse(stuck.spec, stuck.url, "quorum")
    assert (pulse.ready, pulse.reason) == (True, "the gate is full")
    assert all(future.result() for future in held)


def test_over_http(live: Live) -> None:
    alive = {"live": True}
    patience = {"timeout_s": 5.0}

    def pulse(channel: str) -> Pulse:
        return take_pulse(live.spec, live.url, channel, **patience)

    with ProbeServer("127.0.0.1", 0, CHANNELS, pulse, lambda: alive["live"]) as probes:
        status, body = get(probes.port, "/ready/quorum")
        assert (status, body["ready"], body["version"]) == (200, True, 1)
        status, body = get(probes.port, "/ready")
        assert (status, [c["channel"] for c in body["channels"]]) == (200, list(CHANNELS))
        assert get(probes.port, "/live") == (200, {"live": True})
        alive["live"] = False
        assert get(probes.port, "/live")[0] == 503
        status, body = get(probes.port, "/ready/nobody")
        assert status == 404
        assert "/ready/quorum_canary" in body["error"]
        pid = stub_of(live.server, "alpha")
        patience["timeout_s"] = STOPPED_S
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: get(probes.port, "/ready/quorum")[0] == 503)
            assert get(probes.port, "/live")[0] == 503
        finally:
            os.kill(pid, signal.SIGCONT)
        patience["timeout_s"] = 5.0
        wait_until(lambda: get(probes.port, "/ready/quorum")[0] == 200)


def test_many_who_ask_share_one_question(live: Live) -> None:
    asked = []

    def pulse(channel: str) -> Any:
        asked.append(channel)
        return take_pulse(live.spec, live.url, channel)

    with ProbeServer("127.0.0.1", 0, CHANNELS, pulse, lambda: True) as probes:
        begun = time.monotonic()
        crowd = [threading.Thread(target=get, args=(probes.port, "/ready/quorum")) for _ in range(24)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        assert len(asked) <= 1 + int(time.monotonic() - begun)


def test_ready_throughout_loads_that_triton_calls_unready(live: Live) -> None:
    pulses, triton, over = [], [], threading.Event()

    def watch_triton() -> None:
        while not over.is_set():
            try:
                urllib.request.urlopen(
                    f"http://127.0.0.1:{live.endpoint.http_port}/v2/health/ready", timeout=30
                ).close()
                triton.append(True)
            except urllib.error.HTTPError:
                triton.append(False)
            over.wait(0.02)

    def watch_us() -> None:
        while not over.is_set():
            pulses.extend(take_pulse(live.spec, live.url, channel) for channel in CHANNELS)
            over.wait(0.02)

    watchers = [threading.Thread(target=watch_triton), threading.Thread(target=watch_us)]
    for watcher in watchers:
        watcher.start()
    store = Store(live.server.repository)
    weights, catalogue = store.weights(1), live.spec.catalogue().hashes
    rollout = Rollout(live.spec, live.control, lambda channel: probe_channel(live.spec, live.url, channel))
    try:
        for number in range(LOADS):
            # In turn: a version that was not there before, and a process that is replaced in place.
            if number % 2:
                model = ("beta", "quorum_gate", "quorum_vote", "quorum")[number // 2 % 4]
                store.touch(model)
                live.control.load(model)
            else:
                rollout.publish(replace(weights, settings={"number": number}, catalogue=catalogue))
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()
    assert not all(triton), "Triton says so too: nothing happened that could have shaken us"
    assert len(pulses) > 10
    assert [pulse for pulse in pulses if not pulse.ready] == []
    assert {pulse.version for pulse in pulses} == {1}


def test_a_killed_process_is_not_ready_and_says_why(tmp_path: Path) -> None:
    with running(write_deployment(tmp_path, {"alpha": {}, "beta": {}})) as live:
        os.kill(stub_of(live.server, "beta"), signal.SIGKILL)
        wait_until(lambda: not take_pulse(live.spec, live.url, "quorum").ready)
        assert live.control.is_ready("quorum"), "Triton itself notices nothing"
        _, err = quorum(tmp_path, "probe", "--url", live.url, "--full", code=1)
        assert "quorum not ready" in err
        assert len(err.splitlines()) == 1
        os.kill(live.server.pid or 0, signal.SIGKILL)
        found = quorum_json(tmp_path, "probe", "--url", live.url, "--timeout", "1", code=1)
        assert (found["ready"], found["version"]) == (False, None)


def test_up_answers_probes_from_the_first_moment_and_while_it_drains(tmp_path: Path) -> None:
    # A table that takes a moment to read.
    rows = table(["alpha", "beta"], products=2_000)
    write_deployment(tmp_path, {"alpha": {"options": {"latency_ms": 700}}, "beta": {}}, rows=rows)
    quorum(tmp_path, "render")
    process = start(tmp_path, "up", "--probe-port", "0")
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "probes: http://" in line)
        port = int(line.split("127.0.0.1:")[1].split("/")[0])
        assert get(port, "/live") == (200, {"live": True})
        status, body = get(port, "/ready/quorum")
        assert (status, body["ready"]) == (503, False)
        wait_until(lambda: get(port, "/ready")[0] == 200)
        wait_until((tmp_path / ".quorum" / "server.json").exists)
        assert "version 1" in quorum(tmp_path, "probe", "--channel", "quorum_canary")[1]
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not (tmp_path / ".quorum" / "up.json").exists()


def test_probe_serves_http_beside_a_server_that_comes_and_goes(tmp_path: Path) -> None:
    write_deployment(tmp_path, {"alpha": {}})
    process = start(tmp_path, "probe", "--http", "0", "--timeout", "1")
    assert process.stderr is not None
    try:
        port = int(process.stderr.readline().split("127.0.0.1:")[1].split("/")[0])
        assert get(port, "/live")[0] == 503
        assert get(port, "/ready/quorum")[0] == 503
        quorum(tmp_path, "render")
        up = start(tmp_path, "up")
        try:
            wait_until(lambda: get(port, "/ready/quorum")[0] == 200 or up.poll() is not None)
            assert up.poll() is None, up.communicate()
            assert get(port, "/live")[0] == 200
        finally:
            up.send_signal(signal.SIGTERM)
            up.communicate(timeout=60)
        wait_until(lambda: get(port, "/ready/quorum")[0] == 503)
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@pytest.mark.parametrize("how", ["fails", "killed"])
def test_status_does_not_wait_for_an_up_that_has_ended(tmp_path: Path, how: str) -> None:
    options = {"votes": "nowhere.jsonl"} if how == "fails" else {}
    write_deployment(tmp_path, {"alpha": {"options": options}}, rows=table(["alpha"], 2_000))
    quorum(tmp_path, "render")
    up = start(tmp_path, "up")
    if how == "killed":
        wait_until((tmp_path / ".quorum" / "up.json").exists)
        up.kill()
    _, err = quorum(tmp_path, "status", "--wait", "600", code=1)
    up.communicate(timeout=60)
    assert "not waiting any longer" in err
    assert ("nowhere.jsonl" if how == "fails" else "it was killed") in err
