# SPDX-License-Identifier: Apache-2.0
"""The page of metrics without a server: what is known before a process runs, and ports that are refused."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.deployment import FREE_PORTS, write_deployment

import quorum
from quorum.deployment import load_deployment
from quorum.repository.render import render
from quorum.server.life import Life
from quorum.server.metrics import collect, metrics_of
from quorum.server.triton import ServerProcessError
from quorum.serving.counters import Counters, Layout
from quorum.serving.shared_file import traces_of

Make = Callable[..., Any]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Make]:
    """Makes a server that never started, whose steps have counted something."""
    name = f"quorum-metrics-{os.getpid()}"

    def make(metrics: dict[str, Any] | None = None, budget: dict[str, Any] | None = None) -> Any:
        ports = {**FREE_PORTS, **({"metrics": metrics} if metrics is not None else {})}
        spec = load_deployment(write_deployment(tmp_path, {"a": {"budget": budget}, "b": {}}, server=ports))
        render(spec)
        life = Life(starts=3, incidents=Counter(server=2))
        parts = {"pid": None, "ready_after_s": 0.0, "repository": spec.repository_path}
        return SimpleNamespace(spec=spec, life=life, scratch=Path("/") / name, **parts)

    yield make
    for trace in traces_of(name):
        trace.unlink()


def test_what_the_supervisor_knows_is_there_without_a_process(server: Make) -> None:
    found = dict(collect(server()))
    assert found["quorum_server_up", ()] == 0
    assert found["quorum_server_restarts_total", ()] == 2
    assert found["quorum_incidents_total", ("server",)] == 2
    assert found["quorum_incidents_total", ("worker",)] == 0
    assert found["quorum_channel_version", ("quorum_canary",)] == 1
    # No channel is missing while the server starts for the first time.
    assert not [series for series in found if series[0] == "quorum_channel_up"]


def test_only_channels_and_versions_of_the_deployment_are_shown(server: Make) -> None:
    made = server()
    layout = Layout()
    for channel in ("quorum", "quorum_lazy"):
        for version in ("1", "2"):
            layout.add(("quorum_answers_total", (channel, version)))
    counters = Counters("vote", layout, made.scratch.name)
    assert [s for s, _ in collect(made) if s[0] == "quorum_answers_total"] == [
        ("quorum_answers_total", ("quorum", "1"))
    ]
    counters.close()


def test_a_budget_without_money_has_no_limit_of_cost(server: Make) -> None:
    found = dict(collect(server(budget={"calls_per_day": 10})))
    assert found["quorum_budget_calls_limit", ("a", "day")] == 10
    assert found["quorum_budget_calls", ("a", "minute")] == 0
    assert not [labels for name, labels in found if name == "quorum_budget_cost_limit"]


def test_a_port_that_is_not_named_or_taken_is_refused_with_its_key(server: Make) -> None:
    with pytest.raises(ServerProcessError, match=r"server\.metrics is not set"):
        metrics_of(server())
    with quorum.metrics_of(server({"port": 0})) as first:
        with pytest.raises(ServerProcessError, match=rf"server\.metrics\.port {first.port} .*in use"):
            metrics_of(server({"port": first.port}))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{first.port}/other", timeout=30)
