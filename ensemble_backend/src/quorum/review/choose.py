# SPDX-License-Identifier: Apache-2.0
"""Choose the most informative cells to label."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.histogram import compress
from quorum.decision.patterns import ABSTAIN, NA, Codes
from quorum.decision.weights import Weights, WeightsError
from quorum.evaluation.score import highest_weights
from quorum.review.need import attribute_of, disagreement, needs_by_attribute
from quorum.votes import VotesTable
from quorum.votes.table import scores_or_none
from quorum_contract.errors import QuorumError

AGREED = 0.5
"""Share of cells that members agree on: disagreement alone cannot measure how reliable agreement is."""
AGREED_NA = 0.2
"""Share of these where all say "n/a": enough to learn how often that is right, and no more."""
POWER = 0.5
"""Power of an attribute's disputed cells in its share of the draw: 0 draws attributes equally, 1 cells."""
CONTRADICTION = 1.0
"""How much more often than others a cell is drawn whose scores and votes contradict each other entirely."""
_NOTABLE = 0.3

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


class LabelError(QuorumError, ValueError):
    """A sheet or a request is invalid; the message names the row and the fix."""

    code = "SHEET_INVALID"


@dataclass(frozen=True, slots=True)
class Choice:
    """A row of the table to label, and why, for people."""

    index: int
    reason: str


def choose(table: VotesTable, count: int, *, weights: Weights | None = None, seed: int = 0) -> list[Choice]:
    """Choose the most informative unlabelled cells.

    Three kinds are drawn separately and mixed evenly, so that labelling may stop anywhere: cells with
    disagreement, cells where members agree on a value, and cells where all say "n/a". Of the first kind an
    attribute gets a share by the root of its number of such cells (power allocation, a compromise between
    the whole and each attribute: Bankier 1988, doi:10.1080/00031305.1988.10475556), times the part of the
    labels that it needs and has not (:mod:`.need`). Of the others, attributes with few labels come first.
    Where votes have scores, cells whose scores contradict their votes weigh more (:func:`contradiction`).
    Every product gives one cell of a kind before any gives a second. The draws use votes, never gold, so the
    likelihood of the gold needs no importance weights; confidences come out a little low, not high.

    Args:
        table: Votes; existing gold counts as labels of its attributes.
        count: Number of cells, at least 1.
        weights: Members whose votes never weigh anything cannot disagree; None: all can.
        seed: Of the draws; the same input gives the same cells.

    Returns:
        The cells, best first; fewer if the table has fewer unlabelled cells with a vote.

    Raises:
        LabelError: A count below 1.
        WeightsError: Weights for other members.
    """
    if count < 1:
        raise LabelError(f"count is {count}; give at least 1")
    if weights is not None and weights.members != table.members:
        raise WeightsError(f"weights for {list(weights.members)}, votes of {list(table.members)}")
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(~table.labelled & (table.codes != ABSTAIN).any(axis=1))
    hist, where = compress(table.codes[rows])
    alike = hist.counts[where]
    kinds = _kinds(table.codes[rows], disagreement(table, weights)[rows] > 1e-9)
    clash = contradiction(table, weights)
    odd = np.ones(len(rows)) if clash is None else 1.0 + CONTRADICTION * clash[rows]
    lag = odd * _attribute_lag(table)[rows]
    gains = (odd * _attribute_share(table, weights, rows, kinds[0]), lag, lag)
    _, attribute = attribute_of(table)
    parts = []
    for kind, gain, number in zip(kinds, gains, _numbers(min(count, len(rows)), kinds), strict=True):
        drawn = _draw(rng, np.where(kind, gain, 0.0), attribute[rows], table.products[rows], number)
        places = zip(rows[drawn].tolist(), alike[drawn].astype(int).tolist(), strict=True)
        parts.append([Choice(row, _reason(table, row, like, clash)) for row, like in places])
    return _mixed(*parts)


def contradiction(table: VotesTable, weights: Weights | None = None) -> Floats | None:
    """(n,) how much scores and votes contradict each other, in [0, 1]; None: no vote has a score.

    Where votes agree: by how much less than sure the members are, on average. Where they do not: by how much
    surer the surest dissenter is than the surest of the most frequent value; 0 if no value is most frequent.
    """
    if scores_or_none(table.scores) is None:
        return None
    heard = table.codes != ABSTAIN
    if weights is not None:
        heard &= highest_weights(weights, table.group_names)[table.groups] > 0.0
    known = heard & ~np.isnan(table.scores)
    sure = np.where(known, np.exp(np.where(known, table.scores, 0.0)), 0.0)
    same = (table.codes[:, :, None] == table.codes[:, None, :]) & heard[:, None, :] & heard[:, :, None]
    behind = same.sum(axis=2)
    top = behind.max(axis=1, keepdims=True)
    most = heard & (behind == top)
    alone = most.sum(axis=1) == top[:, 0]
    dissent = heard & (behind < top)
    # Without scores on both sides there is nothing to compare.
    compared = alone & (known & most).any(axis=1) & dissent.any(axis=1)
    surer = np.where(dissent, sure, 0.0).max(axis=1) - np.where(most, sure, 0.0).max(axis=1)
    unsure = 1.0 - sure.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    agreed = ~dissent.any(axis=1) & alone & known.any(axis=1)
    return np.asarray(np.where(agreed, unsure, np.where(compared, np.maximum(surer, 0.0), 0.0)))


