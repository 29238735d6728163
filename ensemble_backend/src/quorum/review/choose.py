# SPDX-License-Identifier: Apache-2.0
"""Choose the most informative cells to label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum.decision.histogram import compress
from quorum.decision.patterns import ABSTAIN
from quorum.decision.weights import Weights, WeightsError
from quorum.evaluation.score import highest_weights
from quorum.votes import VotesTable
from quorum.votes.table import scores_or_none
from quorum_contract.errors import QuorumError

AGREED = 0.6
"""Share of cells that members agree on: disagreement alone cannot measure how reliable agreement is."""
FREQUENCY = 0.5
"""Power of a pattern's frequency: 0 draws every pattern equally often, 1 as often as it occurs."""
CONTRADICTION = 1.0
"""How much more often than others a cell is drawn whose scores and votes contradict each other entirely."""
_NOTABLE = 0.3


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

    Cells with disagreement and cells with agreement are drawn separately and mixed evenly, so that labelling
    may stop anywhere. The weight of a cell in its draw is the lag of its attribute's labels times
    ``f^(FREQUENCY - 1)``, with ``f`` how often its agreement pattern occurs among the cells to choose from.
    Where votes have scores, cells whose scores contradict their votes weigh more (:func:`contradiction`).
    Every product gives one cell before any gives a second. The draws use votes, never gold, so the likelihood
    of the gold needs no importance weights; confidences come out a little low, not high.

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
    split = disagreement(table, weights)[rows] > 1e-9
    gain = _attribute_need(table)[rows] * alike ** (FREQUENCY - 1.0)
    clash = contradiction(table, weights)
    if clash is not None:
        gain = gain * (1.0 + CONTRADICTION * clash[rows])
    wanted = min(count, len(rows))
    agreed = min(round(AGREED * wanted), int((~split).sum()))
    parts = []
    for kind, number in ((split, wanted - agreed), (~split, wanted - min(wanted - agreed, int(split.sum())))):
        drawn = _draw(rng, np.where(kind, gain, 0.0), table.products[rows], number)
        places = zip(rows[drawn].tolist(), alike[drawn].astype(int).tolist(), strict=True)
        parts.append([Choice(row, _reason(table, row, like, clash)) for row, like in places])
    return _mixed(*parts)


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
    rng: np.random.Generator, weight: Floats, products: npt.NDArray[np.int32], wanted: int
) -> npt.NDArray[np.int64]:
    """Weighted draw without replacement; second cells of a product come after all first ones.

    Source: exponential keys, Efraimidis and Spirakis 2006, doi:10.1016/j.ipl.2005.11.003.
    """
    keys = rng.exponential(size=len(weight)) / np.maximum(weight, 1e-300)
    ranked = np.argsort(keys, kind="stable")[: int((weight > 0.0).sum())]
    _, first = np.unique(products[ranked], return_index=True)
    again = np.ones(len(ranked), np.bool_)
    again[first] = False
    return np.asarray(np.concatenate([ranked[~again], ranked[again]])[:wanted], np.int64)


def _attribute_need(table: VotesTable) -> Floats:
    """(n,) lag of the labels of a cell's attribute behind its share of the table; 1: none."""
    names, index = np.unique([attribute for _, attribute in table.group_names], return_inverse=True)
    attribute = index[table.groups]
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


def _mixed(first: list[Choice], second: list[Choice]) -> list[Choice]:
    """Both lists, each in its order and evenly spread."""
    places = [(i + 0.5) / len(part) for part in (first, second) for i in range(len(part))]
    both = zip(places, [*first, *second], strict=True)
    return [choice for _, choice in sorted(both, key=lambda placed: placed[0])]
