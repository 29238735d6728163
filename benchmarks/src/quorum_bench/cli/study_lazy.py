# SPDX-License-Identifier: Apache-2.0
"""The study of asking members in turn."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quorum_bench.cli.study_common import (
    JsonFile,
    PartsFile,
    ae110k_votes,
    begin,
    errors,
    shown,
    studies,
    write,
    write_part,
)
from quorum_bench.studies import encoder_first, lazy, lazy_served


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


@studies.command("lazy-served")
def lazy_served_(
    deploy: Annotated[Path, typer.Option(help="A deployment of LLMs.")] = Path("deploy.yaml"),
    listings: Annotated[Path, typer.Option(help="Listings with gold, JSONL.")] = Path(
        "examples/demo/listings.jsonl"
    ),
    most: Annotated[int | None, typer.Option(min=4, help="Number of listings; default: all.")] = None,
    callers: Annotated[
        list[int] | None, typer.Option(min=1, help="Callers at once; may be repeated; default: 1 and 16.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Measured time of each run.")] = 4.0,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each channel, in turns.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Compare the full and the lazy channel of one server, by open attributes or whole questions.

    Weights, and when to stop early at a flip risk, are learned from votes on one half of the listings. The
    channels answer the other half, all attributes at once and one attribute a request.

    Example: `quorum-bench study lazy-served --json lazy-served.json`.
    """
    environment = begin()
    inputs = lazy_served.Inputs(deploy, listings, tuple(sorted(callers or (1, 16))), seconds, runs, most)
    with errors():
        rows = shown(lazy_served.HEAD, lazy_served.compare(inputs), lazy_served.line)
        print("\n" + lazy_served.summary(rows))
        if json_file:
            write(json_file, {"machine": environment, "result": rows})


@studies.command("encoder-first")
def encoder_first_(
    encoder: Annotated[Path, typer.Option(help="Folder that `quorum tune` made for the same attributes.")],
    learn: Annotated[Path, typer.Option(help="Listings with gold to learn weights and limits from, JSONL.")],
    deploy: Annotated[Path, typer.Option(help="A deployment of LLMs.")] = Path("deploy.yaml"),
    listings: Annotated[Path, typer.Option(help="Listings with gold to judge on, JSONL.")] = Path(
        "examples/demo/listings.jsonl"
    ),
    json_file: JsonFile = None,
) -> None:
    """Ask a tuned encoder first, and the LLMs of a deployment only what it leaves open.

    The lazy channel is compared with all members on real servers, at equal answers and at flip risks of 1 and
    5 %, with one attribute a request and with all: calls of LLMs, values that differ, values that are right.
    The encoder must have been tuned on other listings than both files have.

    Example: `quorum-bench study encoder-first --encoder tuned/encoder --learn learn.jsonl`.
    """
    environment = begin()
    inputs = encoder_first.Inputs(deploy, encoder, learn, listings)
    with errors():
        rows = shown(encoder_first.HEAD, encoder_first.compare(inputs), encoder_first.line)
        print("\n" + encoder_first.summary(rows))
        if json_file:
            write(json_file, {"machine": environment, "result": rows})
