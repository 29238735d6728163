# SPDX-License-Identifier: Apache-2.0
"""A model whose process died: Triton says it is ready; the watch notices and gives it a new one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deployment import ATTRIBUTES, Live, running, title, write_deployment
from support.traces import stub_of

from quorum.server.health import dead_models
from quorum.server.probe import probe_channel
from quorum.server.watch import Watch


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with running(write_deployment(tmp_path, {"alpha": {}, "beta": {}})) as live:
        yield live


def test_models_whose_process_died_come_back(live: Live) -> None:
    reports: list[str] = []
    watch = Watch(live.server, reports.append, every_s=0)
    watch.look()
    watch.look()
    assert reports == []
    for model in ("beta", "quorum_gate", "quorum_vote"):
        os.kill(stub_of(live.server, model), signal.SIGKILL)
        end = time.monotonic() + 60
        while model not in dead_models(live.spec, live.url, [1]):
            assert time.monotonic() < end
        assert live.control.is_ready(model), "Triton itself notices nothing"
        watch.look()
        assert not any("back" in report for report in reports), "one look may be mistaken"
        watch.look()
        assert f"{model} is back" in reports
        reports.clear()
        assert probe_channel(live.spec, live.url, "quorum") == 1
        assert {s for votes in live.ask(title(0), ATTRIBUTES).votes.values() for _, s in votes} == {0}
    # Triton waits its whole exit timeout for processes that died; that is not what is tested here.
    os.kill(live.server.pid or 0, signal.SIGKILL)


def test_a_damaged_file_does_not_end_the_watch(live: Live) -> None:
    """The server answers on from what it loaded; whoever watches must not give up over it."""
    (live.server.repository / "state.json").write_text("{ damaged", encoding="utf-8")
    reports: list[str] = []
    watch = Watch(live.server, reports.append, every_s=0)
    for _ in range(3):
        watch.look()
    assert len(reports) == 1
    assert any("state.json" in report for report in reports)
    assert probe_channel(live.spec, live.url, "quorum") == 1
