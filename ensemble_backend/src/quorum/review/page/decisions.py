# SPDX-License-Identifier: Apache-2.0
"""Keep what people decided, as the journal tells it: the state after every entry, undone ones left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from quorum.review.page.journal import Entry, Mode

Key = tuple[str, str]
"""Product and attribute of a cell."""
_PAUSE_S = 120.0
"""A longer time between two decisions is a pause, not work."""
_RECENT = 20


def key_of(entry: Entry) -> Key:
    """The cell of an entry."""
    return entry.product, entry.attribute


@dataclass(slots=True)
class _Person:
    """Decisions of one person in one mode, in their order; the last one is what an undo takes back."""

    stack: list[tuple[Entry, Entry | None]] = field(default_factory=list)
    latest: dict[Key, Entry] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)


class Decisions:
    """The decisions that count, by person and mode.

    The same entries in the same order give the same state, so it is what a journal says of it.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._people: defaultdict[tuple[str, Mode], _Person] = defaultdict(_Person)
        self._adjudicated: dict[Key, list[Entry]] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Take the next entry in; an undo with nothing to take back changes nothing."""
        person = self._people[entry.reviewer, entry.mode]
        if entry.verdict == "undo":
            if person.stack:
                last, before = person.stack.pop()
                self._take_back(person, last, before)
            return
        key = key_of(entry)
        person.stack.append((entry, person.latest.get(key)))
        person.latest[key] = entry
        person.times.append(entry.at)
        if entry.mode == "adjudicate":
            self._adjudicated.setdefault(key, []).append(entry)

    def _take_back(self, person: _Person, last: Entry, before: Entry | None) -> None:
        key = key_of(last)
        if before is None:
            del person.latest[key]
        else:
            person.latest[key] = before
        if last.mode == "adjudicate":
            self._adjudicated[key].remove(last)
            if not self._adjudicated[key]:
                del self._adjudicated[key]

    def last(self, reviewer: str, mode: Mode) -> Entry | None:
        """What an undo of this person would take back."""
        stack = self._people[reviewer, mode].stack
        return stack[-1][0] if stack else None

    def steps(self, reviewer: str, mode: Mode) -> int:
        """How many decisions this person can take back."""
        return len(self._people[reviewer, mode].stack)

    def of(self, reviewer: str, mode: Mode = "review") -> Mapping[Key, Entry]:
        """Cell -> this person's decision on it."""
        return self._people[reviewer, mode].latest

    def people(self) -> list[str]:
        """Who reviewed or adjudicated something, in order of first appearance."""
        return list(dict.fromkeys(name for (name, _), person in self._people.items() if person.times))

    def on(self, key: Key) -> dict[str, Entry]:
        """Person -> own decision on a cell; skipped ones are none."""
        found = {name: self.of(name).get(key) for name in self.people()}
        return {name: entry for name, entry in found.items() if entry and entry.verdict != "skip"}

    def adjudication(self, key: Key) -> Entry | None:
        """The latest adjudication of a cell that was not taken back; one that was skipped is none."""
        return next((e for e in reversed(self._adjudicated.get(key, [])) if e.verdict != "skip"), None)

    def cells(self) -> list[Key]:
        """Every cell that somebody decided on, in order of first appearance."""
        return list(dict.fromkeys(key for person in self._people.values() for key in person.latest))

    def open_differences(self) -> Iterator[Key]:
        """Cells that wait for an adjudication: people's answers differ, or somebody is unsure."""
        for key in self.cells():
            if self.adjudication(key) is None and differ(self.on(key).values()):
                yield key

    def gold(self) -> dict[Key, tuple[str, ...]]:
        """Cell -> its gold: the adjudicated answer, else the one that all who judged the cell gave.

        Cells on which people differ, or are unsure, have none until they are adjudicated.
        """
        found: dict[Key, tuple[str, ...]] = {}
        for key in self.cells():
            entry = self.adjudication(key)
            if entry is None:
                own = list(self.on(key).values())
                entry = own[0] if own and not differ(own) else None
            if entry is not None and entry.verdict == "answer":
                found[key] = entry.gold
        return found

    def pace(self, reviewer: str, mode: Mode) -> float | None:
        """Median seconds between this person's recent decisions; pauses are left out. None: too few."""
        times = self._people[reviewer, mode].times[-_RECENT - 1 :]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        gaps = [gap for gap in gaps if 0.0 <= gap <= _PAUSE_S]
        return median(gaps) if len(gaps) > 2 else None


def answer_of(entry: Entry) -> frozenset[str]:
    """What an answer says: all that is acceptable, in any order."""
    return frozenset(entry.gold)


def differ(entries: Iterable[Entry]) -> bool:
    """Whether decisions on a cell are not all one answer: others disagree, or one is unsure."""
    answers = {answer_of(entry) if entry.verdict == "answer" else None for entry in entries}
    return None in answers or len(answers) > 1
