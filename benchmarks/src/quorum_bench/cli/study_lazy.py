# SPDX-License-Identifier: Apache-2.0
"""The study of asking members in turn."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quorum_bench.cli.study_common import PartsFile, ae110k_votes, begin, errors, shown, studies, write_part
from quorum_bench.studies import lazy


class LazyPart(StrEnum):
    """Parts of the study ``lazy``."""

    saving = "saving"
    splits = "splits"


@studies.command("lazy")
def lazy_(
    part: Annotated[
        list[LazyPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    ae110k: Annotated[
        Path | None,
        typer.Option(help="Recorded votes on AE-110K; default: ae-110k/votes.jsonl in $QUORUM_DATA."),
    ] = None,
    votes: Annotated[
        list[Path] | None, typer.Option(help="Further votes tables with gold; may be repeated.")
    ] = None,
    demo: Annotated[
        Path | None,
        typer.Option(help="Folder of the demo's votes, recorded where they are missing; else left out."),
    ] = None,
    deploy: Annotated[Path, typer.Option(help="The demo's LLMs, in a checkout.")] = Path("deploy.yaml"),
    splits: Annotated[int, typer.Option(min=1, help="Random splits of the products.")] = 25,
    json_file: PartsFile = None,
) -> None:
    """Measure what asking members in turn saves, and whether flip risks are kept.

    Parts: `saving`, questions and calls at equal answers, at flip risks, and at the first answer that is sure
    enough, with equal, unsupervised and fitted weights; `splits`, flips on products whose votes set no limit.

    Example: `quorum-bench study lazy --part saving --json lazy.json`.
    """
    environment = begin()
    inputs = lazy.Inputs(ae110k_votes(ae110k), votes or (), demo, deploy, splits)
    parts = {
        LazyPart.saving: (lazy.SAVING_HEAD, lazy.saving, lazy.saving_line, lazy.saving_summary),
        LazyPart.splits: (lazy.SPLITS_HEAD, lazy.splits, lazy.splits_line, lazy.splits_summary),
    }
    with errors():
        for name in part or list(LazyPart):
            head, measure, line, summary = parts[name]
            rows = shown(head, measure(inputs), line)
            print("\n" + summary(rows) + "\n")
            write_part(json_file, name.value, {"machine": environment, "result": rows})
