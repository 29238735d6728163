# SPDX-License-Identifier: Apache-2.0
"""Count what the vote decides, and by whose votes.

An answer is only put aside; many are counted at once, by NumPy, a few times a second. One by one that would
take a tenth of the time of the vote.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import eq
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.serving import families
from quorum.serving.counters import Counters, Layout
from quorum.serving.gate_counts import COUNTED
from quorum_contract import NOT_APPLICABLE, VOTE, Status

logger = logging.getLogger(__name__)

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
OTHER = "other"
"""Label of attributes outside the catalogue."""
DECIDED = ("value", "no_answer", "no_quorum", "not_applicable")
"""Outcomes of a decision: the first three by their :class:`DecisionStatus`."""
_NOT_APPLICABLE = 3
ANSWERED, UNDECIDED, FAILED, REFUSED, CANCELLED = "answered", "undecided", "failed", "refused", "cancelled"
_BY_VERSION = (ANSWERED, UNDECIDED)
_COLUMNS = len(families.USAGE)
_COST = families.USAGE.index(families.COST)
_UNKNOWN = "OTHER"
_STATUSES = (*(status.name for status in Status), _UNKNOWN)
_BATCH = 128
"""Answers that are counted at once, at most."""
EVERY_S = 0.25
"""Seconds after which an answer is counted, if fewer come; a step that is killed loses those of this time."""
_DTYPES = (np.int64, np.int32, np.float32, np.uint8, np.int32, np.float32)
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Answered(NamedTuple):
    """What is counted of an answer.

    Attributes:
        attributes: As asked.
        values: Decided on each.
        confidences: Of these.
        outcomes: A :class:`DecisionStatus` on each.
        votes: Values of the votes, one member's after the other's.
        statuses: Of the votes, likewise.
        usage: ``MEMBER_USAGE``, one member's after the other's.
    """

    attributes: Sequence[str]
    values: Sequence[str]
    confidences: Floats
    outcomes: npt.NDArray[np.int32]
    votes: Sequence[str]
    statuses: npt.NDArray[np.int32]
    usage: Floats


_Waiting = tuple[int, float, Sequence[tuple[int, int]], int, bytes, bytes, bytes, bytes, bytes, bytes]
"""An answer that waits to be counted: channel, seconds, members that were not asked everything, number of
attributes; then bytes, since texts would be read again from slow memory: the places of its decisions, their
outcomes, confidences, whether each vote has the value that was decided, statuses, and usage."""


class VoteCounts:
    """The counts of one version's process: its own of what it answered, and those of the vote."""

    def __init__(self, members: Sequence[str], attributes: Iterable[str], version: int) -> None:
        layout = Layout()
        self._attributes = {
            name: layout.add_all([((families.DECISIONS.name, (name, how)),) for how in DECIDED])
            for name in dict.fromkeys((*attributes, OTHER))
        }
        self._confidences = _Histogram(layout, families.CONFIDENCE, CONFIDENCES)
        self._seconds = _Histogram(layout, families.REQUEST_SECONDS, SECONDS)
        self._ended = {
            how: [layout.add((families.REQUESTS.name, (channel, how))) for channel in COUNTED]
            for how in (FAILED, REFUSED, CANCELLED)
        }
        self._add_members(layout, members)
        # One more for the version: a new one has no numbers to continue with.
        own = Layout()
        for channel in COUNTED:
            for how in (ANSWERED, UNDECIDED):
                answers = (families.ANSWERS.name, (channel, str(version)))
                own.add((families.REQUESTS.name, (channel, how)), answers)
        self._files = Counters(VOTE, layout), Counters(VOTE, own)
        self._numbers, self._answers = (
            np.frombuffer(file.numbers.cast("B"), np.float64) for file in self._files
        )
        # Callers use few distinct sets of attributes.
        self._places_of = lru_cache(maxsize=256)(self._find)
        self._waiting: deque[_Waiting] = deque()
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="quorum-counts", daemon=True)
        self._thread.start()

    def _add_members(self, layout: Layout, members: Sequence[str]) -> None:
        """Add the numbers of members: votes that agree, that differ, and abstentions by status."""
        votes, places = families.VOTES.name, []
        for name in members:
            answered = (votes, (name, Status.ANSWERED.name))
            places.append(layout.add(answered, (families.AGREEING.name, (name,))))
            layout.add_all([((votes, (name, status)),) for status in _STATUSES])
        self._members = np.array(places)
        self._spared = [
            layout.add_all(
                [((family.name, (name,)),) for family in (families.SPARED_VOTES, families.SPARED_CALLS)]
            )
            for name in members
        ]
        self._unpriced = layout.add_all([((families.UNPRICED.name, (name,)),) for name in members])
        self._used = layout.add_all(
            [((family.name, (name,)),) for name in members for family in families.USAGE]
        )

    def ended(self, channel: int, how: str) -> None:
        """Count a request that was not decided: :data:`FAILED`, :data:`REFUSED` or :data:`CANCELLED`."""
        if channel < len(COUNTED):
            with self._lock:
                self._numbers[self._ended[how][channel]] += 1

    def answered(
        self, channel: int, took_s: float, answered: Answered, left_out: Sequence[tuple[int, int]]
    ) -> None:
        """Put an answer aside.

        Args:
            channel: Its number.
            took_s: Seconds since it was admitted; NaN: not known.
            answered: Its content.
            left_out: Members that a lazy channel did not ask everything, with the number of attributes.
        """
        attributes, values, confidences, outcomes, votes, statuses, usage = answered
        if NOT_APPLICABLE in values:
            outcomes = outcomes.copy()
            outcomes[[at for at, value in enumerate(values) if value == NOT_APPLICABLE]] = _NOT_APPLICABLE
        self._waiting.append(
            (
                channel,
                took_s,
                left_out,
                len(attributes),
                self._places_of(tuple(attributes)),
                outcomes.tobytes(),
                confidences.tobytes(),
                bytes(map(eq, votes, [*values] * len(self._members))),
                statuses.tobytes(),
                usage.tobytes(),
            )
        )
        if len(self._waiting) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Count the answers that wait."""
        with self._lock:
            while batch := self._take():
                self._count(batch)

    def close(self) -> None:
        """Count what waits, and let the next process of the vote continue."""
        self._closed.set()
        self._thread.join()
        self.flush()
        for file in self._files:
            file.close()

    def _run(self) -> None:
        while not self._closed.wait(EVERY_S):
            if self._waiting:
                try_to_count(self.flush)

    def _take(self) -> list[_Waiting]:
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(len(waiting), _BATCH))]

    def _find(self, attributes: tuple[str, ...]) -> bytes:
        """The places of the decisions on these attributes."""
        other = self._attributes[OTHER]
        return np.array([self._attributes.get(name, other) for name in attributes], np.int64).tobytes()

    def _count(self, batch: Sequence[_Waiting]) -> None:
        numbers, count = self._numbers, len(batch)
        # One sequence of all answers for each part of an answer.
        numbered, seconds, left_out, of_attributes, *parts = zip(*batch, strict=True)
        places, outcomes, confidences, same, statuses, usage = (
            np.frombuffer(b"".join(part), dtype) for part, dtype in zip(parts, _DTYPES, strict=True)
        )
        channels, sizes = np.array(numbered), np.array(of_attributes)
        took_s = np.array(seconds, np.float32)
        # Also "n/a" is decided.
        decided = (outcomes == 0) | (outcomes == _NOT_APPLICABLE)
        known = took_s == took_s
        of_cells = np.repeat(channels, sizes)
        counted = (
            places + outcomes,
            self._votes(same, statuses, sizes),
            self._confidences.places(numbers, of_cells[decided], confidences[decided]),
            self._seconds.places(numbers, channels[known], took_s[known]),
        )
        numbers += np.bincount(np.concatenate(counted), minlength=len(numbers))
        is_undecided = np.bincount(np.repeat(np.arange(count), sizes), decided, count) == 0
        self._answers += np.bincount(2 * channels + is_undecided, minlength=len(self._answers))
        self._count_usage(usage.reshape(count, -1))
        for size, spared in zip(of_attributes, left_out, strict=True):
            for member, attributes in spared:
                at = self._spared[member]
                numbers[at] += attributes
                numbers[at + 1] += attributes == size

    def _votes(self, same: npt.NDArray[np.uint8], statuses: npt.NDArray[np.int32], sizes: Ints) -> Ints:
        """Places of the votes."""
        members = len(self._members)
        of_members = np.repeat(np.tile(self._members, len(sizes)), np.repeat(sizes, members))
        # An abstention is as empty as a decision without a value.
        agreeing = (same > 0) & (statuses == 0)
        places: Ints = of_members + np.where(agreeing, 0, 1 + np.minimum(statuses, len(Status)))
        return places

    def _count_usage(self, usage: Floats) -> None:
        """Count what members took in each answer: ``[answers, members * figures]``."""
        unknown = np.isnan(usage)
        total = np.where(unknown, 0, usage).sum(0, np.float64)
        self._numbers[self._used : self._used + len(total)] += total
        unpriced = unknown[:, _COST::_COLUMNS].sum(0)
        self._numbers[self._unpriced : self._unpriced + len(unpriced)] += unpriced


class _Histogram:
    """The numbers of a histogram of each channel."""

    def __init__(self, layout: Layout, family: families.Family, bounds: Sequence[float]) -> None:
        self._bounds = np.array(bounds, np.float32)
        self._places = np.array([layout.histogram(family, (channel,), bounds) for channel in COUNTED])

    def places(self, numbers: npt.NDArray[np.float64], channels: Ints, found: Floats) -> Ints:
        """Places of the buckets of what was found; adds it to the sums."""
        sums = np.bincount(channels, found, len(COUNTED))
        numbers[self._places + len(self._bounds) + 1] += sums
        return self._places[channels] + np.searchsorted(self._bounds, found)


def try_to_count(count: Any, *arguments: Any) -> None:
    """Count, without failing an answer for it."""
    try:
        count(*arguments)
    except Exception:
        logger.exception("an answer could not be counted")
