# SPDX-License-Identifier: Apache-2.0
"""Count how many pairs an encoder could answer in place of the whole ensemble, at a stated agreement with it.

Below a low score the encoder says irrelevant, above a high one relevant; what lies between is asked of the
ensemble. Both thresholds are chosen on one half of the keyphrases, and counted on the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.evaluation.relevance import OverQueries, interval, mean
from quorum.evaluation.stats import Estimate, Floats, binomial_tail
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.judged import RELEVANT, Judged
from quorum.retrieval.vectors import cut
from quorum.runtimes.encoder_folder import MODEL_FILE, TOKENIZER_FILE, read_encoder
from quorum.runtimes.encoder_input import LOGITS, EncoderInput
from quorum.runtimes.onnx_network import open_onnx

AGREEMENT = 0.98
PER_REQUEST = 16
"""Keyphrases that share a request of `quorum judge`."""
_SURE = 0.05
_HALVES = 2
_RESAMPLES = 1000
_BATCH = 32

Truth = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Savings:
    """What an encoder in front of the ensemble would save.

    Attributes:
        saved: Share of the pairs that it would answer alone, with a 95 % interval over keyphrases.
        agreement: Share of all pairs whose answer (relevant or not) would be that of the whole ensemble.
        aim: The agreement that the thresholds were chosen for.
        requests: Share of the requests, of up to :data:`PER_REQUEST` keyphrases of one item, that fall away.
        pairs: How many.
        keyphrases: How many.
    """

    saved: Estimate
    agreement: Estimate
    aim: float
    requests: float
    pairs: int
    keyphrases: int

    def __str__(self) -> str:
        """One line for people."""
        saved, agreed = (f"{f.value:.1%} [{f.low:.1%}, {f.high:.1%}]" for f in (self.saved, self.agreement))
        kept = "is" if self.agreement.value >= self.aim else "misses"
        return (
            f"would answer {saved} of {self.pairs} pairs alone, and save {self.requests:.1%} of the requests;"
            f" {agreed} of all answers as the whole vote, which {kept} the {self.aim:.0%} aimed at"
        )


def thresholds(scores: Floats, relevant: Truth, agreement: float) -> tuple[float, float]:
    """The (low, high) scores between which the ensemble is asked, that leave least to it.

    So few answers differ from the ensemble's that a true agreement below the one wanted has a chance of at
    most 5 % to show so few (exact binomial test); with less than about 150 pairs none can be that sure.

    Args:
        scores: (n,) of the encoder.
        relevant: (n,) answers of the ensemble.
        agreement: Share of all n pairs that must have the ensemble's answer, below 1.
    """
    return cuts_for(scores, relevant, _allowed(len(scores), 1 - agreement))


def cuts_for(scores: Floats, relevant: Truth, allowed: int) -> tuple[float, float]:
    """The (low, high) scores outside of which at most ``allowed`` pairs get another answer; -1: all asked."""
    if allowed < 0:
        return -np.inf, np.inf
    order = np.argsort(scores, kind="stable")
    ranked, truth = scores[order], relevant[order]
    # Cuts only between different scores: at cut c the c lowest are called irrelevant, or the others relevant.
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(ranked)) + 1, [len(ranked)]])
    low_errors = np.concatenate([[0], np.cumsum(truth)])[cuts]
    high_errors = np.concatenate([np.cumsum(~truth[::-1])[::-1], [0]])[cuts]
    best, chosen = -1, (0, len(cuts) - 1)
    for high in range(len(cuts)):
        spare = allowed - high_errors[high]
        if spare < 0:
            continue
        low = min(int(np.searchsorted(low_errors, spare, "right")) - 1, high)
        answered = int(cuts[low] + len(scores) - cuts[high])
        if answered > best:
            best, chosen = answered, (low, high)
    ends = np.concatenate([[-np.inf], (ranked[1:] + ranked[:-1]) / 2, [np.inf]])
    return float(ends[cuts[chosen[0]]]), float(ends[cuts[chosen[1]]])


def _allowed(count: int, share: float) -> int:
    """The most of ``count`` that are surely less than a share; -1: not even none."""
    found = -1
    while 1 - binomial_tail(found + 2, count, share) <= _SURE:
        found += 1
    return found


def measure_savings(scores: Floats, judged: Judged, agreement: float = AGREEMENT, seed: int = 0) -> Savings:
    """Choose thresholds on one half of the keyphrases and count on the other; then the other way round.

    Args:
        scores: (P,) of the encoder, of any scale.
        judged: P pairs that it was not taught; a label of 0.5 or more is the ensemble's "relevant".
        agreement: Wanted with the whole ensemble, below 1.
        seed: Of the halves.
    """
    relevant = np.asarray(judged.labels >= RELEVANT)
    names, of = np.unique(judged.keyphrase_of, return_inverse=True)
    half = (np.random.default_rng(seed).permutation(len(names)) % _HALVES)[of]
    alone, same = np.zeros(len(scores)), np.ones(len(scores))
    for number in range(_HALVES):
        here = half == number
        low, high = thresholds(scores[~here], relevant[~here], agreement)
        answered = here & ((scores < low) | (scores > high))
        alone[answered] = 1
        same[answered] = (scores[answered] > high) == relevant[answered]
    draws = OverQueries(judged.keyphrase_of, _RESAMPLES).draws(
        lambda weights: mean(alone, weights), lambda weights: mean(same, weights)
    )
    figures = [interval(float(v.mean()), draws[:, n]) for n, v in enumerate((alone, same))]
    left = _requests(judged.item_of[alone == 0]) / max(1, _requests(judged.item_of))
    return Savings(figures[0], figures[1], agreement, 1 - left, len(scores), len(names))


def _requests(items: npt.NDArray[np.int32]) -> int:
    """Requests for pairs of these items."""
    return int(np.ceil(np.unique(items, return_counts=True)[1] / PER_REQUEST).sum())


def score_by_student(student: Path, judged: Judged) -> Floats:
    """(P,) cosine of each pair by a student, at all its dimensions.

    Raises:
        ManifestError: The student cannot be opened.
    """
    encoder = TextEncoder(student)
    items = cut(encoder.items(judged.texts), encoder.dims)
    keyphrases = cut(encoder.keyphrases(judged.keyphrases), encoder.dims)
    found: Any = np.einsum("pd,pd->p", items[judged.item_of], keyphrases[judged.keyphrase_of])
    return np.asarray(found, np.float64)


def score_by_cross_encoder(folder: Path, judged: Judged) -> Floats:
    """(P,) log-odds of the best value by a cross-encoder of ``quorum distill``, as a member computes them."""
    from tokenizers import Tokenizer

    described = read_encoder(folder)
    inputs = EncoderInput(Tokenizer.from_file(str(folder / TOKENIZER_FILE)), described)
    network = open_onnx(folder / MODEL_FILE, "openvino")
    rows = [
        inputs.encode(judged.texts[item], attribute=judged.keyphrases[keyphrase])
        for item, keyphrase in zip(judged.item_of, judged.keyphrase_of, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row].ids))
    found = np.empty(len(rows))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        logits = network.compute(*inputs.pad([rows[row] for row in batch]), LOGITS)
        found[batch] = logits[:, 1] - logits[:, 0]
    return found