def _draw(
    rng: np.random.Generator,
    weight: Floats,
    attribute: npt.NDArray[np.int64],
    products: npt.NDArray[np.int32],
    wanted: int,
) -> Rows:
    """Weighted draw without replacement, in which every attribute has its share at every moment.

    An attribute's share is that of its weights: its k-th cell comes at (k + u) / share, with a random u in
    [0, 1), so any first part of the draw has at most about one cell of it more or fewer (systematic sampling,
    Madow 1949, doi:10.1214/aoms/1177729988). Its own cells are in the order of exponential keys (Efraimidis
    and Spirakis 2006, doi:10.1016/j.ipl.2005.11.003). Second cells of a product come after all first ones.
    """
    keys = rng.exponential(size=len(weight)) / np.maximum(weight, 1e-300)
    ranked = np.argsort(keys, kind="stable")[: int((weight > 0.0).sum())]
    share = np.asarray(np.bincount(attribute, weight), np.float64)
    waiting = [ranked[attribute[ranked] == name].tolist() for name in range(len(share))]
    places = rng.random(len(share))
    drawn: list[int] = []
    while len(drawn) < wanted and any(waiting):
        taken, waiting = _one_round(waiting, places, share, products, wanted - len(drawn))
        drawn += taken
    return np.array(drawn, np.int64)


def _one_round(
    waiting: Sequence[Sequence[int]],
    places: Floats,
    share: Floats,
    products: npt.NDArray[np.int32],
    wanted: int,
) -> tuple[list[int], list[list[int]]]:
    """Draw cells of each attribute's in turn, at most one of each product; moves ``places`` on.

    Returns:
        The cells drawn; and for each attribute those that are left, in their order.
    """
    drawn: list[int] = []
    used: set[int] = set()
    left: list[list[int]] = [[] for _ in waiting]
    rest = [iter(cells) for cells in waiting]
    queue = [(places[name] / share[name], name) for name, cells in enumerate(waiting) if cells]
    heapq.heapify(queue)
    while queue and len(drawn) < wanted:
        _, name = queue[0]
        for cell in rest[name]:
            if products[cell] in used:
                left[name].append(cell)
                continue
            used.add(products[cell])
            drawn.append(cell)
            places[name] += 1.0
            heapq.heapreplace(queue, (places[name] / share[name], name))
            break
        else:
            heapq.heappop(queue)
    return drawn, left


def _kinds(codes: Codes, split: Flags) -> tuple[Flags, Flags, Flags]:
    """(n,) each: members disagree; they agree on a value; all that answered say "n/a"."""
    blank = ~split & (codes <= NA).all(axis=1)
    return split, ~split & ~blank, blank


def _numbers(wanted: int, kinds: Sequence[Flags]) -> tuple[int, int, int]:
    """How many cells of each kind: by their shares, as far as there are such cells."""
    split, valued, blank = (int(kind.sum()) for kind in kinds)
    agreed = min(max(round(AGREED * wanted), wanted - split), valued + blank)
    value = min(agreed - min(round(AGREED_NA * agreed), blank), valued)
    return wanted - agreed, value, agreed - value


def _attribute_share(table: VotesTable, weights: Weights | None, rows: Rows, split: Flags) -> Floats:
    """(n,) weight of each of the ``rows`` that is ``split``, so that attributes get their shares."""
    needs, attribute = needs_by_attribute(table, weights)
    lacking = np.array([(1.0 + need.more) / (1.0 + need.needed) for need in needs])
    own = attribute[rows]
    cells = np.maximum(np.bincount(own, split, len(needs)), 1.0)
    return np.asarray((lacking * cells ** (POWER - 1.0))[own])


def _attribute_lag(table: VotesTable) -> Floats:
    """(n,) lag of the labels of a cell's attribute behind its share of the table; 1: none."""
    names, attribute = attribute_of(table)
    cells = np.bincount(attribute, minlength=len(names))
    have = np.bincount(attribute, table.labelled, len(names))
    expected = cells * (float(table.labelled.mean()) if len(table) else 0.0)
    return np.asarray(((expected + 1.0) / (have + 1.0))[attribute])


def _reason(table: VotesTable, row: int, alike: int, clash: Floats | None) -> str:
    votes = [value for value in table.cells[row].values if value is not None]
    shares = sorted((votes.count(value) for value in dict.fromkeys(votes)), reverse=True)
    clashes = clash is not None and clash[row] >= _NOTABLE
    if len(shares) == 1:
        though = ", but are not sure of it" if clashes else ""
        return f"members agree{though}; {alike} unlabelled like this: can agreement be trusted?"
    though = ", and a minority is surer" if clashes else ""
    return f"members disagree {' : '.join(map(str, shares))}{though}; {alike} unlabelled like this"


def _mixed(*parts: list[Choice]) -> list[Choice]:
    """All parts, each in its order and evenly spread."""
    placed = [((i + 0.5) / len(part), choice) for part in parts for i, choice in enumerate(part)]
    return [choice for _, choice in sorted(placed, key=lambda one: one[0])]
