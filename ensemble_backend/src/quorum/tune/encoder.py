# SPDX-License-Identifier: Apache-2.0
"""Tune an encoder with a head for a task, and write the folder that the runtime ``encoder`` serves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.runtimes.encoder_folder import TOKENIZER_FILE, EncoderFile, write_encoder
from quorum.runtimes.encoder_input import EncoderInput
from quorum.runtimes.heads import Encoded
from quorum.runtimes.onnx_network import quantise
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import read
from quorum.tune.base import Base, loading
from quorum.tune.card import Card, write_card
from quorum.tune.card_of_run import card_of_run
from quorum.tune.data import TrainingData, TrainingDataError, TrainingRow
from quorum.tune.encoder_folder import (
    Compute,
    compute_by,
    predict,
    save_tokenizer,
    separator_of,
    write_network,
)
from quorum.tune.encoder_rows import head_of, targets_of
from quorum.tune.figures import by_task, headline, pooled
from quorum.tune.folder import reserved, whole_folder
from quorum.tune.heads import TUNINGS, Target
from quorum.tune.loop import LoopOptions, Progress, Trained, check_seed, train
from quorum.tune.onnx_check import OnnxNetwork
from quorum.tune.quiet import without_announcements
from quorum.tune.remarks import NEAR
from quorum.tune.split import Split, split
from quorum.tune.tuned_on import write_tuned_on

if TYPE_CHECKING:
    from quorum.tune.encoder_model import Network

_SMALL_FILE = "int8.onnx"
_LORA_RATE = 1e-3
BATCH = 32
"""Rows per step."""
_NOT_LITERAL = "whose value is not literally in the text"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOptions:
    """Settings of tuning an encoder.

    Attributes:
        method: ``full`` trains all parameters but embeddings, ``lora`` adapters of rank 16.
        epochs: None: 3, for values 6.
        learning_rate: None: 1e-4, for spans 3e-4, for LoRA 1e-3.
        batch: Rows per step.
        max_tokens: Longest input, at most what the base allows.
        class_weights: Weigh labels by the inverse of their frequency.
        with_category: Put the category into the question of the head ``value``.
        int8: Write matrix products of ``model.onnx`` in int8, in place of float32: two thirds of the size,
            half of the time in ONNX Runtime (OpenVINO is slower), 0.7 points of span F1 on QueryNER less.
        bfloat16: None: where this machine multiplies it natively.
        patience: Epochs without a better score after which training ends.
        checkpoint_every: Steps; 0: none.
        seed: Of the split, the head, the order of rows and dropout.
        force: Replace a folder that was tuned before.
    """

    method: Literal["full", "lora"] = "full"
    epochs: int | None = None
    learning_rate: float | None = None
    batch: int = BATCH
    max_tokens: int = 128
    class_weights: bool = False
    with_category: bool = False
    int8: bool = False
    bfloat16: bool | None = None
    patience: int = 3
    checkpoint_every: int = 100
    seed: int = 0
    force: bool = False


class _Task(NamedTuple):
    """What is trained on, and judged."""

    tokenizer: Path
    head: EncoderFile
    inputs: EncoderInput
    parts: Split
    train: list[Target]
    held_out: list[Encoded]
    catalogue: Catalogue


def tune_encoder(
    base: Base,
    data: TrainingData,
    path: Path,
    catalogue: Catalogue,
    out: Path,
    options: EncoderOptions,
    progress: Progress | None = None,
) -> Card:
    """Tune an encoder and write its folder: ``model.onnx``, tokenizer, ``encoder.json`` and card.

    Everything is checked before training. A run that was killed goes on from its checkpoint when it is
    started again with the same arguments.

    Args:
        base: An encoder.
        data: Rows of one attribute, or of several of kind ``value``.
        path: Of the data, for messages.
        catalogue: Of the deployment.
        out: The folder.
        options: See there.
        progress: Called after each step.

    Raises:
        BaseModelError: A file of the base is damaged.
        TrainingDataError: The rows cannot be learned by an encoder.
        TrainingError: ``out`` holds something else or a checkpoint of another run, or training cannot go on.
        OnnxError: The exported model differs from the trained one; nothing but the checkpoint is written.
    """
    check_seed(options.seed)
    with without_announcements(), reserved(out, force=options.force):
        task = _prepare(base, data, path, catalogue, options)
        network = _load(base, task, options)
        loop = _loop_options(task.head, options)
        trained = _train(network, task, options, loop, out, _fingerprint(base, data, task, options), progress)
        with whole_folder(out) as folder:
            remarks, scores = _write(network, task, folder, options)
            card = _card(base, data, path, task, options, loop, trained, scores, remarks)
            write_tuned_on(folder, data.question_hashes)
            write_card(card, folder)
    return card


def _prepare(
    base: Base, data: TrainingData, path: Path, catalogue: Catalogue, options: EncoderOptions
) -> _Task:
    from tokenizers import Tokenizer

    config = json.loads((base.folder / "config.json").read_text("utf-8"))
    longest = config.get("max_position_embeddings", 512)
    head = head_of(data, catalogue, min(options.max_tokens, longest), with_category=options.with_category)
    tokenizer = base.folder / TOKENIZER_FILE
    with loading(tokenizer):
        inputs = EncoderInput(Tokenizer.from_file(str(tokenizer)), head)
    parts = split(data.rows, options.seed)
    targets = targets_of(path, data.rows, head, inputs, catalogue)
    by_row = dict(zip(map(id, data.rows), targets, strict=True))
    usable = [target for row in parts.train if (target := by_row[id(row)]) is not None]
    if not usable:
        missing = [task for task in data.tasks if task not in catalogue.attributes]
        unlisted = (
            f"deploy.yaml does not list {', '.join(missing[:5])}, so any answer is allowed, and "
            if missing
            else ""
        )
        raise TrainingDataError(
            f"{path}: no row can be learned: {unlisted}no text has its value literally in"
            f" {head.max_tokens} tokens; give a label `kind: label` and its values in deploy.yaml, other"
            " spellings as synonyms there, or tune a causal LLM by --base"
        )
    held_out = [inputs.encode(row.text, row.category, row.attribute) for row in parts.held_out]
    return _Task(tokenizer, head, inputs, parts, usable, held_out, catalogue)


def _load(base: Base, task: _Task, options: EncoderOptions) -> Network:
    import torch

    from quorum.tune.encoder_model import load_network

    torch.manual_seed(options.seed)
    separator = separator_of(task.tokenizer)
    network = load_network(base.folder, task.head.head, task.head.outputs, separator, options.method)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    return network


def _train(
    network: Network,
    task: _Task,
    options: EncoderOptions,
    loop: LoopOptions,
    out: Path,
    fingerprint: str,
    progress: Progress | None,
) -> Trained:
    from quorum.tune.encoder_model import loss_of

    weighs = options.class_weights and TUNINGS[task.head.head].weighs_labels
    weights = _class_weights(task) if weighs else None

    def loss(rows: Sequence[int]) -> Any:
        batch = [task.train[row] for row in rows]
        inputs = task.inputs.pad([row.encoded for row in batch])
        return loss_of(network, task.head.head, batch, inputs, weights)

    def score() -> float:
        scores = _judge(compute_by(network), task)
        return pooled(scores, task.parts.held_out)[_main(task)]

    lengths = [len(row.encoded.ids) for row in task.train]
    return train(network, loss, lengths, score, loop, out, fingerprint, progress)


def _loop_options(head: EncoderFile, options: EncoderOptions) -> LoopOptions:
    tuning = TUNINGS[head.head]
    usual = tuning.learning_rate if options.method == "full" else _LORA_RATE
    return LoopOptions(
        epochs=options.epochs or tuning.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate or usual,
        patience=options.patience,
        checkpoint_every=options.checkpoint_every,
        bfloat16=has_bfloat16() if options.bfloat16 is None else options.bfloat16,
        seed=options.seed,
    )


def has_bfloat16(device: str = "auto") -> bool:
    """Whether a device, ``cpu`` or a GPU where there is one, multiplies matrices in bfloat16 natively."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _judge(compute: Compute, task: _Task) -> dict[str, dict[str, float]]:
    """Figures on held-out rows, by attribute."""
    rows = task.parts.held_out
    answers = [
        _answer(task, row, encoded, logits)
        for row, encoded, logits in zip(
            rows, task.held_out, predict(compute, task.inputs, task.held_out), strict=True
        )
    ]
    attributes = {name: task.catalogue.get(name) for name in task.head.attributes}
    return by_task(attributes, rows, answers)


