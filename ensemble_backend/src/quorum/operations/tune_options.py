# SPDX-License-Identifier: Apache-2.0
"""Settings of tuning, and the refusal of those that the base or the task does not have."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quorum.tasks.prompt import Style
from quorum_contract.errors import QuorumError

_LLM = ("rank", "prompt", "chat", "balance")
_ENCODER = ("class_weights", "with_category", "int8")
_VOTES = ("min_confidence", "weights")
_KINDS: Mapping[str, str] = {"class_weights": "label", "with_category": "value"}
_COUNTS = ("rows", "epochs", "batch", "max_tokens")


class TuneOptionError(QuorumError, ValueError):
    """A setting of tuning is no possible one, or has no effect on this base; the message names it."""

    code = "TUNE_OPTION_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """Settings of tuning; those that are None follow from the base and the kind of the task.

    Attributes:
        method: ``full``, all weights (None: for encoders); or ``lora``, an adapter (None: for causal LLMs).
        rows: Train on this many rows, drawn with ``seed``; None: on all.
        mix: More tasks for the same member: attribute -> its file of gold, the same or another.
        seed: Of every draw.
        epochs: Passes over the rows.
        learning_rate: The highest one, above 0.
        batch: Rows per step.
        min_confidence: With votes: of the answers to train on.
        weights: With votes: weights that decide; None: learned from the agreement of the votes.
        rank: LLMs, ``lora``: of the adapter; a multiple of 8 up to 64.
        prompt: LLMs: style of the prompts, as the member's in ``deploy.yaml``; None: ``bare``.
        chat: LLMs: whether to apply the chat template; None: if the tokenizer has one, as serving does.
        balance: LLMs: whether to draw the labels of an attribute equally often; None: yes.
        max_tokens: LLMs: longer rows, with prompt and answer, are left out; encoders: longer texts are cut.
        class_weights: Encoders of labels: weigh labels by the inverse of their frequency.
        with_category: Encoders of values: put the category into the question.
        int8: Encoders: write matrix products in int8.
        force: Replace a folder that was tuned before.
    """

    method: str | None = None
    rows: int | None = None
    mix: Mapping[str, Path] = field(default_factory=dict)
    seed: int = 0
    epochs: int | None = None
    learning_rate: float | None = None
    batch: int | None = None
    min_confidence: float | None = None
    weights: Path | None = None
    rank: int | None = None
    prompt: Style | None = None
    chat: bool | None = None
    balance: bool | None = None
    max_tokens: int | None = None
    class_weights: bool = False
    with_category: bool = False
    int8: bool = False
    force: bool = False


def check_options(options: TuneOptions, architecture: str, base: Path, *, with_votes: bool) -> None:
    """Refuse settings that are impossible, or have no effect on this base or these data.

    Args:
        options: The settings.
        architecture: ``encoder`` or ``causal``.
        base: Folder of the base, for messages.
        with_votes: Whether the rows are from votes.

    Raises:
        TuneOptionError: The first such setting.
    """
    if options.method not in (None, "full", "lora"):
        raise TuneOptionError(f"--method {options.method}: models are tuned by full or lora")
    for name in _COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise TuneOptionError(f"{_flag(name)} {value}: give 1 or more, or leave it out")
    rate = options.learning_rate
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise TuneOptionError(f"--learning-rate {rate:g}: give a number above 0, or leave it out")
    if architecture == "encoder":
        _refuse(options, _LLM, f"is for causal LLMs, and {base} holds an encoder")
    else:
        _refuse(options, _ENCODER, f"is for encoders, and {base} holds a causal LLM")
        if options.method == "full":
            _refuse(options, ("rank",), "is for --method lora: with full all weights are trained")
    if not with_votes:
        _refuse(options, _VOTES, "is for --from-votes, and gold is trained on as it is")


def check_kinds(options: TuneOptions, kinds: Mapping[str, str]) -> None:
    """Raise TuneOptionError for a setting of another kind than a task has; ``kinds`` is task -> kind."""
    for name, kind in _KINDS.items():
        others = [task for task, own in kinds.items() if own != kind]
        if others:
            _refuse(options, (name,), f"is for tasks of kind {kind}, and {others[0]!r} is {kinds[others[0]]}")


def _refuse(options: TuneOptions, names: Collection[str], why: str) -> None:
    for name in names:
        value = getattr(options, name)
        # Flags of encoders are off by default; those of LLMs are None.
        if value is not None and (value is not False or name in _LLM):
            raise TuneOptionError(f"{_flag(name)} {why}; leave it out")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
