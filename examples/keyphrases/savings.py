# SPDX-License-Identifier: Apache-2.0
"""How many questions an encoder could answer in place of the whole ensemble, at a stated agreement with it.

Below a low score the encoder says irrelevant, above a high one relevant; what lies between is asked of the
ensemble. Both thresholds are chosen on other keyphrases than those that are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from quorum.evaluation.relevance import OverQueries, interval, mean
from quorum.evaluation.stats import Estimate
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.judged import RELEVANT, Judged
from quorum.retrieval.vectors import cut
from quorum.runtimes.encoder_folder import MODEL_FILE, TOKENIZER_FILE, read_encoder
from quorum.runtimes.encoder_input import LOGITS, EncoderInput
from quorum.runtimes.onnx_network import open_onnx

AGREEMENT = 0.98
FOLDS = 5
_RESAMPLES = 1000
_BATCH = 32

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Savings:
    """What an encoder in front of the ensemble would save.

    Attributes:
        saved: Share of the pairs that it would answer alone, with a 95 % interval over keyphrases.
        agreement: Share of all pairs whose answer (relevant or not) would be that of the whole ensemble.
        pairs: How many.
        keyphrases: How many.
    """

    saved: Estimate
    agreement: Estimate
    pairs: int
    keyphrases: int

    def __str__(self) -> str:
        """One line for people."""
        saved, agreed = (f"{f.value:.1%} [{f.low:.1%}, {f.high:.1%}]" for f in (self.saved, self.agreement))
        return f"would answer {saved} of {self.pairs} pairs alone; {agreed} of all as the whole vote"


def thresholds(scores: Scores, relevant: npt.NDArray[np.bool_], agreement: float) -> tuple[float, float]:
    """The (low, high) scores between which the ensemble is asked, that leave least to it.

    Args:
        scores: (n,) of the encoder.
        relevant: (n,) answers of the ensemble.
        agreement: Share of all n pairs that must have the ensemble's answer.
    """
    order = np.argsort(scores, kind="stable")
    ranked, truth = scores[order], relevant[order]
    # Cuts only between different scores: at cut c the c lowest are called irrelevant, or the others relevant.
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(ranked)) + 1, [len(ranked)]])
    low_errors = np.concatenate([[0], np.cumsum(truth)])[cuts]
    high_errors = np.concatenate([np.cumsum(~truth[::-1])[::-1], [0]])[cuts]
    allowed = int((1 - agreement) * len(scores) + 1e-9)
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


def measure(scores: Scores, judged: Judged, agreement: float = AGREEMENT, seed: int = 0) -> Savings:
    """Choose thresholds on four fifths of the keyphrases and count on the last fifth, five times."""
    relevant = np.asarray(judged.labels >= RELEVANT)
    names, of = np.unique(judged.keyphrase_of, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(names)) % FOLDS)[of]
    alone, same = np.zeros(len(scores)), np.ones(len(scores))
    for number in range(FOLDS):
        here = fold == number
        low, high = thresholds(scores[~here], relevant[~here], agreement)
        answered = here & ((scores < low) | (scores > high))
        alone[answered] = 1
        same[answered] = (scores[answered] > high) == relevant[answered]
    draws = OverQueries(judged.keyphrase_of, _RESAMPLES).draws(
        lambda weights: mean(alone, weights), lambda weights: mean(same, weights)
    )
    figures = [interval(float(v.mean()), draws[:, n]) for n, v in enumerate((alone, same))]
    return Savings(figures[0], figures[1], len(scores), len(names))


def cosines(student: Path, judged: Judged) -> Scores:
    """(P,) cosine of each pair by a student, at all its dimensions."""
    encoder = TextEncoder(student)
    items = cut(encoder.items(judged.texts), encoder.dims)
    keyphrases = cut(encoder.keyphrases(judged.keyphrases), encoder.dims)
    found: Any = np.einsum("pd,pd->p", items[judged.item_of], keyphrases[judged.keyphrase_of])
    return np.asarray(found, np.float64)


def chances(cross_encoder: Path, judged: Judged) -> Scores:
    """(P,) log-odds of the best value by a cross-encoder, as a member computes them."""
    described = read_encoder(cross_encoder)
    inputs = EncoderInput(Tokenizer.from_file(str(cross_encoder / TOKENIZER_FILE)), described)
    network = open_onnx(cross_encoder / MODEL_FILE, "openvino")
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
