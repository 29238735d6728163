# SPDX-License-Identifier: Apache-2.0
"""ROUGE-1, ROUGE-2 and ROUGE-L F1 of two texts (Lin, "ROUGE", 2004, aclanthology.org/W04-1013).

Words are runs of letters and digits in lower case, of any script, and are not stemmed. On English text the
figures are those of the package `rouge-score` without stemmer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from quorum.decision.f1 import f1

_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=4096)
def words_of(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(_WORD.findall(text.lower()))


def rouge_n(candidate: str, reference: str, n: int) -> float:
    """F1 in [0, 1] over the n-grams that two texts share, counted; 0 if one has none."""
    ours, theirs = _ngrams(candidate, n), _ngrams(reference, n)
    return f1((ours & theirs).total(), ours.total(), theirs.total(), empty=0.0)


def rouge_l(candidate: str, reference: str) -> float:
    """F1 in [0, 1] over the longest common subsequence of words; 0 if a text has no words."""
    ours, theirs = words_of(candidate), words_of(reference)
    return f1(_common(ours, theirs), len(ours), len(theirs), empty=0.0)


def _ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = words_of(text)
    return Counter(words[at : at + n] for at in range(len(words) - n + 1))


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit by bit in one integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << at
    full = (1 << len(a)) - 1
    open_ = full
    for word in b:
        matches = open_ & places.get(word, 0)
        open_ = ((open_ + matches) | (open_ - matches)) & full
    return len(a) - open_.bit_count()
