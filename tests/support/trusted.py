# SPDX-License-Identifier: Apache-2.0
"""A caller on the server's own machine, who must notice nothing of what comes through a gateway."""

from __future__ import annotations

import threading
import time
import urllib.request

from support.deployment import ATTRIBUTES, Live, title

from quorum.serving.admission import admission_of
from quorum_client import Client, QuorumError


class Trusted:
    """A caller that asks Triton itself all the while, and what it lost."""

    def __init__(self, live: Live) -> None:
        self.lost: list[QuorumError] = []
        self.answered = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(live.url,))

    def _ask(self, url: str) -> None:
        with Client(url, retries=False) as client:
            while not self._over.wait(0.02):
                try:
                    client.extract(title(self.answered % 24), ATTRIBUTES)
                    self.answered += 1
                except QuorumError as error:
                    self.lost.append(error)

    def __enter__(self) -> Trusted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def settled_at(live: Live) -> float:
    """What Triton has counted once all that was asked before is over."""
    assert live.server.pid is not None
    admission, before = admission_of(live.server.pid), seen_by_triton(live)
    end = time.monotonic() + 60
    while True:
        time.sleep(0.3)
        now = seen_by_triton(live)
        if now == before and admission.inside(time.monotonic_ns()) == 0:
            return now
        assert time.monotonic() < end, "questions went on"
        before = now


def seen_by_triton(live: Live) -> float:
    """All requests that Triton has counted, good or bad."""
    url = f"http://127.0.0.1:{live.endpoint.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=60) as page:
        lines = page.read().decode().splitlines()
    names = ("nv_inference_request_success", "nv_inference_request_failure")
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))
