# SPDX-License-Identifier: Apache-2.0
"""Choose among several servers: the one with the fewest calls of this client, of those that answer.

A server that does not, or whose calls fail, is left alone for a while, longer each time, as by a circuit
breaker whose probe is a question for readiness and not a caller's call. What it says is no answer: it gets
one call at a time until it answers one. A full server is spared for a moment while another is not. With one
server there is nothing to choose.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from quorum_client.errors import InvalidRequest

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 10.0
_LATE = 3
# As long as a call that was refused everywhere pauses.
_FULL_S = 0.1
PROBE_S = 2.0
"""How long a server may take to say whether it is ready, seconds."""


@dataclass(slots=True, eq=False)
class Server:
    """One server, as this client sees it.

    Attributes:
        url: Its address.
        asking: Calls of this client in flight on it.
        failures: How often in a row it was found to be away, or to fail, with no answer in between.
        late: Calls in a row to which it gave no answer in time.
        away_until: When it may be asked again whether it is ready; 0 for a server that answers.
        channel: The ensemble that could not be asked.
        is_probed: A question for its readiness is in flight.
        is_proven: It has answered a call since it was last left alone.
        chosen: The turn in which it was last chosen.
        full_until: Until when it is spared, as it was full.
    """

    url: str
    asking: int = 0
    failures: int = 0
    late: int = 0
    away_until: float = 0.0
    channel: str = ""
    is_probed: bool = False
    is_proven: bool = False
    chosen: int = 0
    full_until: float = 0.0

    @property
    def is_on_trial(self) -> bool:
        """Whether it is not to get one call more: it says that it is ready, and has not answered one yet."""
        return self.failures > 0 and self.asking > 0


class Servers:
    """The servers of one client; may be used from any thread.

    Args:
        urls: Their addresses.
        now: A clock, seconds.
    """

    def __init__(self, urls: Sequence[str], now: Callable[[], float] = time.monotonic) -> None:
        self.all = tuple(map(Server, urls))
        # Clients that make one call each do not all ask the first server.
        for server, turn in zip(self.all, _first_turns(len(self.all)), strict=True):
            server.chosen = turn
        self._now = now
        self._turn = itertools.count(len(self.all))
        self._lock = threading.Lock()

    def choose(self, tried: Collection[Server] = ()) -> Server:
        """The server for a call, which counts as asked; of those not tried, if there is one.

        Where all are away it is the one that may be asked soonest.
        """
        with self._lock:
            left = [server for server in self.all if server not in tried] or list(self.all)
            answering = [server for server in left if not server.away_until]
            if answering:
                now = self._now()
                calm = [s for s in answering if not (s.is_on_trial or s.full_until > now)]
                return self._take(calm or [s for s in answering if not s.is_on_trial] or answering)
            return self._take([min(left, key=lambda server: server.away_until)])

    def spare(self, asked: Collection[Server]) -> Server | None:
        """Another server that answers, which counts as asked; ``None`` if there is none."""
        with self._lock:
            left = [s for s in self.all if s not in asked and not (s.away_until or s.is_on_trial)]
            return self._take(left) if left else None

    def _take(self, servers: Sequence[Server]) -> Server:
        """Choose the one with the fewest calls; of equals the one that was not chosen for longest."""
        chosen = min(servers, key=lambda server: (server.asking, server.chosen))
        chosen.asking += 1
        chosen.chosen = next(self._turn)
        return chosen

    def left(self, tried: Collection[Server], *, has_room: bool = False) -> bool:
        """Whether one that answers has not been tried, and was not full a moment ago."""
        now = self._now() if has_room else math.inf
        return any(s not in tried and not s.away_until and s.full_until <= now for s in self.all)

    def ended(self, server: Server) -> None:
        """Note the end of a call."""
        with self._lock:
            server.asking -= 1

    def answered(self, server: Server) -> None:
        """Note a sign of life."""
        server.is_proven = True
        if server.failures or server.late:
            with self._lock:
                server.failures = server.late = 0
                server.away_until = 0.0

    def full(self, server: Server) -> None:
        """Note that a server refused a call because it is full."""
        self.answered(server)
        server.full_until = self._now() + _FULL_S

    def failed(self, server: Server, channel: str) -> None:
        """Note that a call found a server away for that channel, or failed there.

        Of one that is away already nothing changes: many calls are in flight when it goes, and only what it
        says about its readiness leaves it alone for longer.
        """
        with self._lock:
            if not server.away_until:
                self._leave_alone(server, channel)

    def late(self, server: Server, channel: str) -> None:
        """Note a call to that channel without an answer in time.

        After several in a row the server is away, unless the others are late too: then a deadline is short.
        """
        with self._lock:
            server.late += 1
            others_answer = any(not (other.late or other.away_until) for other in self.all)
            if server.late >= _LATE and others_answer and not server.away_until:
                self._leave_alone(server, channel)

    def _leave_alone(self, server: Server, channel: str) -> None:
        if len(self.all) == 1:
            return
        pause_s = min(_LAST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(server.failures, 10))
        server.failures += 1
        server.is_proven = False
        server.away_until, server.channel = self._now() + pause_s, channel

    def due(self) -> list[Server]:
        """The servers to ask now whether they are ready; each is to be reported by :meth:`probed`."""
        if not any(server.away_until for server in self.all):
            return []
        with self._lock:
            now = self._now()
            found = [s for s in self.all if s.away_until and s.away_until <= now and not s.is_probed]
            for server in found:
                server.is_probed = True
            return found

    def probed(self, server: Server, *, ready: bool) -> None:
        """Note whether a server is ready."""
        with self._lock:
            server.is_probed = False
            if ready:
                # What it says is no answer to a call, so one more that fails or is late is enough.
                server.away_until = 0.0
            else:
                self._leave_alone(server, server.channel)


def _first_turns(servers: int) -> list[int]:
    return random.sample(range(servers), servers)


def addresses(url: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses of one or several servers, ``"a:1,b:2"`` or a sequence of such.

    Raises:
        InvalidRequest: There is none, or one cannot be.
    """
    texts = [url] if isinstance(url, str) else list(url)
    found: list[str] = []
    for text in texts:
        if not isinstance(text, str):
            raise InvalidRequest(f"url: {text!r}; give host:port of each gRPC endpoint")
        # gRPC has targets of its own with commas.
        found += [text] if text.startswith(("ipv4:", "ipv6:")) else text.split(",")
    found = [one.strip() for one in found]
    for one in found:
        if not one or "://" in one.replace(":///", ""):
            raise InvalidRequest(f"url: {url!r}; give host:port of the gRPC endpoint, without a scheme")
    if not found:
        raise InvalidRequest("url: no server; give host:port of one gRPC endpoint or more")
    return tuple(dict.fromkeys(found))
