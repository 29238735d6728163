# SPDX-License-Identifier: Apache-2.0
"""Ask tuned members about rows, by the runtimes that serve them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.options import EncoderOptions
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote
from quorum.tune.asking import Asked, ask
from quorum.tune.data import TrainingData, TrainingRow, read_gold
from quorum.tune.encoder import EncoderOptions as Tuning
from quorum_bench.studies.tasks.inputs import Inputs
from quorum_bench.studies.tasks.made import Made
from quorum_bench.studies.tasks.sources import catalogue_of, listings, task_of
from quorum_contract import Status

RATE_OF_SPANS = 3e-4
USUAL_EPOCHS, MOST_EPOCHS, ROWS_SEEN = 3, 20, 10_000


def encoder_votes(folder: Path, catalogue: Catalogue, rows: Sequence[TrainingRow]) -> list[Vote]:
    """The vote of an encoder on each row."""
    options = EncoderOptions(model=str(folder.resolve()))
    settings = RuntimeSettings("encoder", Path("/"), options, catalogue=catalogue)
    return [votes[0] for votes in ask(settings, [Asked((row,)) for row in rows])]


def answers_of(votes: Sequence[Vote]) -> list[str | None]:
    """The answers of votes; None for abstentions."""
    return [vote.value if vote.status is Status.ANSWERED else None for vote in votes]


def tuned_encoder(inputs: Inputs, name: str, rows: int | None, seed: int) -> Made:
    """An encoder tuned on so many listings of a source, which are drawn with its seed."""
    path = listings(inputs, name, "train")
    data = read_gold(path, [task_of(name)], catalogue_of(name), rows, seed)
    return tuned_on(inputs, f"{name}-{rows or 'all'}-seed{seed}", name, data, path, seed)


def tuned_on(inputs: Inputs, label: str, name: str, data: TrainingData, path: Path, seed: int) -> Made:
    """An encoder tuned on rows of a source."""
    is_spans = name == "queryner"
    options = Tuning(
        seed=seed,
        epochs=epochs_of(len(data.rows)) if is_spans else None,
        learning_rate=RATE_OF_SPANS if is_spans else None,
    )
    return inputs.cache.encoder(label, inputs.encoder, data, path, catalogue_of(name), options)


def epochs_of(rows: int) -> int:
    """Passes over short queries: as usual, or as many more as few rows need to be learned."""
    return max(USUAL_EPOCHS, min(MOST_EPOCHS, math.ceil(ROWS_SEEN / rows)))
