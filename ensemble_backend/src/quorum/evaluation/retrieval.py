# SPDX-License-Identifier: Apache-2.0
"""Score what encoders and BM25 say of judged pairs: agreement, and recall of keyphrases and of items.

A query is a keyphrase. Shapes: P judged pairs, I items, K keyphrases, of which the first are the judged ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.evaluation.relevance import (
    OverQueries,
    Statistic,
    agreement,
    auc,
    hits_at,
    interval,
    mean,
    ndcg_at,
    pearson,
)
from quorum.evaluation.stats import Estimate, Floats
from quorum.retrieval.bm25 import Bm25, best_of
from quorum.retrieval.judged import RELEVANT, Judged
from quorum.retrieval.vectors import Vectors, cut, exact_top

_RESAMPLES = 1000

Rows = npt.NDArray[np.int64]


class Rated(NamedTuple):
    """What one method says.

    Attributes:
        scores: (P,) of each pair.
        keyphrases: (I, k) keyphrases found for each item, best first; -1: no more.
        items: (judged keyphrases, k) items found for each.
    """

    scores: Floats
    keyphrases: Rows
    items: Rows


@dataclass(frozen=True, slots=True)
class Truth:
    """Judged pairs, and what is searched.

    Attributes:
        judged: The pairs; all their items are searched.
        keyphrases: (K,) the judged ones, then further ones.
        k: Ranks that count.
    """

    judged: Judged
    keyphrases: tuple[str, ...]
    k: int

    @property
    def by_people(self) -> bool:
        """Whether people graded all pairs."""
        return bool(np.isfinite(self.judged.gold).all())

    @property
    def grades(self) -> Floats:
        """(P,) people's grades where all pairs have one, else the judge's labels."""
        return np.asarray(self.judged.gold if self.by_people else self.judged.labels, np.float64)

    @property
    def relevant(self) -> npt.NDArray[np.bool_]:
        """(P,) pairs that count as relevant."""
        return np.asarray(self.grades >= RELEVANT)


def rate_vectors(truth: Truth, items: Vectors, keyphrases: Vectors, dims: int) -> Rated:
    """Rate by cosine: (I, d) vectors of the items and (K, d) of the keyphrases, cut to ``dims``."""
    ours, theirs = cut(items, dims), cut(keyphrases, dims)
    judged = truth.judged
    scores = np.einsum("pd,pd->p", ours[judged.item_of], theirs[judged.keyphrase_of])
    found, _ = exact_top(ours, theirs, truth.k)
    back, _ = exact_top(theirs[: len(judged.keyphrases)], ours, truth.k)
    return Rated(scores.astype(np.float64), found, back)


def rate_bm25(truth: Truth) -> Rated:
    """Rate by BM25; a pair's score is over the best that its keyphrase has, as those of queries differ."""
    judged = truth.judged
    by_item, by_keyphrase = Bm25(judged.texts), Bm25(truth.keyphrases)
    scores = np.zeros(len(judged))
    back = np.full((len(judged.keyphrases), truth.k), -1, np.int64)
    # Pairs of each keyphrase: a table of all keyphrases and items would take gigabytes.
    order = np.argsort(judged.keyphrase_of, kind="stable")
    ends = np.searchsorted(judged.keyphrase_of[order], np.arange(len(judged.keyphrases) + 1))
    for number, keyphrase in enumerate(judged.keyphrases):
        own, pairs = by_item.scores(keyphrase), order[ends[number] : ends[number + 1]]
        scores[pairs] = own[judged.item_of[pairs]] / max(own.max(initial=0.0), 1e-9)
        back[number] = best_of(own, truth.k)
    found = np.stack([by_keyphrase.top(text, truth.k) for text in judged.texts])
    return Rated(scores, found, back)


class Scored(NamedTuple):
    """Figures of methods, and of paired differences."""

    figures: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Estimate]]


