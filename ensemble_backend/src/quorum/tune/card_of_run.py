# SPDX-License-Identifier: Apache-2.0
"""Fill in the card of a training run, of an encoder or an LLM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quorum.tune.base import Base
from quorum.tune.card import Card, library_versions
from quorum.tune.data import TrainingData
from quorum.tune.loop import LoopOptions, Trained
from quorum.tune.remarks import remarks_on
from quorum.tune.tuned_on import TUNED_ON_FILE


def card_of_run(
    base: Base,
    data: TrainingData,
    path: Path,
    loop: LoopOptions,
    trained: Trained,
    *,
    method: str,
    rows: int,
    held_out_rows: int,
    left_out: Mapping[str, int],
    settings: Mapping[str, Any],
    catalogue: Mapping[str, str],
    prompts: Mapping[str, Any] | None = None,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    remarks: tuple[str, ...] = (),
) -> Card:
    """The card of a member that was trained on rows; other arguments are as in :class:`Card`.

    ``left_out`` counts rows of the data that are neither trained on nor held out, by reason in words. The
    learning rate, batch and precision of ``loop`` join ``settings``. Remarks on the data come first.
    """
    return Card(
        tasks=data.tasks,
        method=method,
        architecture=base.architecture,
        base=base.folder.name,
        base_hash=base.hash,
        base_licence=base.licence,
        source=data.source,
        data=path.name,
        data_hash=data.data_hash,
        rows=rows,
        held_out_rows=held_out_rows,
        left_out=data.left_out + sum(left_out.values()),
        seed=loop.seed,
        epochs=loop.epochs,
        steps=trained.steps,
        best_step=trained.best_step,
        settings={
            "learning_rate": loop.learning_rate,
            "batch": loop.batch,
            "bfloat16": loop.bfloat16,
            **settings,
        },
        catalogue=catalogue,
        prompts=prompts or {},
        scores=scores or {},
        tuned_on=TUNED_ON_FILE,
        seconds=round(trained.seconds, 1),
        libraries=library_versions(),
        remarks=(*remarks_on(data, left_out, held_out_rows), *remarks),
    )
