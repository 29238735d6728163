# SPDX-License-Identifier: Apache-2.0
"""Losses of a student: Pearson or mean squares of the cosine, nested over dimensions.

The Pearson loss is free of scale and offset, so labels need no calibration to the cosine; a batch whose
labels are all equal has no gradient. Nesting is the Matryoshka loss (Kusupati et al. 2022, arXiv:2205.13147).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from quorum.distill.options import Loss

_LEAST = 1e-8


def pearson_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - Pearson's correlation of (n,) scores and targets; 1 where one of them is constant."""
    a, b = scores - scores.mean(), targets - targets.mean()
    spread = (a.square().sum() * b.square().sum() + _LEAST).sqrt()
    return 1 - (a * b).sum() / spread


def mse_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of the squared differences of (n,) scores and targets."""
    return (scores - targets).square().mean()


LOSSES = {"pearson": pearson_loss, "mse": mse_loss}


def nested_loss(
    loss: Loss, items: torch.Tensor, keyphrases: torch.Tensor, targets: torch.Tensor, dims: Sequence[int]
) -> torch.Tensor:
    """Mean of the loss of the cosines of vectors cut to each number of dimensions.

    Args:
        loss: Which one.
        items: (n, d), not normalised.
        keyphrases: (n, d).
        targets: (n,).
        dims: Numbers of dimensions, at most d.
    """
    parts = [
        LOSSES[loss](nn.functional.cosine_similarity(items[:, :size], keyphrases[:, :size]), targets)
        for size in dims
    ]
    return torch.stack(parts).mean()
