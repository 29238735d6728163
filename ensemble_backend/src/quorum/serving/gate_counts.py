# SPDX-License-Identifier: Apache-2.0
"""Count what the gate lets in and refuses."""

from __future__ import annotations

from collections.abc import Collection

from quorum.serving.counters import Counters, Layout
from quorum.serving.families import ADMITTED, CANCELLATIONS, REQUESTS
from quorum_contract import CHANNELS, GATE, LAZY_CHANNELS, PRIORITIES, QUESTION
from quorum_contract.errors import InvalidRequest, Overloaded, RequestError
from quorum_contract.priority import Priority
from quorum_contract.tensors import CANARY_QUESTION

COUNTED = (*CHANNELS, *LAZY_CHANNELS)
"""Channels by the numbers that the gate gives them."""
PROBE = len(COUNTED)
"""The number of probes, which no step counts."""
REFUSED = ("invalid", "overloaded", "stopping")
"""How requests end that the gate refuses."""


def question_of(requested: Collection[str]) -> str:
    """The name of the question among these outputs; who asks for all of them gets stable's."""
    is_canary = CANARY_QUESTION in requested and QUESTION not in requested
    return CANARY_QUESTION if is_canary else QUESTION


def channel_of(question: str, rows: Collection[str]) -> int:
    """The number of the channel that asks the gate for a question by that name, and for these rows."""
    return (question == CANARY_QUESTION) + (2 if rows else 0)


class GateCounts:
    """The counts of the gate's process."""

    def __init__(self) -> None:
        layout = Layout()
        self._refused = [
            [layout.add((REQUESTS.name, (channel, how))) for how in REFUSED] for channel in COUNTED
        ]
        self._admitted = [
            {priority: layout.add((ADMITTED.name, (channel, priority))) for priority in PRIORITIES}
            for channel in COUNTED
        ]
        self._cancelled = layout.add((CANCELLATIONS.name, ()))
        self._numbers = Counters(GATE, layout).numbers

    def admitted(self, channel: int, priority: Priority) -> None:
        """Count a request that is let in."""
        if channel < PROBE:
            self._numbers[self._admitted[channel][priority]] += 1

    def refused(self, channel: int, error: RequestError) -> None:
        """Count a request that is refused."""
        how = 0 if isinstance(error, InvalidRequest) else 1 if isinstance(error, Overloaded) else 2
        self._numbers[self._refused[channel][how]] += 1

    def cancelled(self, count: int) -> None:
        """Count requests that a caller cancelled."""
        self._numbers[self._cancelled] += count
