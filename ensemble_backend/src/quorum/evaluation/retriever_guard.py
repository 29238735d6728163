# SPDX-License-Identifier: Apache-2.0
"""Compare a new retriever with the running one on held-out judged pairs: agreement, and recall.

Either alone misleads: training on judgements can gain agreement and lose recall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.evaluation.relevance import OverQueries, hits_at, mean, pearson
from quorum.evaluation.stats import Estimate, Floats
from quorum.retrieval.encode import TextEncoder, encode_in_parts
from quorum.retrieval.filters import normal_form
from quorum.retrieval.index import Index, open_index
from quorum.retrieval.judged import RELEVANT, Judged
from quorum.retrieval.keyphrases import Keyphrases
from quorum.retrieval.manifest import read_retriever
from quorum.retrieval.vectors import Vectors, cut, exact_top

K = 10

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RetrieverComparison:
    """Two versions on the same judged pairs.

    Attributes:
        agreement: Pearson's correlation of cosine and label: of the new version; ``agreement_running``: of
            the running one; ``agreement_change``: the difference with its 95 % interval, bootstrapped over
            keyphrases.
        recall: Share of the relevant pairs whose keyphrase is among the item's :data:`K` nearest of the
            version's own and the held-out keyphrases; others as for ``agreement``. Unjudged keyphrases may
            be just as right, so it is a lower bound.
        pairs: Judged pairs.
        relevant: Of them, relevant ones.
        queries: Different keyphrases among them.
        limits: By how much agreement and recall may fall.
    """

    agreement: float
    agreement_running: float
    agreement_change: Estimate
    recall: float
    recall_running: float
    recall_change: Estimate
    pairs: int
    relevant: int
    queries: int
    limits: tuple[float, float]

    @property
    def warning(self) -> str:
        """What falls by more than the deployment allows; "" if nothing does."""
        falls = (
            ("agreement with the judgements", self.agreement_change, self.limits[0], "max_less_agreement"),
            (f"recall@{K} of keyphrases", self.recall_change, self.limits[1], "max_less_recall"),
        )
        return "; ".join(
            f"{name} falls by {-change.value:.3f}, more than retriever.{rule} {limit:g}"
            for name, change, limit, rule in falls
            if not change.value >= -limit
        )

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"agreement {self.agreement:.3f} against {self.agreement_running:.3f} of the running version,"
            f" {_change(self.agreement_change)}; recall@{K} {self.recall:.3f} against"
            f" {self.recall_running:.3f}, {_change(self.recall_change)}; {self.pairs} judged pairs of"
            f" {self.queries} keyphrases, {self.relevant} relevant"
        )


class Encoders(NamedTuple):
    """A version's encoder, as texts are encoded when it serves.

    Attributes:
        items: In the precision of serving.
        keyphrases: In that of ``quorum index``, whose vectors a search compares with.
    """

    items: TextEncoder
    keyphrases: TextEncoder


def compare_retrievers(
    new: Path,
    running: Path,
    judged: Judged,
    limits: tuple[float, float],
    opened: Callable[[Path], Encoders],
    note: Note,
) -> RetrieverComparison:
    """Compare the version of a folder with the running one's, both encoded here.

    Args:
        new: A version's folder.
        running: Another one's.
        judged: Held-out judged pairs.
        limits: By how much agreement and recall may fall.
        opened: Opens the encoders of a version's folder.
        note: Takes lines on the progress: an encoder reads about a hundred texts a second per core.

    Raises:
        ValueError: The pairs have no relevant one, or labels that do not differ.
        ManifestError: An encoder or an index cannot be opened.
    """
    relevant = np.flatnonzero(judged.labels >= RELEVANT)
    if not len(relevant) or judged.labels.min() == judged.labels.max():
        raise ValueError(
            "a comparison needs relevant and irrelevant pairs, and all have the same label; judge more pairs"
        )
    measured = [_measured(folder, judged, relevant, opened(folder), note) for folder in (new, running)]
    scores, hits = zip(*measured, strict=True)
    by_pair = OverQueries(judged.keyphrase_of)
    by_relevant = OverQueries(judged.keyphrase_of[relevant])

    def agrees(own: Floats) -> Callable[[Floats], float]:
        return lambda weights: pearson(own, judged.labels, weights)

    def finds(own: Floats) -> Callable[[Floats], float]:
        return lambda weights: mean(own, weights)

    return RetrieverComparison(
        agreement=pearson(scores[0], judged.labels),
        agreement_running=pearson(scores[1], judged.labels),
        agreement_change=by_pair.difference(agrees(scores[0]), agrees(scores[1])),
        recall=mean(hits[0]),
        recall_running=mean(hits[1]),
        recall_change=by_relevant.difference(finds(hits[0]), finds(hits[1])),
        pairs=len(judged),
        relevant=len(relevant),
        queries=len(np.unique(judged.keyphrase_of)),
        limits=limits,
    )


def _measured(
    folder: Path, judged: Judged, relevant: npt.NDArray[np.intp], encoders: Encoders, note: Note
) -> tuple[Floats, Floats]:
    """(P,) cosine of each pair, and (R,) whether each relevant pair's keyphrase was found."""
    manifest = read_retriever(folder)
    vectors = encode_in_parts(encoders.items.items, judged.texts, f"{folder}: items", note)
    items = cut(vectors, manifest.dims)
    vectors = encode_in_parts(
        encoders.keyphrases.keyphrases, judged.keyphrases, f"{folder}: keyphrases", note
    )
    heldout = cut(vectors, manifest.dims)
    cosines = np.einsum("pd,pd->p", items[judged.item_of], heldout[judged.keyphrase_of]).astype(np.float64)
    asked, rows = np.unique(judged.item_of[relevant], return_inverse=True)
    # Spellings of one keyphrase are one, as in the index.
    forms, first, form_of = np.unique(
        [normal_form(text) for text in judged.keyphrases], return_index=True, return_inverse=True
    )
    # As if these were blocked: the others fit.
    shared = ~Keyphrases(folder, forms.tolist()).fitting("").mask
    top = _top(items[asked], heldout[first], open_index(folder, manifest), shared)
    wanted = form_of[judged.keyphrase_of[relevant]]
    return cosines, hits_at(top, np.stack([rows, wanted], 1), top.shape[1])


def _top(
    items: Vectors, heldout: Vectors, index: Index, shared: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """(i, k) numbers of the nearest keyphrases: of held-out forms; the index' others are -1.

    ``shared`` of the index' keyphrases are held-out ones too: they count once, by the vector that the encoder
    gives them now.
    """
    own, own_scores = index(items, K + int(shared.sum()))
    own_scores = np.where((own < 0) | shared[own], -np.inf, own_scores)
    found, scores = exact_top(items, heldout, K)
    numbers = np.concatenate([found, np.full(own.shape, -1)], 1)
    order = np.argsort(-np.concatenate([scores, own_scores], 1), axis=1, kind="stable")[:, :K]
    return np.take_along_axis(numbers, order, 1)


def _change(figure: Estimate) -> str:
    return f"{figure.value:+.3f} (95 % interval {figure.low:+.3f} to {figure.high:+.3f})"
