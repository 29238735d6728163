# SPDX-License-Identifier: Apache-2.0
"""Choose one of several written texts: weighted minimum Bayes risk.

The text that is most similar to all of them, each by the weight of its member, wins (Kobayashi,
"Frustratingly Easy Model Ensemble for Abstractive Summarization", EMNLP 2018, doi:10.18653/v1/D18-1449). A
text counts for itself, with similarity 1: otherwise the member with the highest weight could not win alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quorum.decision.cell import ANSWERED, RELATIVE_TIE, Ballot
from quorum.decision.rouge import rouge_l, rouge_n

Similarity = Callable[[str, str], float]


def similarity(a: str, b: str) -> float:
    """How alike two texts are, in [0, 1], the same both ways: the mean of ROUGE-1 and ROUGE-L F1."""
    return 1.0 if a == b else (rouge_n(a, b, 1) + rouge_l(a, b)) / 2.0


def expected_similarity(
    weights: Sequence[float], texts: Sequence[str | None], alike: Similarity = similarity
) -> list[float]:
    """Per member, the mean similarity of its text to all texts by their members' weights; 0 without a text.

    Args:
        weights: One per member, >= 0; if those of all members with a text are 0, each counts 1.
        texts: One per member; None: it has none.
        alike: Similarity of two texts, in [0, 1], the same both ways, 1 for equal texts.
    """
    present = [at for at, text in enumerate(texts) if text is not None]
    counted = {at: weights[at] for at in present}
    if not sum(counted.values()):
        counted = dict.fromkeys(present, 1.0)
    total = sum(counted.values())
    expected = [0.0] * len(texts)
    known: dict[tuple[str, str], float] = {}
    for at in present:
        for other, weight in counted.items():
            a, b = sorted((str(texts[at]), str(texts[other])))
            if (a, b) not in known:
                known[a, b] = 1.0 if a == b else alike(a, b)
            expected[at] += weight * known[a, b] / total
    return expected


def decide_text(
    weights: Sequence[float], ballots: Sequence[Ballot], alike: Similarity = similarity
) -> tuple[str, float]:
    """Choose one of the texts.

    Args:
        weights: One per member, >= 0.
        ballots: Per member, its text and status.
        alike: As in :func:`expected_similarity`.

    Returns:
        The text and its agreement in [0, 1]: its mean similarity to all texts by weight, which is no
        probability of being right. A tie goes to the member with the highest weight, then to the first.
        ``("", 0.0)`` if all members abstained.
    """
    texts = [value if status == ANSWERED else None for value, status in ballots]
    if all(text is None for text in texts):
        return "", 0.0
    expected = expected_similarity(weights, texts, alike)
    bar = max(expected) - RELATIVE_TIE
    best = max(
        (at for at, text in enumerate(texts) if text is not None and expected[at] >= bar),
        key=lambda at: (weights[at], -at),
    )
    return ballots[best][0], min(1.0, expected[best])
