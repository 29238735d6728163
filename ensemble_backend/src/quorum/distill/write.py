# SPDX-License-Identifier: Apache-2.0
"""Write the folders of a student and of its cross-encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.distill.assistant import Assistant
from quorum.distill.figures import HeldOut
from quorum.distill.student import Student
from quorum.retrieval.encode import TextEncoder
from quorum.retrieval.manifest import (
    ENCODER_FILE,
    ITEM_VECTOR,
    KEYPHRASE_VECTOR,
    TOKENIZER_FILE,
    StudentManifest,
    file_hashes,
    write_manifest,
)
from quorum.retrieval.vectors import Vectors
from quorum.runtimes.onnx_network import open_onnx
from quorum.tune.base import Base
from quorum.tune.card import Card, library_versions, write_card
from quorum.tune.encoder_folder import COMPARED, save_tokenizer
from quorum.tune.loop import Trained
from quorum.tune.onnx_check import check_onnx, refuse_difference
from quorum.tune.onnx_export import export
from quorum.tune.tuned_on import TUNED_ON_FILE, write_tuned_on

ASSISTANT = "cross-encoder"
"""Folder of the cross-encoder, in that of the student."""


def write_student(student: Student, texts: Sequence[str], folder: Path) -> None:
    """Write ``encoder.onnx``, whose last step is one matrix product, and the tokenizer.

    Args:
        student: As trained; it lies on the CPU afterwards.
        texts: Those whose vectors by ONNX and by PyTorch are compared; the first 64.
        folder: Where to.

    Raises:
        OnnxError: The file is not what serving needs, or computes something else.
    """
    import torch

    from quorum.distill.student_model import Folded

    network = Folded(student.base, student.adapter).cpu().eval()
    path, outputs = folder / ENCODER_FILE, (ITEM_VECTOR, KEYPHRASE_VECTOR)
    export(network, path, outputs)
    check_onnx(path, {name: [None, student.adapter.dims] for name in outputs})
    opened = open_onnx(path, "onnxruntime")
    pairs: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    encoded = [student.inputs.encode(text) for text in texts[:COMPARED]]
    for start in range(0, len(encoded), 8):
        ids, mask = student.inputs.pad(encoded[start : start + 8])
        with torch.inference_mode():
            computed = network(torch.from_numpy(ids), torch.from_numpy(mask))
        for name, vectors in zip(outputs, computed, strict=True):
            pairs.append((opened.compute(ids, mask, name), vectors.numpy()))
    refuse_difference(pairs)
    save_tokenizer(student.tokenizer, folder)


def finish(folder: Path, manifest: StudentManifest) -> StudentManifest:
    """Write ``student.json`` with the hashes of the files."""
    import msgspec

    whole = msgspec.structs.replace(manifest, files=file_hashes(folder, (ENCODER_FILE, TOKENIZER_FILE)))
    write_manifest(folder, whole)
    return whole


def int8_vectors(folder: Path, held_out: HeldOut) -> tuple[Vectors, Vectors]:
    """Vectors of the held-out items and keyphrases by the written encoder in int8, in ONNX Runtime."""
    encoder = TextEncoder(folder, "onnxruntime", "int8")
    return encoder.items(held_out.items), encoder.keyphrases(held_out.keyphrases)


def write_assistant(
    assistant: Assistant,
    base: Base,
    pairs: Sequence[tuple[str, str]],
    trained: Trained,
    figures: Mapping[str, Any],
    settings: Mapping[str, Any],
    tuned_on: Iterable[str],
    folder: Path,
) -> None:
    """Write the cross-encoder as a member's folder of runtime ``encoder``, with its card.

    Args:
        assistant: As trained.
        base: What it was made of.
        pairs: Item text and keyphrase of pairs, for the comparison of ONNX with PyTorch.
        trained: Of its training.
        figures: On held-out keyphrases.
        settings: Name, hash and counts of the data among them.
        tuned_on: :meth:`Assistant.question_hashes` of what it learned and is judged on.
        folder: To make.

    Raises:
        OnnxError: ONNX and PyTorch differ.
    """
    folder.mkdir()
    items, keyphrases = ([pair[side] for pair in pairs[:COMPARED]] for side in (0, 1))
    assistant.write(items, keyphrases, folder)
    described = assistant.described
    task = described.attributes[0]
    card = Card(
        tasks=(task,),
        method="full",
        architecture="encoder",
        base=base.folder.name,
        base_hash=base.hash,
        base_licence=base.licence,
        source="votes",
        data=settings["data"],
        data_hash=settings["data_hash"],
        rows=settings["rows"],
        held_out_rows=settings["held_out_rows"],
        seed=settings["seed"],
        epochs=settings["epochs"],
        steps=trained.steps,
        best_step=trained.best_step,
        settings={
            "loss": "binary cross-entropy with soft labels",
            "max_tokens": assistant.described.max_tokens,
        },
        catalogue=described.catalogue,
        scores={task: {name: figure["value"] for name, figure in figures.items()}},
        tuned_on=TUNED_ON_FILE,
        seconds=round(trained.seconds, 1),
        libraries=library_versions(),
        remarks=("figures are against the judge's labels; it was taught by them, so it is no further voice",),
    )
    write_tuned_on(folder, tuned_on)
    write_card(card, folder)
