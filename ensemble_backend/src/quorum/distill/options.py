# SPDX-License-Identifier: Apache-2.0
"""Settings of distilling, and the refusal of those that are impossible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from quorum_contract.errors import QuorumError

Method = Literal["adapter", "layers"]
Loss = Literal["pearson", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
LOSSES: tuple[Loss, ...] = get_args(Loss)
Task = Literal["judge", "clicks", "relevance"]
TASKS: tuple[Task, ...] = get_args(Task)
DIMS = (384, 128, 64)
MIN_BATCH, MIN_TOKENS, MAX_TOKENS, MAX_POSITION_BIAS = 8, 8, 512, 5
_WEIGHTS: Mapping[Task, float] = {"judge": 1.0, "clicks": 0.3, "relevance": 0.3}


class DistillOptionError(QuorumError, ValueError):
    """A setting of distilling is no possible one; the message names it."""

    code = "DISTILL_OPTION_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillOptions:
    """Settings of distilling.

    Attributes:
        method: ``adapter``: a matrix on the base's vectors; ``layers``: its upper half.
        loss: ``pearson``: 1 - correlation of a batch, free of scale; ``mse``: of cosine and label.
        direct: Leave the cross-encoder out: the student learns the judged pairs alone.
        dims: Dimensions that vectors may be cut to, the largest first; the base's own is the upper limit.
        weights: Task -> weight of its loss; a task without data, or of weight 0, is left out.
        position_bias: Clicks: a buyer looks at position p with chance 1 / p ** position_bias.
        share: Of the queries that is held out.
        pool: Items that pairs are mined for, at most; each gets three.
        epochs: Of the student; None: 6 for the adapter, 1 for layers.
        learning_rate: Of the student; None: by the method.
        assistant_epochs: Of the cross-encoder.
        batch: Pairs per step.
        max_tokens: Longest text; the rest is not read.
        seed: Of every draw.
        force: Replace a folder that was distilled before.
    """

    method: Method = "adapter"
    loss: Loss = "pearson"
    direct: bool = False
    dims: tuple[int, ...] = DIMS
    weights: Mapping[Task, float] = field(default_factory=lambda: dict(_WEIGHTS))
    position_bias: float = 1.0
    share: float = 0.2
    pool: int = 2000
    epochs: int | None = None
    learning_rate: float | None = None
    assistant_epochs: int = 2
    batch: int = 64
    max_tokens: int = 64
    seed: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        """Raise DistillOptionError for the first setting that is impossible."""
        for problem in (*self._problems(), *self._problems_of_weights()):
            raise DistillOptionError(problem)

    def _problems(self) -> Iterator[str]:
        if self.method not in METHODS:
            yield f"--method {self.method}: choose one of {', '.join(METHODS)}"
        if self.loss not in LOSSES:
            yield f"--loss {self.loss}: choose one of {', '.join(LOSSES)}"
        if not self.dims or list(self.dims) != sorted({*self.dims}, reverse=True) or self.dims[-1] < 2:
            given = ",".join(map(str, self.dims))
            yield f"--dims {given}: give numbers from 2, the largest first, as in 384,128,64"
        if not 0 < self.share < 1:
            yield f"--heldout-share {self.share:g}: give a share between 0 and 1"
        if self.batch < MIN_BATCH:
            yield f"--batch {self.batch}: a correlation needs {MIN_BATCH} pairs or more"
        rate = self.learning_rate
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            yield f"--learning-rate {rate:g}: give a number above 0"
        if not MIN_TOKENS <= self.max_tokens <= MAX_TOKENS:
            yield f"--max-tokens {self.max_tokens}: give {MIN_TOKENS} to {MAX_TOKENS}"
        for name in ("pool", "assistant_epochs", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"--{name.replace('_', '-')} {value}: give 1 or more"

    def _problems_of_weights(self) -> Iterator[str]:
        for task, weight in self.weights.items():
            if task not in TASKS:
                yield f"--weights {task}: the tasks are {', '.join(TASKS)}"
            if not (math.isfinite(weight) and weight >= 0):
                yield f"--weights {task}={weight:g}: give a number from 0"
        if not any(self.weights.values()):
            yield "--weights: all are 0; give one task a weight above 0"
        if not 0 <= self.position_bias <= MAX_POSITION_BIAS:
            yield f"--position-bias {self.position_bias:g}: give a number from 0 to {MAX_POSITION_BIAS}"