def _answer(task: _Task, row: TrainingRow, encoded: Encoded, logits: npt.NDArray[np.float32]) -> str | None:
    value = task.inputs.decode(encoded, logits).value
    return read(task.catalogue.get(row.attribute), value, row.text)


def _main(task: _Task) -> str:
    return headline(task.catalogue.get(task.head.attributes[0]))


def _class_weights(task: _Task) -> Any:
    """(labels,) weight of each label: the inverse of its frequency, 1 on average over rows."""
    import torch

    counts = np.bincount([int(row.target[0]) for row in task.train], minlength=len(task.head.labels))
    present = max(int((counts > 0).sum()), 1)
    weights = len(task.train) / (present * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32)


def _write(
    network: Network, task: _Task, folder: Path, options: EncoderOptions
) -> tuple[tuple[str, ...], dict[str, dict[str, float]]]:
    """Write all but the card; returns remarks and figures of what was written."""
    from quorum.tune.encoder_model import merged

    model = write_network(merged(network), task.head, task.inputs, task.held_out, folder)
    remarks: tuple[str, ...] = ()
    if options.int8:
        before = pooled(_judge(OnnxNetwork(model), task), task.parts.held_out)[_main(task)]
        quantise(model, folder / _SMALL_FILE).replace(model)
        remarks = (f"int8; in float32 {_main(task)} was {before:.3f} on held-out rows",)
    save_tokenizer(task.tokenizer, folder)
    write_encoder(task.head, folder)
    return remarks, _judge(OnnxNetwork(model), task)