def score(truth: Truth, rated: Mapping[str, Rated], pairs: Sequence[tuple[str, str]]) -> Scored:
    """Score methods with 95 % intervals over keyphrases.

    ``pearson`` and ``spearman`` are with the judge's labels, ``auc`` is of the relevant pairs, ``ndcg`` among
    the judged items of each keyphrase; ``keyphrases`` and ``items`` are recall: the share of relevant pairs
    whose keyphrase is found for the item, and whose item is found for the keyphrase. Unjudged ones may be
    just as right, so recall is a lower bound.

    Args:
        truth: What is right.
        rated: Name of a method -> what it says.
        pairs: Names of methods whose difference is wanted, the first less the second.
    """
    judged, relevant = truth.judged, truth.relevant
    groups = [
        (
            judged.keyphrase_of,
            {name: agreement(own.scores, judged.labels, relevant) for name, own in rated.items()},
        ),
        (np.unique(judged.keyphrase_of), {name: _ndcg(truth, own.scores) for name, own in rated.items()}),
        (judged.keyphrase_of[relevant], {name: _recall(truth, own) for name, own in rated.items()}),
    ]
    figures: dict[str, dict[str, Estimate]] = {name: {} for name in rated}
    differences: dict[str, dict[str, Estimate]] = {f"{a} - {b}": {} for a, b in pairs}
    for queries, statistics in groups:
        if len(queries):
            _fill(OverQueries(queries, _RESAMPLES), len(queries), statistics, figures, differences, pairs)
    return Scored(figures, differences)


def _fill(
    over: OverQueries,
    size: int,
    statistics: Mapping[str, Mapping[str, Statistic]],
    figures: dict[str, dict[str, Estimate]],
    differences: dict[str, dict[str, Estimate]],
    pairs: Sequence[tuple[str, str]],
) -> None:
    """Take all statistics on the same draws, so that each is computed once."""
    names = [(method, figure) for method, own in statistics.items() for figure in own]
    functions = [statistics[method][figure] for method, figure in names]
    whole = np.ones(size)
    values = dict(zip(names, (function(whole) for function in functions), strict=True))
    draws = dict(zip(names, over.draws(*functions).T, strict=True))
    for method, figure in names:
        figures[method][figure] = interval(values[method, figure], draws[method, figure])
    for ours, theirs in pairs:
        for figure in statistics[ours]:
            a, b = (ours, figure), (theirs, figure)
            differences[f"{ours} - {theirs}"][figure] = interval(values[a] - values[b], draws[a] - draws[b])


def _ndcg(truth: Truth, scores: Floats) -> dict[str, Statistic]:
    values = ndcg_at(scores, truth.grades, truth.judged.keyphrase_of, truth.k)
    return {"ndcg": lambda weights: mean(values, weights)}


def _recall(truth: Truth, own: Rated) -> dict[str, Statistic]:
    judged, relevant = truth.judged, truth.relevant
    items, keyphrases = judged.item_of[relevant], judged.keyphrase_of[relevant]
    found = hits_at(own.keyphrases, np.stack([items, keyphrases], 1), own.keyphrases.shape[1])
    back = hits_at(own.items, np.stack([keyphrases, items], 1), own.items.shape[1])
    return {
        "keyphrases": lambda weights: mean(found, weights),
        "items": lambda weights: mean(back, weights),
    }


def ceiling(judged: Judged) -> dict[str, Estimate]:
    """How far the judge itself agrees with people, where they graded pairs.

    Returns:
        ``pearson``, and ``auc`` of the judge's label for pairs that people call relevant; empty without gold.
    """
    known = np.flatnonzero(np.isfinite(judged.gold))
    if len(known) < 2:
        return {}
    labels, gold = judged.labels[known], judged.gold[known]
    over = OverQueries(judged.keyphrase_of[known], _RESAMPLES)
    return {
        "pearson": over.figure(lambda weights: pearson(labels, gold, weights)),
        "auc": over.figure(lambda weights: auc(labels, gold >= RELEVANT, weights)),
    }


def never_shown(truth: Truth) -> tuple[float, float] | None:
    """Share of the relevant pairs, and of the others, that search never showed; None: impressions unknown.

    Where they differ, a missing click says something of search too: clicks are missing not at random.
    """
    impressions = truth.judged.signals.get("impressions")
    if impressions is None or not np.isfinite(impressions).any():
        return None
    unseen, relevant = ~(impressions > 0), truth.relevant
    return mean(unseen[relevant]), mean(unseen[~relevant])
