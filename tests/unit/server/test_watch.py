# SPDX-License-Identifier: Apache-2.0
"""What a supervisor takes for too long. Faults of real servers are in ``tests/e2e/test_supervision.py``."""

from __future__ import annotations

import os
from itertools import count, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.deployment import write_deployment

from quorum.deployment import load_deployment
from quorum.server import watch
from quorum.server.heartbeat import Heartbeat
from quorum.server.triton import TritonServer
from quorum.server.watch import Supervisor


@pytest.mark.parametrize(
    ("seconds", "is_starved", "is_restarted"),
    [(2.0, False, False), (4.0, False, True), (4.0, True, False), (100.0, True, True)],
)
def test_a_reload_has_longer_while_the_server_waits_for_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, is_starved: bool, is_restarted: bool
) -> None:
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    server = TritonServer(spec, log_path=tmp_path / "server.log")
    supervisor = Supervisor(server, print, Heartbeat(spec, server.endpoint.grpc_url, server.life), 1.0)
    reload: Any = SimpleNamespace(error="", took_s=None, seconds=seconds, working=0)
    supervisor._reloads["alpha"] = reload
    waited = count() if is_starved else repeat(0)
    monkeypatch.setattr(watch, "waited_for_cpu_s", lambda _: float(next(waited)))
    restarts: list[str] = []
    monkeypatch.setattr(supervisor, "_restart", lambda found, _: restarts.append(found))
    supervisor._see_to_reloads(os.getpid())
    assert restarts == ["did not come back by a reload"] * is_restarted
