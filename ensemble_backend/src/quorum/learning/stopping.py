# SPDX-License-Identifier: Apache-2.0
"""Learn from recorded votes when asking may stop before an answer is settled for certain.

No gold is needed: what counts is whether the answer of some members is that of all. A regression gives the
chance of a change by the votes at hand. Limits of that chance are then tested from the lowest up, each by an
upper bound of the share of answers that change, until one fails: learn, then test (Angelopoulos et al.,
arXiv:2110.01052), with fixed sequence testing. Cells of one product are not independent, so that they count
as fewer (the design effect; Korn and Graubard, "Confidence intervals for proportions with small expected
number of positive counts estimated from survey data", Survey Methodology 24, 1998). Few flips do not tell how
far cells of a product flip together, so the effect is estimated as if one more product had flipped whole.

A limit holds for every way of asking in rows that was tested (:func:`quorum.learning.early_states.routes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.arrays import Floats
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.stopping import FEATURES, RISKS, Stopping
from quorum.decision.weights import Weights
from quorum.learning.by_kind import is_taught_by_gold
from quorum.learning.early_states import Flags, Ints, Route, States, routes, single_rows, states
from quorum.learning.newton import minimise
from quorum.learning.set_confidence import fit_chance
from quorum.votes.table import VotesTable

Relearn = Callable[[VotesTable], Weights]
"""Learns weights in the same way from less gold."""

FOLDS = 5
MOST_CELLS = 3_000
MOST_LABELS = 1_500
"""Labels up to which weights are learned again for each fold; with more, a few cells do not tell."""
ERROR = 0.1
"""How often, over tables, a limit may be too high for its flip risk."""
LIMITS = tuple(float(f"{1e-3 * 10 ** (step / 8):.3g}") for step in range(22))
"""Chances of a change that may be limits, rising, to about .42; chosen without looking at votes."""
_RIDGE = 1.0


def learn_stopping(
    table: VotesTable,
    weights: Weights,
    relearn: Relearn,
    kinds: AnswerKinds | None = None,
    rule: QuorumRule | None = None,
    rows: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
) -> Stopping | None:
    """Learn when to stop early, and the confidence of the votes of some members.

    Args:
        table: The votes that the weights were learned from, or others; gold is not used.
        weights: They decide.
        relearn: Learns them again without the gold of some products, where gold taught them.
        kinds: Of the attributes; only those of single values count.
        rule: Quorum of the deployment; None: one answer is enough.
        rows: Rows of the deployment, for limits of many members; None: one member a row, by weight.
        seed: Draws folds, cells of a large table and orders of many members.

    Returns:
        What was learned; None without single values of two members and two products.
    """
    known, quorum = kinds or {}, rule or QuorumRule()
    cells = _single(table, known, seed)
    products = np.unique(table.products[cells])
    if len(table.members) < 2 or len(products) < 2:
        return None
    place = np.random.default_rng(seed).permutation(table.n_products)[table.products]
    fold = place % min(FOLDS, len(products))
    wanted = routes(weights, rows, seed)
    masks = tuple(sorted({mask for route in wanted for mask in route}))
    found = States.join(
        [
            states(table, cells[fold[cells] == part], taught, masks, known, quorum)
            for part, taught in enumerate(_weights_of_folds(table, weights, relearn, fold))
        ]
    )
    names = tuple(sorted({table.cells[row].attribute for row in cells.tolist()}))
    return stopping_from(found, fold[found.rows], wanted, names)


def stopping_from(
    found: States, fold: Ints, wanted: Sequence[Route], attributes: tuple[str, ...] = ()
) -> Stopping:
    """Learn from the states of cells.

    Args:
        found: For all sets of members on the routes.
        fold: (n,) part of each cell; the chance of a change of its cells comes from those of the others.
        wanted: Paths for which the limits are to hold.
        attributes: Of the cells.
    """
    change = np.zeros(found.final.shape)
    for part in np.unique(fold):
        own, others = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
        change[:, own] = chances(fit_change(found.take(others)), found.features[:, own])
    return Stopping(
        change=tuple(round(float(x), 6) for x in fit_change(found)),
        limits=find_limits(found, change, wanted),
        lines=_lines(found),
        attributes=attributes,
        cells=len(found.rows),
        products=len(np.unique(found.products)),
    )


def fit_change(found: States) -> Floats:
    """Coefficients of the features: logistic regression of a change on what is open, with a ridge."""
    x, y = found.features[found.open], 1.0 - found.same[found.open]
    pull = np.array([0.0, *[_RIDGE] * (len(FEATURES) - 1)])

    def loss(points: Floats) -> tuple[Floats, Floats, Floats]:
        odds = points @ x.T
        share = 1.0 / (1.0 + np.exp(-np.clip(odds, -500.0, 500.0)))
        value = (np.logaddexp(0.0, odds) - odds * y).sum(axis=1) + 0.5 * (pull * points**2).sum(axis=1)
        gradient = (share - y) @ x + pull * points
        curvature = np.einsum("gn,ni,nj->gij", share * (1.0 - share), x, x, optimize=True) + np.diag(pull)
        return value, gradient, curvature

    # Without a bound, votes that never change would send the intercept to minus infinity.
    lower = np.array([-30.0, *[-np.inf] * (len(FEATURES) - 1)])
    return np.asarray(minimise(loss, np.zeros((1, len(FEATURES))), lower)[0])


def chances(change: Sequence[float] | Floats, features: Floats) -> Floats:
    """(s, n) chances of a change by (s, n, f) features."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(features @ np.asarray(change), -500.0, 500.0))))


