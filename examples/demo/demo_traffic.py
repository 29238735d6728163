# SPDX-License-Identifier: Apache-2.0
"""Send a steady stream of requests in the background while the server is redeployed."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from quorum.bulk.listings import Listing
from quorum_client import AsyncClient, QuorumError

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of the background stream.

    Attributes:
        at_s: When it was sent, in seconds that the stream had run.
        latency_ms: Until its answer.
        version: Version of the weights that answered; ``None`` when it failed.
        error: Why it failed.
    """

    at_s: float
    latency_ms: float
    version: int | None
    error: str | None = None


class Traffic:
    """A closed-loop stream of requests on its own thread during a ``with`` block; can be entered again."""

    def __init__(
        self, url: str, channel: str, listings: Sequence[Listing], attributes: Sequence[str], concurrency: int
    ) -> None:
        self.samples: list[Sample] = []
        self._target = (url, channel)
        self._listings = itertools.cycle(listings)
        self._attributes = attributes
        self._concurrency = concurrency
        self._elapsed_s = 0.0
        self._entered: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return sum(sample.version is None for sample in self.samples)

    @property
    def versions(self) -> list[int]:
        """Versions that answered, ascending."""
        return sorted({sample.version for sample in self.samples if sample.version is not None})

    def now(self) -> float:
        """Seconds that the stream has run."""
        return self._elapsed_s + (time.monotonic() - self._entered if self._entered is not None else 0.0)

    def let_run(self, seconds: float) -> None:
        """Leave the stream alone for a while."""
        time.sleep(seconds)

    def __enter__(self) -> Traffic:
        self._stop.clear()
        self._entered = time.monotonic()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="demo-traffic")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._elapsed_s, self._entered = self.now(), None

    async def _run(self) -> None:
        url, channel = self._target
        async with AsyncClient(url, channel=channel, timeout_s=_TIMEOUT_S) as client:
            await asyncio.gather(*(self._loop(client) for _ in range(self._concurrency)))

    async def _loop(self, client: AsyncClient) -> None:
        while not self._stop.is_set():
            listing, at = next(self._listings), self.now()
            try:
                result = await client.extract(listing.text, self._attributes, category=listing.category)
                sample = Sample(at, (self.now() - at) * 1e3, result.weights_version)
            except QuorumError as error:
                sample = Sample(at, (self.now() - at) * 1e3, None, str(error))
            self.samples.append(sample)
