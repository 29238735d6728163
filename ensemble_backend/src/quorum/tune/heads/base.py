# SPDX-License-Identifier: Apache-2.0
"""What tuning must know of an encoder's head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.runtimes.heads import Encoded
from quorum.tasks.attribute import Attribute
from quorum.tune.data import TrainingRow

if TYPE_CHECKING:
    import torch


class Target(NamedTuple):
    """One input and its target.

    ``target`` is, for the head ``label``, (1,) the place of the label; for ``spans``, (t,) the tag of each
    token or -100; for ``value``, (2,) first and last token, (0, 0) for "n/a".
    """

    encoded: Encoded
    target: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeadTuning:
    """How an encoder of one head is tuned.

    Attributes:
        labels: Labels of the logits for an attribute; () where logits are of places.
        target: The target of a row by the labels; None: the row is left out; a text: why none can be made.
        loss: Mean cross-entropy of float32 logits (rows, labels) or (rows, length, labels), by the weights of
            labels, if any.
        epochs: Usual number.
        learning_rate: Usual one of the method ``full``.
        weighs_labels: Whether rare labels can count as much as others; each target is one label then.
    """

    labels: Callable[[Attribute], tuple[str, ...]]
    target: Callable[[Sequence[str], Encoded, TrainingRow, Attribute], npt.NDArray[np.int64] | str | None]
    loss: Callable[[torch.Tensor, Sequence[Target], torch.Tensor | None], torch.Tensor]
    epochs: int
    learning_rate: float = 1e-4
    weighs_labels: bool = False
