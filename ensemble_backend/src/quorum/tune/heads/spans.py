# SPDX-License-Identifier: Apache-2.0
"""Tune the head ``spans``: the target is a tag for each word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quorum.decision.spans import TextSpan, laid_out, load_pairs, locate
from quorum.runtimes.heads import Encoded
from quorum.runtimes.heads.spans import OUTSIDE_TAG, tags_of
from quorum.tasks.attribute import Attribute
from quorum.tune.data import TrainingRow
from quorum.tune.heads.base import HeadTuning, Target
from quorum_contract.fields import one_line

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Target of a token that has none."""


def _labels(attribute: Attribute) -> tuple[str, ...]:
    return tags_of(attribute.values)


def _target(
    labels: Sequence[str], encoded: Encoded, row: TrainingRow, attribute: Attribute
) -> npt.NDArray[np.int64] | str:
    """(t,) the tag of each token, or why the row has none."""
    spans = laid_out(row.text, locate(row.text, load_pairs(row.answers[0])) or [])
    places = {label: place for place, label in enumerate(labels)}
    tags = np.full(len(encoded.ids), IGNORED, np.int64)
    starts = {start for _, start, _ in encoded.places.tolist()}
    ends = {end for _, _, end in encoded.places.tolist()}
    text = one_line(row.text)
    for span in spans:
        if span.start not in starts or span.end not in ends:
            return (
                f"the span {text[span.start : span.end]!r:.80} begins or ends within a word of {text!r:.80}"
            )
    for token, start, _ in encoded.places.tolist():
        if token < 0:
            continue
        over = next((span for span in spans if span.start <= start < span.end), None)
        tags[token] = places[_tag_name(over, start)]
    return tags


def _tag_name(span: TextSpan | None, start: int) -> str:
    if span is None:
        return OUTSIDE_TAG
    return f"{'B' if span.start == start else 'I'}-{span.type}"


def _loss(logits: torch.Tensor, rows: Sequence[Target], weights: torch.Tensor | None) -> torch.Tensor:
    import torch

    tags = np.full(tuple(logits.shape[:2]), IGNORED, np.int64)
    for place, row in enumerate(rows):
        tags[place, : len(row.target)] = row.target
    flat = torch.from_numpy(tags.ravel()).to(logits.device)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), flat, ignore_index=IGNORED)


_RATE = 3e-4
"""Three times the rate of other heads gained 2 points of F1 on QueryNER."""

SPANS = HeadTuning(labels=_labels, target=_target, loss=_loss, epochs=3, learning_rate=_RATE)
