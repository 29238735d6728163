# SPDX-License-Identifier: Apache-2.0
"""Compare two versions of a retriever without gold: judge only the keyphrases that one of them recommends.

What both recommend adds as much to the precision of either, so the difference needs no judgement of it. The
protocol is that of LLMDistill4Ads (arXiv 2508.03628), with an ensemble as the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quorum.evaluation.relevance import OverQueries, mean
from quorum.evaluation.stats import Estimate
from quorum.records import plain
from quorum.retrieval.judged import JudgedPair


@dataclass(frozen=True, slots=True)
class Pooled:
    """What two versions recommend for one item, best first.

    Attributes:
        item: Its id.
        text: Its text.
        category: Its category; may be empty.
        stable: Keyphrases of the stable channel's version.
        canary: Keyphrases of the canary's.
    """

    item: str
    text: str
    category: str
    stable: tuple[str, ...]
    canary: tuple[str, ...]

    @property
    def disputed(self) -> tuple[str, ...]:
        """Keyphrases that one version recommends and the other does not."""
        only = {*self.stable} ^ {*self.canary}
        return tuple(text for text in dict.fromkeys((*self.stable, *self.canary)) if text in only)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverReport:
    """How much more of what the canary recommends is relevant.

    Attributes:
        stable_version: Version of the stable channel; ``canary_version``: of the canary.
        k: How many keyphrases count for an item.
        items: Items that both answered; ``differ``: those for which they recommend different keyphrases.
        disputed: Keyphrases of an item that only one of them recommends.
        judged: Of them, how many the judge could judge; the others count as not relevant.
        difference: Precision@k of the canary less that of stable, expected under the judge's confidence,
            with its 95 % interval, bootstrapped over items.
        only_stable: Mean label of the judged keyphrases that only stable recommends; ``only_canary``
            likewise; None without any.
    """

    stable_version: int
    canary_version: int
    k: int
    items: int
    differ: int
    disputed: int
    judged: int
    difference: Estimate
    only_stable: float | None
    only_canary: float | None

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``not decided``."""
        if not self.difference.excludes_zero:
            return "not decided"
        return "better" if self.difference.value > 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = (name for name in self.__dataclass_fields__)
        return {name: plain(getattr(self, name)) for name in names} | {"verdict": self.verdict}


def difference_of(
    pooled: Sequence[Pooled], versions: tuple[int, int], k: int, judged: Sequence[JudgedPair]
) -> RetrieverReport:
    """Decide between two versions.

    Args:
        pooled: What they recommend, by item, ``k`` keyphrases or fewer each.
        versions: Those of stable and of the canary.
        k: As asked for.
        judged: Judgements of :attr:`Pooled.disputed` keyphrases; one that is missing counts as irrelevant.

    Raises:
        ValueError: There is no item.
    """
    if not pooled:
        raise ValueError("no item was answered by both channels")
    labels = {(pair.item, pair.keyphrase): pair.label for pair in judged}
    gains, only = np.zeros(len(pooled)), {"stable": list[float](), "canary": list[float]()}
    for row, item in enumerate(pooled):
        for side, sign, recommended in (("stable", -1, item.stable), ("canary", 1, item.canary)):
            for text in {*recommended} & {*item.disputed}:
                if (label := labels.get((item.item, text))) is not None:
                    gains[row] += sign * label / k
                    only[side].append(label)
    return RetrieverReport(
        stable_version=versions[0],
        canary_version=versions[1],
        k=k,
        items=len(pooled),
        differ=sum(bool(item.disputed) for item in pooled),
        disputed=sum(len(item.disputed) for item in pooled),
        judged=len(labels),
        difference=OverQueries(np.arange(len(pooled))).figure(lambda weights: mean(gains, weights)),
        only_stable=float(np.mean(only["stable"])) if only["stable"] else None,
        only_canary=float(np.mean(only["canary"])) if only["canary"] else None,
    )
