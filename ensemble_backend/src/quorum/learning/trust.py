# SPDX-License-Identifier: Apache-2.0
"""Tell without gold whether agreement says who is right: only where a model explains how members agree.

One-coin weights are right where members err independently, and lose to majority where weak members repeat
each other. Both can give the same accuracies, but not the same counts of agreement patterns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

import numpy as np

from quorum.decision.arrays import Floats, leaders
from quorum.decision.histogram import Histogram
from quorum.learning.blocs import DRAWN, MAX_ROWS, MIN_MEMBERS, Bloc, find_bloc, hard_cells, rival
from quorum.learning.correlation import correlation
from quorum.learning.em import CellRows, OneCoin
from quorum.learning.misfit import NEGLIGIBLE, SURE, Misfit, log_ways, misfit, who_answered

MIN_CELLS, MIN_CELLS_OF_THREE = 500, 1000
"""With fewer cells the test misses real tables on which one-coin weights lose."""
MOST_LEFT, MOST_SHARE = 0.08, 0.03
"""A bloc is believed if it leaves at most this share of what independent members leave unexplained, and at
most so many nats per cell."""
_CLEARLY = 2.0
MOST_ALONE = 0.005
"""Four and more independent members may leave so many nats per cell unexplained, however sure that is: no
model is exact, and simulated blocs that leave as little cost a tenth of a point at most."""
_MOST_LABELS = 1000.0
"""With more possible values members that err agree as seldom."""
_SEARCHES = 8
_REMEMBERED = 8


class Doubt(StrEnum):
    """Why agreement is not trusted."""

    FEW_CELLS = "few cells"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Trust:
    """What agreement is worth.

    Attributes:
        doubt: None: agreement is trusted.
        alike: Members that agree most above the others, sorted; they may repeat each other. Of three members
            the two that agree with each other more than with the third, whom accuracies explain as well.
            Empty: none stand out.
        cells: Number of cells, and ``needed`` how many the test needs.
    """

    doubt: Doubt | None
    alike: tuple[int, ...]
    cells: float
    needed: int

    def reason(self, members: Sequence[str]) -> str:
        """Say why agreement is not trusted; "" if it is."""
        if self.doubt is None:
            return ""
        if self.doubt is Doubt.FEW_CELLS:
            return f"{self.cells:.0f} cells are too few to test the members' agreement, {self.needed} suffice"
        if not self.alike:
            return f"{_listed(members)} do not agree as independent members would"
        alike = _listed([members[j] for j in self.alike])
        if len(members) > MIN_MEMBERS - 1:
            return f"the agreement of {alike} is higher than independent members could have"
        (third,) = (name for j, name in enumerate(members) if j not in self.alike)
        return f"{alike} agree with each other more than with {third}, and not as independent members would"


def judge(hist: Histogram, labels: Floats, blocs: bool = True, model: OneCoin | None = None) -> Trust:
    """Test whether independent members, a bloc or cells of two difficulties explain the agreement.

    With three members only independent ones can be tested, whose accuracies are those of all attributes: the
    other models, accuracies by attribute and other numbers of values explain nearly any agreement of three.

    Args:
        hist: Votes, one group per attribute; gold is not looked at.
        labels: (g,) L, the number of possible values of each attribute.
        blocs: Whether weights will be those of the bloc if one is found.
        model: Accuracies per attribute, fitted to these votes; None: fitted here.

    Raises:
        TooFewMembersError: Fewer than 3 members answered.
    """
    hist = hist.unlabelled().na_as_value()
    arrays = (hist.codes, hist.groups, hist.counts, labels)
    return _judged(
        _Votes(hist.members, blocs, tuple(array.tobytes() for array in arrays), hist, labels, model)
    )


@dataclass(frozen=True, slots=True)
class _Votes:
    members: int
    blocs: bool
    content: tuple[bytes, ...]
    hist: Histogram = field(compare=False)
    labels: Floats = field(compare=False)
    model: OneCoin | None = field(compare=False)


@lru_cache(maxsize=_REMEMBERED)
def _judged(votes: _Votes) -> Trust:
    hist, labels = votes.hist, votes.labels
    model = votes.model or OneCoin(labels).fit(hist)
    typical = float(np.average(labels, weights=np.bincount(hist.groups, hist.counts, len(labels))))
    pooled = hist.pooled()
    three = pooled.active.sum() < MIN_MEMBERS
    bloc = None if three else find_bloc(pooled, typical)
    named = bloc is not None and bloc.left <= MOST_LEFT
    alike = bloc.members if bloc and named else _closest(pooled, model.accuracy_, typical)
    needed = MIN_CELLS_OF_THREE if three else MIN_CELLS
    doubt = None
    if pooled.total < needed:
        doubt = Doubt.FEW_CELLS
    elif three:
        doubt = None if _pooled(pooled, typical).fits else Doubt.UNEXPLAINED
    elif not _suffices(_independent(hist, pooled, labels, model.group_accuracy_)):
        explained = (votes.blocs and bloc is not None and _believed(bloc, pooled, typical)) or hard_cells(
            pooled, typical
        ).fits
        doubt = None if explained or _other_labels_fit(hist, pooled) else Doubt.UNEXPLAINED
    return Trust(doubt, alike, pooled.total, needed)


def _believed(bloc: Bloc, pooled: Histogram, labels: float) -> bool:
    """Whether copying by the bloc explains the agreement, and copying by a pair outside it clearly less."""
    if not bloc.misfit.fits and (bloc.left > MOST_LEFT or bloc.misfit.share > MOST_SHARE):
        return False
    return rival(pooled, labels, bloc) > max(_CLEARLY * bloc.misfit.share, NEGLIGIBLE)


def _other_labels_fit(hist: Histogram, pooled: Histogram) -> bool:
    """Whether independent members explain the agreement with other numbers of possible values than named.

    One number and one accuracy each for all attributes; else a number for each attribute with enough cells,
    with accuracies per attribute.
    """
    common = _likely_labels(pooled)
    if _suffices(_pooled(pooled, common)):
        return True
    cells = np.bincount(hist.groups, hist.counts, hist.n_groups)
    own = [
        _likely_labels(hist.take(hist.groups == group).pooled()) if cells[group] >= MIN_CELLS else common
        for group in range(hist.n_groups)
    ]
    labels = np.array(own)
    return _suffices(_independent(hist, pooled, labels, OneCoin(labels).fit(hist).group_accuracy_))


def _suffices(misfit: Misfit) -> bool:
    """Whether four or more independent members explain the agreement well enough."""
    return misfit.fits or misfit.share <= MOST_ALONE


def _likely_labels(pooled: Histogram) -> float:
    """L by maximum likelihood of the patterns of independent members with one accuracy each."""
    codes = pooled.codes

    def unlikely(log_labels: float) -> float:
        labels = np.full(len(codes), np.exp(log_labels))
        coin = OneCoin(float(labels[0]), per_group=False).fit(pooled)
        accuracy = np.broadcast_to(np.nan_to_num(coin.accuracy_, nan=0.5), codes.shape)
        return -float(pooled.counts @ (CellRows(codes, labels).expect(accuracy)[2] + log_ways(codes, labels)))

    fewest = max(2.0, float(leaders(codes).sum(axis=1).max(initial=0)))
    return math.exp(_golden_section(unlikely, math.log(fewest), math.log(_MOST_LABELS)))


def _golden_section(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one valley is lowest, or the nearest end; Kiefer 1953, doi:10.2307/2032161."""
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    points = [low, high - ratio * (high - low), low + ratio * (high - low), high]
    costs = [cost(point) for point in points]
    tried = dict(zip(points, costs, strict=True))
    for _ in range(_SEARCHES):
        if costs[1] <= costs[2]:
            high, points[2], costs[2] = points[2], points[1], costs[1]
            points[1] = high - ratio * (high - low)
            costs[1] = tried[points[1]] = cost(points[1])
        else:
            low, points[1], costs[1] = points[1], points[2], costs[2]
            points[2] = low + ratio * (high - low)
            costs[2] = tried[points[2]] = cost(points[2])
    return min(tried, key=tried.__getitem__)


