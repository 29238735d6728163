# SPDX-License-Identifier: Apache-2.0
"""Tune the head ``label``: the target is the place of the label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quorum.runtimes.heads import Encoded
from quorum.tasks.attribute import Attribute
from quorum.tune.data import TrainingRow
from quorum.tune.heads.base import HeadTuning, Target
from quorum_contract import NOT_APPLICABLE

if TYPE_CHECKING:
    import torch


def _labels(attribute: Attribute) -> tuple[str, ...]:
    return (*attribute.values, *([NOT_APPLICABLE] if attribute.allow_na else []))


def _target(
    labels: Sequence[str], encoded: Encoded, row: TrainingRow, attribute: Attribute
) -> npt.NDArray[np.int64]:
    return np.array([labels.index(row.answers[0])], np.int64)


def _loss(logits: torch.Tensor, rows: Sequence[Target], weights: torch.Tensor | None) -> torch.Tensor:
    import torch

    target = torch.from_numpy(np.concatenate([row.target for row in rows])).to(logits.device)
    own = None if weights is None else weights.to(logits.device)
    return torch.nn.functional.cross_entropy(logits, target, weight=own)


LABEL = HeadTuning(labels=_labels, target=_target, loss=_loss, epochs=3, weighs_labels=True)
