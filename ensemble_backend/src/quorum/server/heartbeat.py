# SPDX-License-Identifier: Apache-2.0
"""Ask every channel of a server for a sign of life, all the time, and record it in its :class:`Life`."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType

from quorum.deployment.schema import Deployment
from quorum.server.life import Life
from quorum.server.probe import gives_sign
from quorum_client import Client
from quorum_contract import CHANNELS

_EVERY_S = 1.0
_HURRIED_S = 0.25
# A question that took so much longer than it may says that this process was not running.
_ASLEEP_S = 1.0


class Heartbeat:
    """Asks each channel of the server at ``url`` once a second, during a ``with`` block."""

    def __init__(self, spec: Deployment, url: str, life: Life) -> None:
        self._spec, self._url, self._life = spec, url, life
        self._stopping, self._hurried = threading.Event(), threading.Event()
        self._in_flight: Counter[str] = Counter()
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="quorum-heartbeat", daemon=True)

    def hurry(self, hurried: bool = True) -> None:
        """Ask four times a second, for as long as something is wrong."""
        (self._hurried.set if hurried else self._hurried.clear)()

    def __enter__(self) -> Heartbeat:
        self._life.begin()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        while self._in_flight.total():
            with self._lock:
                clients = [*self._clients]
            for client in clients:
                client.close()
            time.sleep(0.01)

    def _run(self) -> None:
        asked = 0.0
        while not self._stopping.wait(_HURRIED_S):
            if self._hurried.is_set() or time.monotonic() - asked >= _EVERY_S:
                asked = time.monotonic()
                # Questions that a dead step holds must not keep the next ones from being asked.
                most = self._life.silence_s / _HURRIED_S + 1
                for channel in CHANNELS:
                    if self._in_flight[channel] < most:
                        self._begin(channel)

    def _begin(self, channel: str) -> None:
        self._count(channel, 1)
        try:
            threading.Thread(target=self._ask, args=(channel,), daemon=True).start()
        except RuntimeError:
            # No thread can be started now; the next question may find one.
            self._count(channel, -1)

    def _ask(self, channel: str) -> None:
        try:
            self._ask_with_client(channel)
        finally:
            self._count(channel, -1)

    def _ask_with_client(self, channel: str) -> None:
        sent, allowed_s = time.monotonic(), self._life.silence_s
        with Client(self._url, timeout_s=allowed_s, retries=False) as client:
            with self._lock:
                self._clients.add(client)
            try:
                if gives_sign(self._spec, client, channel):
                    self._life.answered(channel, sent)
                elif time.monotonic() - sent < allowed_s + _ASLEEP_S:
                    self._life.failed(channel, sent)
            finally:
                with self._lock:
                    self._clients.discard(client)

    def _count(self, channel: str, more: int) -> None:
        with self._lock:
            self._in_flight[channel] += more