def find_limits(found: States, change: Floats, wanted: Sequence[Route]) -> tuple[tuple[float, float], ...]:
    """The highest limit of the chance that keeps each flip risk on all routes, of risks that have any."""
    best: dict[float, float] = {}
    passing = set(RISKS)
    for limit in LIMITS:
        for route in wanted:
            flipped = ~found.at(found.same, found.stops(limit, change, route), route)
            passing = {risk for risk in passing if is_kept(flipped, found.products, risk)}
            if not passing:
                return tuple(sorted(best.items()))
        best |= dict.fromkeys(passing, limit)
    return tuple(sorted(best.items()))


def is_kept(flipped: Flags, products: npt.NDArray[np.int32], risk: float) -> bool:
    """Whether flips are surely fewer than a risk: so few are improbable if they were as many.

    Without a flip a product counts as one cell; with many flips their own variance over products decides.
    """
    cells, flips = float(len(flipped)), float(flipped.sum())
    sizes, share = np.bincount(products).astype(np.float64), flips / cells
    away = np.bincount(products, flipped - share)
    whole = float((sizes**2).sum()) / cells
    effect = max(1.0, (float((away**2).sum()) + whole**2) / (flips * (1.0 - share) + whole))
    # Less a rounding error of the division, which must not make a flip or lose a cell.
    alike, changed = math.floor(cells / effect + 1e-9), math.ceil(flips / effect - 1e-9)
    return chance_of_at_most(changed, alike, risk) <= ERROR


def chance_of_at_most(flips: int, cells: int, risk: float) -> float:
    """Chance of so few flips, or fewer, in cells of which each flips with a chance of ``risk``."""
    if flips >= cells:
        return 1.0
    logs = (
        math.lgamma(cells + 1) - math.lgamma(k + 1) - math.lgamma(cells - k + 1)
        + k * math.log(risk) + (cells - k) * math.log1p(-risk)
        for k in range(flips + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(math.exp(own) for own in logs))


def fewest_products(risk: float) -> int:
    """Products with equally many cells, all without a flip, that it takes to support a flip risk."""
    return math.ceil(math.log(ERROR) / math.log1p(-risk))


def _single(table: VotesTable, kinds: AnswerKinds, seed: int) -> Ints:
    """Rows of single values; of many, those of random products."""
    rows = single_rows(table, kinds)
    if len(rows) <= MOST_CELLS:
        return rows
    place = np.random.default_rng(seed).permutation(table.n_products)[table.products[rows]]
    return np.sort(rows[np.argsort(place, kind="stable")[:MOST_CELLS]])


def _weights_of_folds(table: VotesTable, weights: Weights, relearn: Relearn, fold: Ints) -> Iterator[Weights]:
    """Per fold, weights that its gold did not teach."""
    labels = int(table.labelled.sum())
    for part in range(int(fold.max()) + 1):
        seen = table.labelled & (fold != part)
        if is_taught_by_gold(weights) and labels <= MOST_LABELS and seen.any():
            yield relearn(table.with_gold(seen))
        else:
            yield weights


def _lines(found: States) -> dict[str, tuple[float, float]]:
    """Number of members asked -> line from the confidence of their votes to that of all votes."""
    lines = {}
    size = np.array([mask.bit_count() for mask in found.masks])
    for asked in range(1, int(size.max())):
        used = (size == asked)[:, None] & (found.final | found.open)
        if used.any():
            lines[str(asked)] = fit_chance(found.confidence[used], found.share[used])
    return lines
