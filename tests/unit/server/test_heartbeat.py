# SPDX-License-Identifier: Apache-2.0
"""The heartbeat outlives moments in which this process can start no thread and open no connection."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.deployment import write_deployment

from quorum.deployment import load_deployment
from quorum.server import heartbeat
from quorum.server.heartbeat import Heartbeat
from quorum.server.life import Life
from quorum_contract import CHANNELS


class NoRoom(threading.Thread):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def no_client(*_: object, **__: object) -> Any:
    raise OSError(24, "Too many open files")


@pytest.mark.parametrize("lacking", ["threads", "files"])
def test_a_heartbeat_outlives_a_lack_of(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_EVERY_S", 0.0)
    monkeypatch.setattr(heartbeat, "_HURRIED_S", 0.01)
    monkeypatch.setattr(heartbeat, "gives_sign", lambda *_: True)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    life, tried = Life(silence_s=0.05), threading.Event()
    spec = load_deployment(write_deployment(tmp_path, {"alpha": {}}))
    with Heartbeat(spec, "127.0.0.1:1", life) as heart:
        with monkeypatch.context() as short:
            if lacking == "threads":
                short.setattr(heartbeat, "threading", SimpleNamespace(Thread=NoRoom))
            else:
                short.setattr(heartbeat, "Client", no_client)
            # More rounds than questions may be in flight at once.
            tried.wait(0.5)
        began, end = time.monotonic(), time.monotonic() + 30
        while not life.answer_since(began, {*CHANNELS}):
            assert time.monotonic() < end
            assert heart._thread.is_alive()
            time.sleep(0.01)
