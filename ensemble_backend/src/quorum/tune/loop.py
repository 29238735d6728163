# SPDX-License-Identifier: Apache-2.0
"""One training loop for encoders and LLM adapters: batches by length, checkpoints, early stopping."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quorum.files import replacing
from quorum.tune.interrupts import TrainingInterrupted, whole
from quorum_contract.errors import QuorumError

if TYPE_CHECKING:
    import torch

CHECKPOINT_FOLDER = ".checkpoint"
_CHECKPOINT_FILE = "training.pt"
_POOL = 32
"""Batches that are drawn together and sorted by length: padding is short, and batches stay random."""
_WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
_CLIP = 1.0
"""Largest norm of the gradient."""
_SEEDS = 2**32
FIRST_CHECKPOINT_S = 20.0
CHECKPOINT_S = 30.0
"""Seconds of training between two checkpoints, where no number of steps is reached before."""
_WRITING = 0.1
"""Largest share of the time that is spent on writing checkpoints by time: whole LLMs are large."""


class TrainingError(QuorumError, RuntimeError):
    """Training cannot go on; the message says why and what to do."""

    code = "TRAINING_REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """Settings of a training run.

    Attributes:
        epochs: Passes over the rows.
        batch: Rows per step.
        learning_rate: The highest one, of a one-cycle schedule (Smith and Topin, arXiv 1708.07120).
        weight_decay: Of AdamW.
        patience: Epochs without a better score after which training ends.
        checkpoint_every: Steps between checkpoints, which are also written by time (:data:`CHECKPOINT_S`);
            0: none.
        bfloat16: Multiply matrices in bfloat16 (autocast); weights and sums stay float32.
        seed: Of the order of rows, and of dropout.
    """

    epochs: int
    batch: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    patience: int = 3
    checkpoint_every: int = 200
    bfloat16: bool = False
    seed: int = 0


class Step(NamedTuple):
    """Progress after a step.

    Attributes:
        done: Steps done of ``total``.
        loss: Mean of the last steps.
        rate: Rows per second.
        eta: Seconds left, without evaluation.
        score: The best on held-out rows so far; None before the first evaluation.
    """

    done: int
    total: int
    loss: float
    rate: float
    eta: float
    score: float | None


class Trained(NamedTuple):
    """A finished run, whose model has the best weights.

    Attributes:
        steps: Made.
        best_step: With the best score on held-out rows.
        best_score: That score.
        seconds: Wall clock, over all interrupted runs.
        resumed_at: The step of the checkpoint that this run began with; 0: at the start.
    """

    steps: int
    best_step: int
    best_score: float
    seconds: float
    resumed_at: int


LossOf = Callable[[Sequence[int]], "torch.Tensor"]
"""The loss of a batch, of rows by number; differentiable, scalar."""
Progress = Callable[[Step], None]


def train(
    model: torch.nn.Module,
    loss_of: LossOf,
    lengths: Sequence[int],
    score: Callable[[], float],
    options: LoopOptions,
    folder: Path,
    fingerprint: str,
    progress: Progress | None = None,
    weights: Sequence[float] = (),
) -> Trained:
    """Train the parameters that require gradients, and leave the best weights in the model.

    A run that was killed goes on from its last checkpoint, and ends with the same weights as a run that was
    not: the order of rows and dropout depend on seed and step alone. On KeyboardInterrupt one is written.

    Args:
        model: In any mode; is in evaluation mode when this returns.
        loss_of: See :data:`LossOf`; the model is in training mode.
        lengths: (n,) tokens of each row, at least one row.
        score: Judges the model, which is in evaluation mode, on held-out rows; higher is better.
        options: See there.
        folder: Of the result; checkpoints go to ``.checkpoint`` in it, the last one when training ends, so
            that what follows can be done again without training.
        fingerprint: Of base, data and settings: a checkpoint of another run is refused.
        progress: Called after each step.
        weights: (n,) how often each row is drawn, relative to others; (): each once in an epoch.

    Raises:
        TrainingError: A checkpoint of another run is in the way, the seed is out of range, or the loss or
            the score is no finite number.
        TrainingInterrupted: On KeyboardInterrupt.
    """
    plan = _Plan(lengths, options, weights)
    run = _Run(model, options, plan.total, folder / CHECKPOINT_FOLDER / _CHECKPOINT_FILE, fingerprint)
    resumed_at = run.resume()
    try:
        _make_steps(model, loss_of, score, plan, run, progress)
        run.finish(keep=options.checkpoint_every > 0)
    except KeyboardInterrupt:
        if options.checkpoint_every and run.step > run.saved:
            run.save()
        raise TrainingInterrupted(run.saved, plan.total) from None
    model.eval()
    return Trained(run.step, run.best_step, run.best_score or 0.0, run.seconds, resumed_at)


def _make_steps(
    model: torch.nn.Module,
    loss_of: LossOf,
    score: Callable[[], float],
    plan: _Plan,
    run: _Run,
    progress: Progress | None,
) -> None:
    """Make the steps that are left; wherever this is interrupted, ``run`` is in a state to go on from."""
    import torch

    options, device = plan.options, next(model.parameters()).device.type
    meter, start, before = _Meter(plan.total), time.monotonic(), run.seconds
    while True:
        # A run that was interrupted while it was judged is judged first.
        if plan.is_evaluated(run.step) and run.judged < run.step:
            model.eval()
            with torch.inference_mode():
                judged = score()
            with whole():
                run.judge(judged)
        if meter.steps:
            run.seconds = before + time.monotonic() - start
        if run.step > run.saved and run.is_checkpoint_due(options.checkpoint_every):
            run.save()
        if progress and meter.steps:
            progress(meter.step(run.step, run.best_score))
        if run.step >= plan.total or run.stale >= options.patience:
            return
        rows = plan.rows_of(run.step)
        torch.manual_seed((options.seed << 32) + run.step)
        model.train()
        with torch.autocast(device, torch.bfloat16, enabled=options.bfloat16):
            loss = loss_of(rows)
        run.update(loss)
        meter.add(len(rows), float(loss.detach()))


def check_seed(seed: int) -> None:
    """Raise TrainingError for a seed that the libraries do not take."""
    if not 0 <= seed < _SEEDS:
        raise TrainingError(f"--seed {seed}: give a number from 0 to {_SEEDS - 1}")


class _Plan:
    """Which rows each step trains on."""

    def __init__(self, lengths: Sequence[int], options: LoopOptions, weights: Sequence[float]) -> None:
        self._lengths, self.options, self._weights = lengths, options, weights
        self.per_epoch = -(-len(lengths) // options.batch)
        self.total = self.per_epoch * options.epochs
        self._epoch, self._batches = -1, list[list[int]]()

    def rows_of(self, step: int) -> list[int]:
        """The rows of a step, counted from 0."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, list(self._draw(epoch))
        return self._batches[place]

    def is_evaluated(self, steps: int) -> bool:
        """Whether held-out rows are judged after this many steps: at the end of each epoch."""
        return steps > 0 and steps % self.per_epoch == 0

    def _draw(self, epoch: int) -> Iterator[list[int]]:
        rng, size = random.Random(f"{self.options.seed} {epoch}"), self.options.batch
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        if self._weights:
            order = _draw_weighted(order, self._weights, rng)
            rng.shuffle(order)
        pools = [order[at : at + size * _POOL] for at in range(0, len(order), size * _POOL)]
        batches = []
        for pool in pools:
            pool.sort(key=lambda row: self._lengths[row])
            batches += [pool[at : at + size] for at in range(0, len(pool), size)]
        rng.shuffle(batches)
        yield from batches


