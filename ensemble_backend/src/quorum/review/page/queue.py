# SPDX-License-Identifier: Apache-2.0
"""Put the cells of a table in the order in which people see them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal

import numpy as np

from quorum.decision.arrays import Floats
from quorum.decision.patterns import ABSTAIN
from quorum.decision.weights import Weights
from quorum.review.choose import Choice, LabelError, choose
from quorum.review.page.decisions import Decisions, Key
from quorum.votes import VotesTable

Order = Literal["mixed", "teach", "unsure"]
"""``teach``: what teaches weights most (:func:`quorum.review.choose.choose`). ``unsure``: the least confident
first. ``mixed``: in turn."""
HOLD_S = 600.0
"""Seconds after which a cell that somebody was shown, and did not decide, is for others too."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Cells to decide, the same for everybody.

    Attributes:
        choices: The cells, first ones first, and why each is here.
        keys: Their products and attributes.
        shared: Share of the cells that every person decides; the others are for whoever comes first.
    """

    choices: tuple[Choice, ...]
    keys: tuple[Key, ...]
    shared: float = 1.0

    def is_shared(self, key: Key) -> bool:
        """Whether every person decides a cell: by a hash of it, so that a restart changes nothing."""
        digest = hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:4]) < self.shared * 2**32

    def open_for(self, reviewer: str, decisions: Decisions, held: Collection[Key] = ()) -> Iterator[int]:
        """Places of the cells that this person still has to decide; skipped ones come again at the end.

        Args:
            reviewer: Who.
            decisions: What everybody decided; a skipped cell is for whoever comes first again.
            held: Cells that others have before them.
        """
        mine = decisions.of(reviewer)
        taken = set(held)
        for name in decisions.people():
            if name != reviewer:
                taken |= {key for key, own in decisions.of(name).items() if own.verdict != "skip"}
        skipped = []
        for place, key in enumerate(self.keys):
            own = mine.get(key)
            if own is not None and own.verdict != "skip":
                continue
            if key in taken and not self.is_shared(key):
                continue
            if own is None:
                yield place
            else:
                skipped.append(place)
        # The one skipped longest ago first.
        yield from sorted(skipped, key=lambda place: mine[self.keys[place]].at)


class Holds:
    """Which cell each person has before them, so that no two work on one that is for whoever comes first."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[Key, float]] = {}

    def show(self, reviewer: str, key: Key | None, now: float) -> None:
        """Note what a person is shown; None: nothing. Seconds, as in :meth:`others`."""
        if key is None:
            self._of.pop(reviewer, None)
        else:
            self._of[reviewer] = key, now

    def others(self, reviewer: str, now: float) -> set[Key]:
        """The cells before other people; one shown more than ``HOLD_S`` ago is free again."""
        return {key for name, (key, at) in self._of.items() if name != reviewer and now - at < HOLD_S}


def make_queue(
    table: VotesTable,
    confidence: Floats,
    count: int,
    *,
    order: Order = "mixed",
    weights: Weights | None = None,
    seed: int = 0,
    shared: float = 1.0,
) -> Queue:
    """Choose the cells to review, and their order.

    Args:
        table: Votes; cells with gold are not reviewed.
        confidence: (n,) of the ensemble's answers.
        count: Number of cells, at least 1; fewer if the table has fewer.
        order: See :data:`Order`.
        weights: As in :func:`quorum.review.choose.choose`.
        seed: Of the draws; the same input gives the same queue.
        shared: Share of the cells that every person decides, in [0, 1].

    Raises:
        LabelError: A count below 1, a share outside [0, 1], or every cell with a vote has gold.
        WeightsError: Weights for other members.
    """
    if not 0.0 <= shared <= 1.0:
        raise LabelError(f"overlap is {shared}; give a share from 0 to 1")
    taught = choose(table, count, weights=weights, seed=seed) if order != "unsure" else []
    doubted = _least_confident(table, confidence, count) if order != "teach" else []
    chosen: dict[int, Choice] = {}
    for choice in chain.from_iterable(zip_longest(doubted, taught)):
        if choice is not None:
            chosen.setdefault(choice.index, choice)
    choices = tuple(chosen.values())[:count]
    if not choices:
        raise LabelError("every cell with a vote has gold; nothing is left to review")
    keys = tuple((table.cells[c.index].product, table.cells[c.index].attribute) for c in choices)
    return Queue(choices, keys, shared)


def _least_confident(table: VotesTable, confidence: Floats, count: int) -> list[Choice]:
    """Unlabelled cells with a vote, the least confident answer first."""
    rows = np.flatnonzero(~table.labelled & (table.codes != ABSTAIN).any(axis=1))
    ranked = rows[np.argsort(confidence[rows], kind="stable")][:count]
    return [Choice(row, f"the ensemble is {confidence[row]:.0%} sure") for row in ranked.tolist()]
