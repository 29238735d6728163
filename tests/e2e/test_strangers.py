# SPDX-License-Identifier: Apache-2.0
"""Strangers send the worst they can to the gateway, and a caller on the server's machine loses nothing.

``QUORUM_LONG=1`` lets them send for a minute, ``QUORUM_STRANGERS_S=N`` for N seconds. To see what came of it:
``pytest -n0 --log-cli-level=INFO``.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import strangers
from support.deployment import ATTRIBUTES, title, write_deployment
from support.gateway import KEY, guarded

from quorum.serving.admission import admission_of
from quorum_client import Client, QuorumError

LONG = bool(os.environ.get("QUORUM_LONG"))
SECONDS = float(os.environ.get("QUORUM_STRANGERS_S") or (60 if LONG else 2.5))
RATE, LARGE_RATE, TRUSTED_RATE = 2_000, 10, 20
MOST_MIB = {"triton": 32, "gateway": 160}
_log = logging.getLogger(__name__)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of this machine without a listener, as Triton's HTTP port is by default; kept from others."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])


def attack(job: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, strangers.__file__, json.dumps(job)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.timeout(3 * SECONDS + 120)
@pytest.mark.parametrize("key", [None, KEY], ids=["without a key", "with the key"])
def test_a_trusted_caller_loses_nothing_while_strangers_do_their_worst(
    tmp_path: Path, key: str | None, silent_port: int
) -> None:
    with guarded(write_deployment(tmp_path, {"alpha": {}, "beta": {}})) as behind:
        server, before = behind.live.server, behind.memory()
        pid, failed, times_ms = server.pid, list[QuorumError](), list[float]()
        assert pid is not None
        small = {"kinds": strangers.SMALL, "rate": RATE, "at_once": 400}
        large = {"kinds": strangers.LARGE, "rate": LARGE_RATE, "at_once": 12}
        job = {"url": behind.url, "http_port": silent_port, "seconds": SECONDS, "key": key}
        attacks = [attack(job | kind) for kind in (small, large)]
        try:
            with Client(behind.live.url, retries=False, timeout_s=10) as trusted:
                start = time.monotonic()
                while any(one.poll() is None for one in attacks):
                    began = time.monotonic()
                    try:
                        trusted.extract(title(len(times_ms) % 24), ATTRIBUTES)
                        times_ms.append((time.monotonic() - began) * 1e3)
                    except QuorumError as error:
                        failed.append(error)
                    due = (len(times_ms) + len(failed)) / TRUSTED_RATE - (time.monotonic() - start)
                    time.sleep(max(0.0, due))
        finally:
            for one in attacks:
                one.kill()
            said = [json.loads(one.communicate()[0]) for one in attacks]
        outcomes, after = Counter[str](said[0]) + Counter(said[1]), behind.memory()
        sent = sum(outcomes.values())
        _log.info("strangers sent %d, %.0f/s: %s", sent, sent / SECONDS, dict(outcomes))
        _log.info(
            "trusted: %d answered, %d lost, p50 %.1f ms; MiB before %s, after %s",
            len(times_ms), len(failed), statistics.median(times_ms), before, after,
        )  # fmt: skip
        assert failed == []
        assert server.pid == pid
        assert behind.reports == []
        assert admission_of(pid).inside(time.monotonic_ns()) == 0
        for name, most in MOST_MIB.items():
            assert after[name] - before[name] <= most, name
        kinds = {outcome.partition(": ")[0] for outcome in outcomes}
        assert kinds == {*strangers.SMALL, *strangers.LARGE}
        assert not [outcome for outcome in outcomes if outcome.endswith(strangers.ANSWERED)]
