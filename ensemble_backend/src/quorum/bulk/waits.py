# SPDX-License-Identifier: Apache-2.0
"""Runs against a server that may be away or full: before they begin, while they wait, when they give up."""

from __future__ import annotations

import time

from quorum.bulk.callbacks import Note
from quorum.server.exposure import client_key
from quorum_client import ChannelNotFound, Client, Overloaded, Unavailable


def check_ready(url: str, channel: str, fix: str = "start it with `quorum up`") -> None:
    """Raise Unavailable, with what to do, where a channel does not answer."""
    with Client(url, channel=channel, key=client_key()) as client:
        if not client.is_ready():
            raise Unavailable(f"channel {channel!r} at {url} does not answer; {fix}")


def found_no_server(result: object) -> bool:
    """Whether an answer or error tells of no server; a full one exists and may accept the next request."""
    return isinstance(result, ChannelNotFound | Unavailable) and not isinstance(result, Overloaded)


class WaitNotes:
    """Takes what :meth:`quorum_client.AsyncClient.extract_many` reports of its waits, and notes it in words.

    A server that is away is noted each time, a full one once: a busy server is full again and again.

    Args:
        note: Takes the remarks.
        away_s: How long the run waits for a server that is away, in seconds.
    """

    def __init__(self, note: Note, away_s: float) -> None:
        self._note, self._away_s = note, away_s
        self._away_since: float | None = None
        self._full_noted = False

    def __call__(self, reason: Unavailable | None) -> None:
        """Take the reason of a wait; ``None``: its end."""
        if isinstance(reason, Overloaded) and not self._full_noted:
            self._full_noted = True
            self._note(f"the run waits, as the server is full: {reason}")
        elif reason and not isinstance(reason, Overloaded) and self._away_since is None:
            self._away_since = time.monotonic()
            self._note(f"the run waits up to {self._away_s:g} s, as the server is away: {reason}")
        elif reason is None and self._away_since is not None:
            self._note(f"the run goes on after a wait of {time.monotonic() - self._away_since:.0f} s")
            self._away_since = None
