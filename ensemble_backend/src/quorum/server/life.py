# SPDX-License-Identifier: Apache-2.0
"""Remember when each channel of a server answered last, and say from that whether to keep the process."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from quorum_contract import CHANNELS

SILENCE_S = 5.0
"""Seconds without an answer of any channel after which a server is silent, by default."""


@dataclass(slots=True)
class Life:
    """Signs of life of a server; times are of ``time.monotonic()``.

    Attributes:
        answered_at: Channel -> when the last question was sent that it answered.
        failed_at: Channel -> when the last question was sent that it failed to answer in time.
        restarts: Attempts to bring the server back since it last answered; 0 while it serves or first starts.
        silence_s: Seconds without an answer after which it counts as silent.
        starts: Processes that were started.
        incidents: Kind of incident -> how many there were.
    """

    answered_at: dict[str, float] = field(default_factory=dict)
    failed_at: dict[str, float] = field(default_factory=dict)
    restarts: int = 0
    silence_s: float = SILENCE_S
    starts: int = 0
    incidents: Counter[str] = field(default_factory=Counter)

    def answered(self, channel: str, sent_at: float) -> None:
        """Record that a question sent at ``sent_at`` was answered."""
        self.answered_at[channel] = max(sent_at, self.answered_at.get(channel, sent_at))

    def failed(self, channel: str, sent_at: float) -> None:
        """Record that a question sent at ``sent_at`` failed, or was not answered in time."""
        self.failed_at[channel] = max(sent_at, self.failed_at.get(channel, sent_at))

    def begin(self) -> None:
        """Count silence from now."""
        self.failed_at.clear()
        self.answered_at.update(dict.fromkeys(CHANNELS, time.monotonic()))

    def answering(self) -> set[str]:
        """Channels that answered lately."""
        since = time.monotonic() - 2 * self.silence_s
        return {channel for channel, at in self.answered_at.items() if at > since}

    def answer_since(self, at: float, channels: set[str]) -> bool:
        """Whether each of these channels, or at least one of all, answered a question sent after ``at``."""
        answered = {channel for channel, sent_at in self.answered_at.items() if sent_at > at}
        return bool(answered) and channels <= answered

    @property
    def is_silent(self) -> bool:
        """Whether no channel answers any more: for so long, and a later question to each failed."""
        failing = all(self.failed_at.get(c, 0.0) > at for c, at in self.answered_at.items())
        return failing and self.silent_for_s >= self.silence_s

    @property
    def silent_for_s(self) -> float:
        """Seconds since the last answered question of any channel was sent."""
        return time.monotonic() - max(self.answered_at.values(), default=time.monotonic())

    @property
    def is_live(self) -> bool:
        """Whether to keep the process: it first starts, serves, or comes back at the first attempt."""
        return self.restarts < 2 and (self.restarts == 1 or not self.is_silent)
