# SPDX-License-Identifier: Apache-2.0
"""Tune the head ``value``: the target is the first and the last token of the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quorum.decision.spans import TextSpan, locate
from quorum.runtimes.heads import Encoded
from quorum.tasks.attribute import Attribute
from quorum.tune.data import TrainingRow
from quorum.tune.heads.base import HeadTuning, Target
from quorum_contract import NOT_APPLICABLE

if TYPE_CHECKING:
    import torch

NO_VALUE = (0, 0)
"""Target of "n/a": the first token."""


def _labels(attribute: Attribute) -> tuple[str, ...]:
    return ()


def _target(
    labels: Sequence[str], encoded: Encoded, row: TrainingRow, attribute: Attribute
) -> npt.NDArray[np.int64] | None:
    place = _place_of(encoded, row.answers, attribute)
    return None if place is None else np.array(place, np.int64)


def _place_of(encoded: Encoded, answers: Sequence[str], attribute: Attribute) -> tuple[int, int] | None:
    """First and last token of the first acceptable answer that the text has; None: it has none."""
    if answers[0] == NOT_APPLICABLE:
        return NO_VALUE
    for answer in answers:
        for spelling in (answer, *(s for s, value in attribute.synonyms.items() if value == answer)):
            spans = locate(encoded.text, [(spelling, "")])
            if spans and (place := _tokens_of(encoded, spans[0])):
                return place
    return None


def _tokens_of(encoded: Encoded, span: TextSpan) -> tuple[int, int] | None:
    """The tokens that cover a span; None where the input was cut before its end."""
    tokens, starts, ends = encoded.places.T
    covered = tokens[(starts < span.end) & (ends > span.start)]
    if not len(covered) or ends[-1] < span.end:
        return None
    return int(covered[0]), int(covered[-1])


def _loss(logits: torch.Tensor, rows: Sequence[Target], weights: torch.Tensor | None) -> torch.Tensor:
    import torch

    allowed = np.zeros(tuple(logits.shape[:2]), np.bool_)
    for place, row in enumerate(rows):
        allowed[place, 0] = True
        allowed[place, row.encoded.places[:, 0]] = True
    masked = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device)[:, :, None], -1e4)
    target = torch.from_numpy(np.stack([row.target for row in rows])).to(logits.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(masked[:, :, 0], target[:, 0]) + cross_entropy(masked[:, :, 1], target[:, 1])) / 2


VALUE = HeadTuning(labels=_labels, target=_target, loss=_loss, epochs=6)
