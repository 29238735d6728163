# SPDX-License-Identifier: Apache-2.0
"""Measure how many labels each attribute needs before weights learned from them mean something there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.patterns import ABSTAIN
from quorum.decision.weights import Weights
from quorum.evaluation.score import highest_weights
from quorum.evaluation.stats import TAIL_95
from quorum.votes import VotesTable

TOLD_APART = 0.5
"""The difference that labels have to show, as a part of the largest that is possible."""


@dataclass(frozen=True, slots=True)
class AttributeNeed:
    """Labels of an attribute, and how many more it needs; see :func:`label_needs`.

    Attributes:
        attribute: Its name.
        cells: Cells in which a member answered; ``disputed``: of these, cells with disagreement.
        labels: Labelled cells; ``disputed_labels``: of these, cells with disagreement.
        needed: Labels of disputed cells that it needs in all; ``more``: of these, those that it lacks.
    """

    attribute: str
    cells: int
    disputed: int
    labels: int
    disputed_labels: int
    needed: int
    more: int


def label_needs(table: VotesTable, weights: Weights | None = None) -> list[AttributeNeed]:
    """Say how many labels each attribute has and needs, those that need most first.

    Where members agree, weights decide as majority does. So what weights gain or lose on an attribute is d,
    the mean over its disputed cells of right(a member) - right(majority), each -1, 0 or 1. Of n labels its
    standard error is at most 1/sqrt(n). Needed are so many that the 95 % interval is at most
    +-``TOLD_APART``: a member that is right in three of four cells where it overrules majority, and majority
    in the fourth, is then distinguished from one that is right in half of them. Of N disputed cells in the
    table: n0 = (z / ``TOLD_APART``)^2 = 15.4, n = n0 / (1 + (n0 - 1) / N) (Cochran, Sampling Techniques, 3rd
    ed. 1977, equations 4.1 and 4.2).

    Args:
        table: Votes, with the gold that there is.
        weights: Members whose votes never weigh anything cannot disagree; None: all can.
    """
    return sorted(needs_by_attribute(table, weights)[0], key=lambda need: (-need.more, need.attribute))


def needs_by_attribute(
    table: VotesTable, weights: Weights | None = None
) -> tuple[list[AttributeNeed], npt.NDArray[np.int64]]:
    """The needs by attribute, sorted by name, and the (n,) index of each cell's."""
    names, attribute = attribute_of(table)
    split = disagreement(table, weights) > 1e-9
    answered = (table.codes != ABSTAIN).any(axis=1)
    counts = [
        np.bincount(attribute, kind, len(names)).astype(int).tolist()
        for kind in (answered, split, table.labelled, table.labelled & split)
    ]
    rows = zip(names, *counts, strict=True)
    needs = []
    for name, cells, disputed, labels, disputed_labels in rows:
        needed = needed_of(disputed)
        more = max(needed - disputed_labels, 0)
        needs.append(AttributeNeed(name, cells, disputed, labels, disputed_labels, needed, more))
    return needs, attribute


def needed_of(disputed: int) -> int:
    """Labels that an attribute with so many disputed cells needs, see :func:`label_needs`."""
    if disputed == 0:
        return 0
    unlimited = (NormalDist().inv_cdf(1.0 - TAIL_95) / TOLD_APART) ** 2
    return math.ceil(unlimited / (1.0 + (unlimited - 1.0) / disputed))


def attribute_of(table: VotesTable) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Attribute names, sorted, and the (n,) index of each cell's."""
    names, index = np.unique([attribute for _, attribute in table.group_names], return_inverse=True)
    return names.tolist(), np.asarray(index[table.groups], np.int64)


def disagreement(table: VotesTable, weights: Weights | None = None) -> Floats:
    """(n,) entropy in nats of the shares of the candidates of each cell; 0 where all votes agree."""
    answered = table.codes != ABSTAIN
    each = np.ones(table.codes.shape)
    if weights is not None:
        each = highest_weights(weights, table.group_names)[table.groups]
    held = np.where(answered, each, 0.0)
    held = np.where(held.sum(axis=1, keepdims=True) > 0.0, held, answered)
    total = np.maximum(held.sum(axis=1, keepdims=True), 1e-12)
    same = (table.codes[:, :, None] == table.codes[:, None, :]) & answered[:, None, :]
    behind = (same * held[:, None, :]).sum(axis=2) / total
    share = np.where(answered & (behind > 0.0), behind, 1.0)
    return np.asarray(np.maximum(-(held / total * np.log(share)).sum(axis=1), 0.0))
