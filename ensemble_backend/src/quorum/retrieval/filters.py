# SPDX-License-Identifier: Apache-2.0
"""Choose among the keyphrases that a search found: pure functions on candidates, the best first.

Each gives a mask of the candidates to keep.
"""

from __future__ import annotations

import re
from pathlib import Path
from unicodedata import category

import numpy as np
import numpy.typing as npt

from quorum.retrieval.manifest import ManifestError
from quorum.retrieval.vectors import Vectors
from quorum.tasks.normalise import clean

Mask = npt.NDArray[np.bool_]
# Not all that is no letter: marks of many scripts are none, and "+" and "#" tell things apart.
_BREAK = re.compile(r"[\s!\"&()*,\-./:;<=>?@\[\\\]^_`{|}~]+")
_APOSTROPHE = re.compile("['\u2019]")
_SHORTEST_PLURAL = 4


def normal_form(keyphrase: str) -> str:
    """The form in which keyphrases that are the same for a buyer are equal.

    Without invisible characters (category Cf: of no width, soft hyphens, directions), Unicode NFKC, case
    folded, words without punctuation around them and without apostrophes, English plurals in -s as singular;
    the order of words stays, as a shirt dress is no dress shirt.
    """
    folded = _APOSTROPHE.sub("", clean(_seen(keyphrase)).casefold())
    return " ".join(map(_singular, filter(None, _BREAK.split(folded)))) or folded


def _seen(text: str) -> str:
    """A text without invisible characters (category Cf)."""
    return text if text.isascii() else "".join(sign for sign in text if category(sign) != "Cf")


def _singular(word: str) -> str:
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > _SHORTEST_PLURAL:
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1]


def category_form(name: str) -> str:
    """The form in which equal categories are equal: case folded, single spaces, nothing invisible."""
    return " ".join(_seen(name).split()).casefold()


def read_blocklist(path: Path) -> frozenset[str]:
    """The normal forms of a file of keyphrases that are never recommended, one a line.

    Raises:
        ManifestError: The file cannot be read.
    """
    try:
        # Spreadsheets write a byte order mark.
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"the blocklist {path} cannot be read ({error}); write keyphrases into it as UTF-8, one a line"
        ) from error
    return frozenset(filter(None, map(normal_form, lines)))


def first_of_each(forms: npt.NDArray[np.int32]) -> Mask:
    """The first candidate of each number; equal normal forms have equal numbers."""
    _, first = np.unique(forms, return_index=True)
    kept = np.zeros(len(forms), np.bool_)
    kept[first] = True
    return kept


def far_apart(vectors: Vectors, cosine: float, limit: int) -> Mask:
    """Candidates whose cosine to each one kept before is below ``cosine``; at most ``limit`` are kept.

    Args:
        vectors: (n, d), each of length 1.
        cosine: From which two count as the same.
        limit: How many are wanted.
    """
    kept = np.zeros(len(vectors), np.bool_)
    chosen = np.empty((limit, vectors.shape[1]), np.float32)
    count = 0
    for at, vector in enumerate(vectors):
        if count == limit:
            break
        if not count or float((chosen[:count] @ vector).max()) < cosine:
            chosen[count], kept[at], count = vector, True, count + 1
    return kept