def _pooled(pooled: Histogram, labels: float) -> Misfit:
    """What independent members with one accuracy each leave unexplained."""
    model = OneCoin(labels, per_group=False).fit(pooled)
    return _independent(pooled, pooled, np.array([labels]), model.accuracy_[None])


def _independent(hist: Histogram, pooled: Histogram, labels: Floats, accuracy: Floats) -> Misfit:
    """What independent members with these (g, m) accuracies per attribute leave unexplained."""
    if len(pooled.counts) > MAX_ROWS:
        # Without putting back: drawn twice, a cell would agree with itself more than chance allows.
        rng = np.random.default_rng(0)
        whole = np.floor(hist.counts + rng.random(len(hist.counts))).astype(np.int64)
        drawn = rng.binomial(whole, min(1.0, DRAWN / hist.total))
        hist = replace(hist, counts=drawn.astype(np.float64)).take(drawn > 0)
        pooled = hist.pooled()
    rows = len(pooled.counts)
    kinds, index = np.unique(
        np.concatenate([who_answered(pooled.codes), who_answered(hist.codes)]), return_inverse=True
    )
    cells = np.zeros((len(labels), len(kinds)))
    np.add.at(cells, (hist.groups, index[rows:]), hist.counts)
    used = np.flatnonzero(cells.any(axis=1))
    # A pattern of other attributes may have more candidates than an attribute has values.
    most = np.zeros(len(labels))
    np.maximum.at(most, hist.groups, leaders(hist.codes).sum(axis=1))
    labels = np.maximum(labels, most)
    codes, values = np.tile(pooled.codes, (len(used), 1)), np.repeat(labels[used], rows)
    right = np.repeat(np.nan_to_num(accuracy[used], nan=0.5), rows, axis=0)
    ways = np.exp(CellRows(codes, values).expect(right)[2] + log_ways(codes, values))
    ways *= leaders(codes).sum(axis=1) <= values
    expected = (ways.reshape(len(used), rows) * cells[used][:, index[:rows]]).sum(axis=0)
    return misfit(pooled.codes, pooled.counts, expected, int(pooled.active.sum()))


def _closest(hist: Histogram, accuracy: Floats, labels: float) -> tuple[int, ...]:
    """The pair of members whose agreement stands out by three standard errors."""
    figures = correlation(hist, accuracy, labels)
    first, second = np.triu_indices(hist.members, 1)
    agreed = np.nan_to_num(figures.agreement[first, second], nan=0.0)
    order = np.argsort(-agreed, kind="stable")
    top = order[0]
    if hist.active.sum() >= MIN_MEMBERS:
        excess = np.nan_to_num(figures.z[first, second], nan=0.0)
        top = excess.argmax()
        if excess[top] <= SURE:
            return ()
    else:
        error = math.sqrt(sum(agreed[i] * (1.0 - agreed[i]) for i in order[:2]) / hist.total)
        if agreed[top] - agreed[order[1]] <= SURE * error:
            return ()
    return int(first[top]), int(second[top])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