def _draw_weighted(order: Sequence[int], weights: Sequence[float], rng: random.Random) -> list[int]:
    """As many rows as there are, each drawn by its weight; one of mean weight exactly once.

    Systematic sampling: of all draws with these expectations the one with the least variance.
    """
    step = sum(weights) / len(order)
    drawn, passed, place = list[int](), 0.0, rng.random() * step
    for row in order:
        passed += weights[row]
        while place < passed and len(drawn) < len(order):
            drawn.append(row)
            place += step
    return drawn


class _Run:
    """Model, optimiser and the best weights so far."""

    def __init__(
        self, model: torch.nn.Module, options: LoopOptions, total: int, path: Path, fingerprint: str
    ) -> None:
        import torch

        check_seed(options.seed)
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        decayed = [p for p in self._parameters.values() if p.ndim > 1]
        others = [p for p in self._parameters.values() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": options.weight_decay}]
        groups += [{"params": others, "weight_decay": 0.0}] if others else []
        self._optimiser = torch.optim.AdamW(groups, lr=options.learning_rate)
        # It divides by the steps of a phase less one: of a short run the rise takes two steps at least.
        total = max(total, 4)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, options.learning_rate, total, pct_start=max(_WARM_UP, 2 / total)
        )
        self._path, self._fingerprint = path, fingerprint
        self.step = self.best_step = self.stale = self.judged = self.saved = 0
        self.seconds = 0.0
        self.best_score: float | None = None
        self._best: dict[str, torch.Tensor] = {}
        self._next_save = time.monotonic() + FIRST_CHECKPOINT_S

    def update(self, loss: torch.Tensor) -> None:
        """Make one step."""
        import torch

        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item():g} at step {self.step}; lower --learning-rate, and start again"
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), _CLIP)
        with whole():
            self._optimiser.step()
            self.step += 1
            if self.step < self._schedule.total_steps:
                self._schedule.step()

    def judge(self, score: float) -> None:
        """Keep the weights if they are the best so far."""
        if not math.isfinite(score):
            raise TrainingError(
                f"the score on held-out rows is {score:g} after step {self.step}; lower --learning-rate, and"
                " start again"
            )
        self.judged = self.step
        if self.best_score is not None and score <= self.best_score:
            self.stale += 1
            return
        self.best_score, self.best_step, self.stale = score, self.step, 0
        self._best = {name: p.detach().clone() for name, p in self._parameters.items()}

    def finish(self, *, keep: bool) -> None:
        """Write a last checkpoint if it is to be kept, and put the best weights into the model."""
        if keep and self.step > self.saved:
            self.save()
        self._load(self._best)

    def is_checkpoint_due(self, every: int) -> bool:
        """Whether to write one now: after ``every`` steps, and by time; not if it is 0."""
        return every > 0 and (self.step % every == 0 or time.monotonic() >= self._next_save)

    def save(self) -> None:
        """Write a checkpoint; the one before stays until this one is complete."""
        import torch

        start = time.monotonic()
        state = {
            "fingerprint": self._fingerprint,
            "model": {name: p.detach() for name, p in self._parameters.items()},
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "best": self._best,
            **{name: getattr(self, name) for name in _KEPT},
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as temporary:
            torch.save(state, temporary)
        self.saved = self.step
        end = time.monotonic()
        self._next_save = end + max(CHECKPOINT_S, (end - start) / _WRITING)

    def resume(self) -> int:
        """Read the checkpoint, if there is one, and return its step."""
        import torch

        if not self._path.is_file():
            return 0
        remedy = f"remove {self._path.parent} to start again, or name another --out"
        try:
            state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise TrainingError(f"{self._path}: cannot be read ({error!r:.120}); {remedy}") from error
        if state.get("fingerprint") != self._fingerprint:
            raise TrainingError(
                f"{self._path}: is of a run with another base, data or settings; repeat these, or {remedy}"
            )
        self._load(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._best = state["best"]
        for name in _KEPT:
            setattr(self, name, state[name])
        self.saved = self.step
        return self.step

    def _load(self, weights: dict[str, torch.Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, values in weights.items():
                self._parameters[name].copy_(values)


_KEPT = ("step", "judged", "best_step", "best_score", "stale", "seconds")


class _Meter:
    """Loss and rate of the last steps."""

    def __init__(self, total: int) -> None:
        self._total, self._rows, self.steps = total, 0, 0
        self._loss: float | None = None
        self._start = time.monotonic()

    def add(self, rows: int, loss: float) -> None:
        """Count a step."""
        self._rows += rows
        self.steps += 1
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss

    def step(self, done: int, score: float | None) -> Step:
        """The progress after ``done`` steps."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        left = (self._total - done) * seconds / max(self.steps, 1)
        return Step(done, self._total, self._loss or 0.0, self._rows / seconds, left, score)
