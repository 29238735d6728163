# SPDX-License-Identifier: Apache-2.0
"""Score vectors on held-out keyphrases: agreement with the judge, recall of keyphrases, with intervals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.distill.split import same_key
from quorum.evaluation.relevance import (
    OverQueries,
    Statistic,
    agreement,
    hits_at,
    mean,
    pearson,
)
from quorum.evaluation.stats import Estimate, Floats
from quorum.retrieval.judged import RELEVANT, Judged
from quorum.retrieval.vectors import Vectors, cut, exact_top

K = 10
MAX_CANDIDATES = 5000
"""Further keyphrases that recall searches among: enough that being found among the first ten is hard."""


class Rated(NamedTuple):
    """What vectors say of held-out pairs.

    Attributes:
        scores: (P,) of each pair; cosines.
        hits: (n,) whether the keyphrase of each relevant pair is among the item's nearest; empty: not known.
    """

    scores: npt.NDArray[np.float32]
    hits: Floats


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out pairs, and the keyphrases that recall searches among.

    Attributes:
        items: (I,) texts of the items of the pairs.
        keyphrases: (K,) those of the pairs, then further ones.
        item_of: (P,) row of ``items``.
        keyphrase_of: (P,) row of ``keyphrases``.
        labels: (P,) by the judge.
        gold: (P,) by people; None: some pairs have none.
    """

    items: tuple[str, ...]
    keyphrases: tuple[str, ...]
    item_of: npt.NDArray[np.int64]
    keyphrase_of: npt.NDArray[np.int64]
    labels: npt.NDArray[np.float32]
    gold: npt.NDArray[np.float32] | None

    @property
    def relevant(self) -> npt.NDArray[np.bool_]:
        """(P,) by people where they graded all pairs, else by the judge."""
        return np.asarray((self.labels if self.gold is None else self.gold) >= RELEVANT)

    def rate(self, items: Vectors, keyphrases: Vectors, dims: int) -> Rated:
        """Score the pairs by cosine, and search all keyphrases for each item.

        Args:
            items: (I, d), not normalised.
            keyphrases: (K, d).
            dims: What vectors are cut to.
        """
        ours, theirs = cut(items, dims), cut(keyphrases, dims)
        scores = (ours[self.item_of] * theirs[self.keyphrase_of]).sum(1)
        top, _ = exact_top(ours, theirs, K)
        pairs = np.stack([self.item_of, self.keyphrase_of], 1)[self.relevant]
        return Rated(scores, hits_at(top, pairs, min(K, top.shape[1])))

    def figures(self, rated: Rated, before: Rated | None = None) -> dict[str, Estimate]:
        """Figures with intervals over keyphrases; with ``before``, of the paired differences to it.

        ``pearson`` and ``spearman`` are with the judge's labels, ``gold_pearson`` with people's; ``auc`` is
        of :attr:`relevant` pairs; ``recall`` is of their keyphrases among the item's nearest ten.
        """
        pairs = OverQueries(self.keyphrase_of)
        theirs = {} if before is None else self._statistics(before)
        found = {
            name: pairs.difference(ours, theirs[name]) if theirs else pairs.figure(ours)
            for name, ours in self._statistics(rated).items()
        }
        if len(rated.hits):
            hits = OverQueries(self.keyphrase_of[self.relevant])
            ours = partial(_mean_of, rated.hits)
            found["recall"] = (
                hits.figure(ours) if before is None else hits.difference(ours, partial(_mean_of, before.hits))
            )
        return found

    def _statistics(self, rated: Rated) -> dict[str, Statistic]:
        scores, gold = rated.scores, self.gold
        found = agreement(scores, self.labels, self.relevant)
        if gold is not None:
            found["gold_pearson"] = lambda weights: pearson(scores, gold, weights)
        return found


def _mean_of(values: Floats, weights: Floats) -> float:
    return mean(values, weights)


def held_out_of(judged: Judged, further: Sequence[str], seed: int) -> HeldOut:
    """What to judge by.

    Args:
        judged: Held-out pairs.
        further: Keyphrases that recall searches among besides theirs; at most 5 000 are drawn.
        seed: Of that draw.
    """
    items, item_of = np.unique(judged.item_of, return_inverse=True)
    keyphrases, keyphrase_of = np.unique(judged.keyphrase_of, return_inverse=True)
    named = tuple(judged.keyphrases[number] for number in keyphrases)
    known = {same_key(keyphrase) for keyphrase in named}
    others = [keyphrase for keyphrase in dict.fromkeys(further) if same_key(keyphrase) not in known]
    if len(others) > MAX_CANDIDATES:
        others = random.Random(f"candidates {seed}").sample(others, MAX_CANDIDATES)
    return HeldOut(
        tuple(judged.texts[number] for number in items),
        (*named, *others),
        item_of.astype(np.int64),
        keyphrase_of.astype(np.int64),
        judged.labels,
        judged.gold if np.isfinite(judged.gold).all() else None,
    )


def plain_figures(figures: dict[str, Estimate]) -> dict[str, Any]:
    """Figures as JSON values, rounded to what an interval lets one read."""
    return {
        name: {key: round(value, 4) if np.isfinite(value) else None for key, value in asdict(figure).items()}
        for name, figure in figures.items()
    }