def _fingerprint(base: Base, data: TrainingData, task: _Task, options: EncoderOptions) -> str:
    """Of everything that the trained weights follow from."""
    # Synonyms say which words of a text are a value.
    synonyms = {name: dict(task.catalogue.get(name).synonyms) for name in task.head.attributes}
    settings = {k: v for k, v in asdict(options).items() if k not in ("force", "int8", "checkpoint_every")}
    content = json.dumps([base.hash, data.data_hash, task.head.to_json(), synonyms, settings], sort_keys=True)
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def _card(
    base: Base,
    data: TrainingData,
    path: Path,
    task: _Task,
    options: EncoderOptions,
    loop: LoopOptions,
    trained: Trained,
    scores: dict[str, dict[str, float]],
    remarks: tuple[str, ...],
) -> Card:
    return card_of_run(
        base,
        data,
        path,
        loop,
        trained,
        method=options.method,
        rows=len(task.train),
        held_out_rows=len(task.parts.held_out),
        left_out={
            _NOT_LITERAL: len(task.parts.train) - len(task.train),
            NEAR: len(task.parts.left_out),
        },
        settings={
            "head": task.head.head,
            "max_tokens": task.head.max_tokens,
            "int8": options.int8,
            "class_weights": options.class_weights,
            "overall": pooled(scores, task.parts.held_out),
        },
        catalogue=task.head.catalogue,
        scores=scores,
        remarks=remarks,
    )
