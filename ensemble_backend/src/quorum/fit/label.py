# SPDX-License-Identifier: Apache-2.0
"""Which cells to label next: those whose gold teaches the weights most."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from quorum.fit.votes import VotesTable
from quorum.voting.decide import Floats
from quorum.voting.histogram import compress
from quorum.voting.patterns import ABSTAIN

SPREAD = 0.5
"""Power of a pattern's frequency: 0 would label every pattern alike often, 1 as often as it occurs."""
UNANIMOUS = 0.4
"""Share of the labels for cells without disagreement: they teach how far unanimity can be trusted."""


def choose(
    table: VotesTable, labels: int, *, seed: int = 0, unanimous: float = UNANIMOUS
) -> npt.NDArray[np.int64]:
    """Choose unlabelled cells to show to a person.

    Disagreement is what tells members apart; frequent patterns are worth more than rare ones, with
    diminishing returns; attributes with few labels for their share of the disagreement come first. A fixed
    share goes to unanimous cells, since a fit on disagreement alone cannot know how often everybody is wrong
    together. The cells are spread over products.

    Args:
        table: Votes; labelled cells are not chosen, and count as labels their attribute already has.
        labels: Number of cells wanted.
        seed: Of the choice among equals.
        unanimous: Share of the labels for unanimous cells, in [0, 1].

    Returns:
        Row indices, the most useful first; fewer than asked for if the table does not have them.

    Raises:
        ValueError: A negative number, or a share outside [0, 1].
    """
    if labels < 0 or not 0.0 <= unanimous <= 1.0:
        raise ValueError(f"labels is {labels}, unanimous is {unanimous}; give a count and a share in [0, 1]")
    open_rows = ~table.labelled & (table.codes != ABSTAIN).any(axis=1)
    split = disagreement(table) > 0.0
    agreed = _by_need(table, np.flatnonzero(open_rows & ~split), round(unanimous * labels), seed)
    divided = _by_need(table, np.flatnonzero(open_rows & split), labels - len(agreed), seed)
    rest = _by_need(table, np.flatnonzero(open_rows & ~split), labels - len(divided), seed)
    chosen = np.concatenate([divided, rest[: labels - len(divided)]])
    return _interleaved(chosen, len(divided))


def disagreement(table: VotesTable) -> Floats:
    """(n,) entropy of the vote shares of each cell, in nats; 0 where all who answered agree."""
    answered = table.codes != ABSTAIN
    given = np.maximum(answered.sum(axis=1), 1)
    same = (table.codes[:, :, None] == table.codes[:, None, :]) & answered[:, None, :]
    share = np.where(answered, same.sum(axis=2) / given[:, None], 1.0)
    return np.asarray(-(np.log(share) * answered).sum(axis=1) / given)


def _by_need(table: VotesTable, rows: npt.NDArray[np.int64], wanted: int, seed: int) -> npt.NDArray[np.int64]:
    """Weighted draw without replacement; every product gives one cell before any gives a second."""
    if not len(rows) or wanted <= 0:
        return np.zeros(0, np.int64)
    rng = np.random.default_rng(seed)
    hist, where = compress(table.codes[rows])
    weight = hist.counts[where] ** (SPREAD - 1.0) * _attribute_need(table, rows)
    # Exponential keys, Efraimidis and Spirakis 2006, doi:10.1016/j.ipl.2005.11.003.
    ranked: npt.NDArray[np.int64] = rows[np.argsort(rng.exponential(size=len(rows)) / weight)]
    _, first = np.unique(table.products[ranked], return_index=True)
    fresh = np.zeros(len(ranked), np.bool_)
    fresh[first] = True
    return np.asarray(np.concatenate([ranked[fresh], ranked[~fresh]])[:wanted])


def _attribute_need(table: VotesTable, rows: npt.NDArray[np.int64]) -> Floats:
    """(r,) weight of each row by how far the labels of its attribute fall behind its share of the table."""
    names = [attribute for _, attribute in table.group_names]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    attribute = np.array([index[name] for name in names])[table.groups]
    cells = np.bincount(attribute, minlength=len(index))
    have = np.bincount(attribute, table.labelled, len(index))
    expected = cells * max(table.labelled.mean(), 1e-9)
    return np.asarray(((expected + 1.0) / (have + 1.0))[attribute[rows]])


def _interleaved(chosen: npt.NDArray[np.int64], divided: int) -> npt.NDArray[np.int64]:
    """Mix the two kinds, so that stopping early still leaves a sensible sample."""
    place = np.concatenate([np.arange(divided) / max(divided, 1), np.arange(len(chosen) - divided) + 0.5])
    if len(chosen) > divided:
        place[divided:] /= len(chosen) - divided
    return np.asarray(chosen[np.argsort(place, kind="stable")])


def label_summary(table: VotesTable, rows: npt.NDArray[np.int64]) -> Mapping[str, int]:
    """Number of chosen cells per attribute, most first."""
    counts: dict[str, int] = {}
    for row in rows.tolist():
        name = table.cells[row].attribute
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
