# SPDX-License-Identifier: Apache-2.0
"""Score written texts: ROUGE-L, the mean over references; measures are ROUGE-L, -1 and -2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from quorum.decision.consensus import similarity
from quorum.decision.rouge import rouge_l, rouge_n
from quorum.evaluation.kinds.base import KindScores, Measure, Pairs, mean_of
from quorum.votes.schema import Cell

Rouge = Callable[[str, str], float]


def _score(cell: Cell, value: str, rouge: Rouge = rouge_l) -> float:
    return sum(rouge(value, reference) for reference in cell.gold) / len(cell.gold)


def _agreement(value: str, cast: Sequence[str], text: str) -> float:
    """By the similarity by which texts are chosen."""
    return sum(similarity(value, vote) for vote in cast) / len(cast)


def _measures(pairs: Pairs) -> dict[str, Measure]:
    rouges: dict[str, Rouge] = {
        "rouge_l": rouge_l,
        "rouge_1": partial(rouge_n, n=1),
        "rouge_2": partial(rouge_n, n=2),
    }
    return {
        name: mean_of([0.0 if answer is None else _score(cell, answer, rouge) for cell, answer in pairs])
        for name, rouge in rouges.items()
    }


TEXT = KindScores("rouge_l", "ROUGE-L of texts", _score, _agreement, _measures)
