# SPDX-License-Identifier: Apache-2.0
"""Tune a base model for a task on gold, or on the ensemble's own confident answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quorum.bulk.callbacks import Note, ignore
from quorum.deployment.schema import Deployment
from quorum.operations.member_lines import member_lines
from quorum.operations.tune_options import TuneOptions, check_kinds, check_options
from quorum.records import Record
from quorum.tasks.catalogue import Catalogue
from quorum.tune.base import Base, read_base
from quorum.tune.card import Card
from quorum.tune.causal import CausalOptions, tune_causal
from quorum.tune.confident import MIN_CONFIDENCE, read_confident
from quorum.tune.data import TrainingData, TrainingDataError, joined, read_gold
from quorum.tune.encoder import EncoderOptions, tune_encoder
from quorum.tune.loop import Progress


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
    note: Note = ignore,
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
        note: Called with what comes next, where it takes a while.

    Raises:
        BaseModelError: ``base`` holds no model that can be tuned.
        TuneOptionError: A setting is impossible, or has no effect on this base or these tasks.
        TrainingDataError: Rows cannot be trained on; the message names them.
        TrainingError: ``out`` is in use, or training cannot go on.
        MergeError: The adapter's rank cannot be served.
        OnnxError: A tuned encoder cannot be exported as it was trained.
        VotesError: ``from_votes`` is no votes table.
        WeightsError: ``options.weights`` cannot decide it.
        OSError: A file cannot be read or written.
    """
    options = options or TuneOptions()
    catalogue = deployment.catalogue() if deployment else Catalogue({})
    note(f"reading {base}")
    found = read_base(base)
    check_options(options, found.architecture, base, with_votes=from_votes is not None)
    note(f"reading rows of {data or from_votes}")
    path, rows = _read(tasks, data, from_votes, catalogue, options)
    check_kinds(options, {task: catalogue.get(task).kind for task in rows.tasks})
    tune = _encoder if found.architecture == "encoder" else _causal
    note(f"loading {base}, to tune it on {len(rows.rows)} answers")
    card = tune(found, rows, path, catalogue, out, options, progress)
    root, taken = (deployment.root, deployment.member_names) if deployment else (Path(), [])
    return TuneReport(out, card, member_lines(card, base, out, root, chat=options.chat, taken=taken))


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
        confidence = MIN_CONFIDENCE if options.min_confidence is None else options.min_confidence
        return from_votes, read_confident(
            from_votes, tasks, catalogue, confidence, options.weights, options.rows, options.seed
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
    usual = EncoderOptions()
    settings = EncoderOptions(
        method="lora" if options.method == "lora" else "full",
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch=options.batch or usual.batch,
        max_tokens=options.max_tokens or usual.max_tokens,
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
    usual = CausalOptions()
    rank = usual.rank if options.rank is None else options.rank
    settings = CausalOptions(
        method="full" if options.method == "full" else "lora",
        rank=rank,
        alpha=2 * rank,
        style=options.prompt or usual.style,
        chat=options.chat,
        balance=usual.balance if options.balance is None else options.balance,
        max_tokens=options.max_tokens or usual.max_tokens,
        epochs=options.epochs or usual.epochs,
        learning_rate=options.learning_rate,
        batch=options.batch or usual.batch,
        seed=options.seed,
        force=options.force,
    )
    return tune_causal(base, rows, path, catalogue, out, settings, progress)
