# SPDX-License-Identifier: Apache-2.0
"""The study of distilling judgements into encoders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from quorum.tune.base import read_base
from quorum_bench.cli.study_common import JsonFile, begin, err, errors, shown, studies, write
from quorum_bench.studies.distill import FOLDS, read_world, rows
from quorum_bench.studies.distill_figures import HEAD, line


@studies.command("distill")
def distill_(
    base: Annotated[Path, typer.Option(help="Folder of MiniLM, of `python examples/tasks/bases.py`.")] = Path(
        "bases/minilm"
    ),
    data: Annotated[
        Path | None, typer.Option(help="Folder with items and judgements; default: $QUORUM_DATA/keyphrases.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder of cross-encoders and labels, which are kept.")] = Path(
        "out/study-distill"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Of mined pairs and students.")] = 3,
    folds: Annotated[int, typer.Option(min=1, max=FOLDS, help="Of the queries, held out in turn.")] = FOLDS,
    direct: Annotated[bool, typer.Option("--direct", help="Leave out the cross-encoder.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Distil the grades of three raters: zero-shot, cross-encoder, one step against two, losses, clicks.

    Three folds by query, three seeds, 384, 128 and 64 dimensions; intervals over the 135 queries, paired
    where two methods are compared. Clicks are simulated, and the raters are people. A cross-encoder takes
    four CPU minutes a fold, all else ten; an interrupted study goes on. Needs `make setup-hf` with the extra
    `tune`.

    Example: `OMP_NUM_THREADS=1 quorum-bench study distill --base bases/minilm --json distill.json`.
    """
    environment = begin()
    with errors():
        folder = data or Path(os.environ.get("QUORUM_DATA", "")) / "keyphrases"
        if not (folder / "judgements.jsonl.gz").is_file():
            raise ValueError(f"{folder} has no judgements.jsonl.gz; name the folder by --data or QUORUM_DATA")
        world = read_world(
            folder, read_base(base, "encoder"), cache, lambda text: err.print(text, highlight=False)
        )
        found = shown(HEAD, rows(world, seeds, range(folds), direct=direct), line)
        if json_file:
            write(json_file, {"machine": environment, "seeds": seeds, "folds": folds, "rows": found})
