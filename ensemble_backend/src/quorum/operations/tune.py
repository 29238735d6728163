# SPDX-License-Identifier: Apache-2.0
"""Tune a base model for a task on gold, or on the ensemble's own confident answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.records import Record
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import Style
from quorum.tune.base import Base, read_base
from quorum.tune.card import Card
from quorum.tune.causal import CausalOptions, tune_causal
from quorum.tune.confident import MIN_CONFIDENCE, read_confident
from quorum.tune.data import TrainingData, TrainingDataError, joined, read_gold
from quorum.tune.encoder import BATCH, EncoderOptions, tune_encoder
from quorum.tune.loop import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """Settings of tuning; those that are None follow from the base and the kind of the task.

    Attributes:
        method: ``full`` (usual for encoders) or ``lora`` (usual, and the only one, for causal LLMs).
        rows: Train on this many rows, drawn with ``seed``; None: on all.
        mix: More tasks for the same member: attribute -> its file of gold, the same or another.
        seed: Of every draw.
        epochs: Passes over the rows.
        learning_rate: The highest one.
        batch: Rows per step.
        min_confidence: With votes: of the answers to train on.
        weights: With votes: weights that decide; None: learned from the agreement of the votes.
        rank: LLMs: of the adapter; a multiple of 8 up to 64.
        prompt: LLMs: style of the prompts, as the member's in ``deploy.yaml``.
        chat: LLMs: whether to apply the chat template; None: if the tokenizer has one, as serving does.
        balance: LLMs: draw the labels of an attribute equally often.
        max_tokens: LLMs: longer rows, with prompt and answer, are left out.
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
    min_confidence: float = MIN_CONFIDENCE
    weights: Path | None = None
    rank: int = 8
    prompt: Style = "bare"
    chat: bool | None = None
    balance: bool = True
    max_tokens: int = 1024
    class_weights: bool = False
    with_category: bool = False
    int8: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class TuneReport(Record):
    """A tuned member.

    Attributes:
        out: Its folder.
        card: What it was made of, and figures on held-out rows.
        member: The lines for ``deploy.yaml``.
    """

    out: Path
    card: Card
    member: str


def tune_member(
    tasks: Sequence[str],
    data: Path | None,
    base: Path,
    out: Path,
    options: TuneOptions | None = None,
    deployment: Deployment | None = None,
    *,
    from_votes: Path | None = None,
    progress: Progress | None = None,
) -> TuneReport:
    """Tune a base model for a task, and write the folder that a member serves.

    Base, rows and target are checked before any training. A run that was killed goes on from its checkpoint
    when it is started again with the same arguments.

    Args:
        tasks: Attributes; ``all``: every one that the data answers.
        data: Gold in listings (CSV or JSONL); or None, with ``from_votes``.
        base: Folder of an encoder or a causal LLM in the format of transformers.
        out: Folder to make.
        options: See there.
        deployment: Its catalogue says what answers are allowed; None: every attribute is open.
        from_votes: A votes table, whose confident answers are trained on.
        progress: Called after each step.

    Raises:
        BaseModelError: ``base`` holds no model that can be tuned.
        TrainingDataError: Rows cannot be trained on; the message names them.
        TrainingError: ``out`` is in use, or training cannot go on.
    """
    options = options or TuneOptions()
    catalogue = deployment.catalogue() if deployment else Catalogue({})
    found = read_base(base)
    path, rows = _read(tasks, data, from_votes, catalogue, options)
    if found.architecture == "encoder":
        card = _encoder(found, rows, path, catalogue, out, options, progress)
        return TuneReport(out, card, _encoder_member(card, out))
    card = _causal(found, rows, path, catalogue, out, options, progress)
    return TuneReport(out, card, _llm_member(card, base, out))


def _read(
    tasks: Sequence[str],
    data: Path | None,
    from_votes: Path | None,
    catalogue: Catalogue,
    options: TuneOptions,
) -> tuple[Path, TrainingData]:
    """The rows, and the file that messages name."""
    if (data is None) == (from_votes is None):
        raise TrainingDataError("name a file of gold, or a votes table by --from-votes: one of the two")
    if from_votes is not None:
        if options.mix:
            raise TrainingDataError("--mix is for gold; of a votes table name all attributes as TASK")
        confidence, weights = options.min_confidence, options.weights
        return from_votes, read_confident(
            from_votes, tasks, catalogue, confidence, weights, options.rows, options.seed
        )
    assert data is not None
    parts = [read_gold(data, tasks, catalogue, options.rows, options.seed)]
    for task, path in options.mix.items():
        parts.append(read_gold(path, [task], catalogue, options.rows, options.seed))
    return data, joined(parts)


def _encoder(
    base: Base,
    rows: TrainingData,
    path: Path,
    catalogue: Catalogue,
    out: Path,
    options: TuneOptions,
    progress: Progress | None,
) -> Card:
    if options.method not in (None, "full", "lora"):
        raise TrainingDataError(f"--method {options.method}; an encoder is tuned by full or lora")
    settings = EncoderOptions(
        method="lora" if options.method == "lora" else "full",
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch=options.batch or BATCH,
        class_weights=options.class_weights,
        with_category=options.with_category,
        int8=options.int8,
        seed=options.seed,
        force=options.force,
    )
    return tune_encoder(base, rows, path, catalogue, out, settings, progress)


def _causal(
    base: Base,
    rows: TrainingData,
    path: Path,
    catalogue: Catalogue,
    out: Path,
    options: TuneOptions,
    progress: Progress | None,
) -> Card:
    if options.method not in (None, "full", "lora"):
        raise TrainingDataError(f"--method {options.method}; an LLM is tuned by lora or full")
    usual = CausalOptions()
    settings = CausalOptions(
        method="full" if options.method == "full" else "lora",
        rank=options.rank,
        alpha=2 * options.rank,
        style=options.prompt,
        chat=options.chat,
        balance=options.balance,
        max_tokens=options.max_tokens,
        epochs=options.epochs or usual.epochs,
        learning_rate=options.learning_rate,
        batch=options.batch or usual.batch,
        seed=options.seed,
        force=options.force,
    )
    return tune_causal(base, rows, path, catalogue, out, settings, progress)


def _llm_member(card: Card, base: Path, out: Path) -> str:
    folders = f"model: {out}" if card.method == "full" else f"model: {base}, lora: {out}"
    return (
        f"  - name: {_name_of(card)}-{card.base.lower()}\n    runtime: hf\n    options: {{{folders}}}\n"
        f"    prompt: {card.prompts['style']}\n"
    )


def _encoder_member(card: Card, out: Path) -> str:
    return f"  - name: {_name_of(card)}-encoder\n    runtime: encoder\n    options: {{model: {out}}}\n"


def _name_of(card: Card) -> str:
    """Of the tasks, for a member's name."""
    if len(card.tasks) == 1:
        return card.tasks[0].lower().replace(" ", "-").replace("_", "-")
    return "values" if card.architecture == "encoder" else "tasks"
