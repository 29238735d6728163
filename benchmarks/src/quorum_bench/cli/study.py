# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench study NAME``: measurements that stand alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quorum_bench.cli import (  # noqa: F401, they add their commands to the group
    study_bulk,
    study_distill,
    study_gateway,
    study_lazy,
    study_learning,
    study_retrieval,
    study_tasks,
)
from quorum_bench.cli.study_common import (
    JsonFile,
    PartsFile,
    begin,
    err,
    errors,
    shown,
    studies,
    write,
    write_part,
)
from quorum_bench.measure import Effort
from quorum_bench.studies import (
    adapters,
    address_layout,
    encoder,
    isolation,
    redeploys,
    task_figures,
    votes_files,
    voting_accuracy,
    voting_speed,
    voting_tables,
)


class VotingPart(StrEnum):
    """Parts of the study ``voting``."""

    speed = "speed"
    kit = "kit"
    scale = "scale"
    parquet = "parquet"
    accuracy = "accuracy"


def register(app: typer.Typer) -> None:
    """Add the commands, those of ``study_learning`` included."""
    app.add_typer(studies, name="study")


@studies.command()
def voting(
    part: Annotated[
        list[VotingPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the cells, few seeds.")] = False,
    repeats: Annotated[int | None, typer.Option(help="Of each timing; speed 15, kit 3, scale 5.")] = None,
    json_file: PartsFile = None,
) -> None:
    """Measure speed and accuracy of vote aggregation, next to crowd-kit where it is installed.

    Parts: `speed` against reading the votes, `kit` against crowd-kit (`pip install crowd-kit "numpy<2"` in an
    environment of its own adds its rows), `scale` from a thousand to millions of cells, `parquet` from a file
    (needs pyarrow), `accuracy` on simulated members.

    Example: `quorum-bench study voting --part speed --quick`.
    """
    environment = begin()
    cells = 100_000 if quick else 1_000_000
    with errors():
        for name in part or list(VotingPart):
            result = _voting(name, cells, quick, repeats)
            figures = {"machine": environment, "cells": cells, "quick": quick, "result": result}
            write_part(json_file, name.value, figures)


@studies.command("votes")
def votes_(
    cells: Annotated[int, typer.Option(min=10, help="Of the larger table.")] = 1_000_000,
    file_format: Annotated[
        list[str] | None, typer.Option("--format", help="jsonl, parquet or arrow; may be repeated.")
    ] = None,
    json_file: PartsFile = None,
) -> None:
    """Measure seconds and peak memory of `quorum votes`, each command in a process of its own.

    On two tables, of a tenth of the cells and of all.

    Example: `quorum-bench study votes --cells 100000 --format parquet`.
    """
    environment = begin()
    with errors():
        print(votes_files.HEAD)
        for name in file_format or ("jsonl", "parquet"):
            rows = shown("", votes_files.measure(cells, name), votes_files.line)
            write_part(json_file, name, {"machine": environment, "cells": cells, "rows": rows})


@studies.command("task-tables")
def task_tables_(
    data: Annotated[
        Path | None,
        typer.Option(envvar="QUORUM_DATA", help="Folder of the public data, with `tasks`."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the products.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Also write the votes tables to this folder.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure votes of people, and of recorded systems, on spans, labels and texts: best, majority, learned.

    The tables: three annotators of QueryNER, three raters of relevance, two systems and eight reviews.

    Example: `quorum-bench study task-tables --out out/task-tables`.
    """
    environment = begin()
    with errors():
        if data is None:
            raise ValueError("no public data: give --data FOLDER, or set QUORUM_DATA")
        rows = shown(task_figures.HEAD, task_figures.measure(data / "tasks", folds, out), task_figures.line)
        if json_file:
            write(json_file, {"machine": environment, "folds": folds, "result": rows})


@studies.command("redeploys")
def redeploys_(
    quick: Annotated[
        bool, typer.Option("--quick", help="15 publishes and moves, 60 redeploys; else 100 and 300.")
    ] = False,
    base: Annotated[
        Path | None, typer.Option(help="Folder for the repository, such as /dev/shm: another file system.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Redeploy weights under load on a real server: failures, added latency, and growth of the server.

    First the same load runs without and with redeploys, then hundreds of redeploys are made under it, and
    after each the memory, file handles, shared memory and processes of the server are counted.

    Example: `quorum-bench study redeploys --quick --base /dev/shm`.
    """
    environment = begin()
    publishes, count, quiet_s = (15, 60, 5.0) if quick else (100, 300, 30.0)
    with errors():
        with redeploys.serve(base) as target:
            load = redeploys.under_load(target, publishes, quiet_s)
        with redeploys.serve(base) as target:
            kept = redeploys.held(target, count)
        print(redeploys.table(load, kept))
        if json_file:
            write(json_file, {"machine": environment, "under_load": load, "held": kept})


@studies.command("address-layout")
def address_layout_(
    processes: Annotated[int, typer.Option(min=1, help="Processes in turn; 1 shows the work alone.")] = 8,
    turns: Annotated[int, typer.Option(min=1, help="Turns of each process in a round.")] = 3_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of both layouts.")] = 5,
) -> None:
    """Measure the cost of different code addresses in processes that share a core.

    Needs `setarch` (util-linux); Docker's default seccomp profile refuses it.

    Example: `quorum-bench study address-layout --processes 2`.
    """
    begin()
    with errors():
        print(address_layout.compare(processes, turns, rounds))


@studies.command("isolation")
def isolation_(
    pairs: Annotated[int, typer.Option(min=2, help="Runs of each side, in turn.")] = 20,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each run, after a second of warm-up.")] = 5.0,
    callers: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 and 32.")] = None,
    deploy: Annotated[Path, typer.Option(help="A deployment of real LLMs.")] = Path("deploy.yaml"),
    listings: Annotated[Path, typer.Option(help="Products that they are asked about.")] = Path(
        "examples/demo/listings.jsonl"
    ),
    part: Annotated[list[str] | None, typer.Option(help="llms, thinking, at-once; may be repeated.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure what the worker processes of LLMs cost: the same deployment with and without, in turn.

    Three deployments: the LLMs of a file, members that think for 20 ms, and members that answer at once.

    Example: `quorum-bench study isolation --pairs 4 --part llms`.
    """
    environment = begin()
    known: dict[str, isolation.Deployed] = {
        "llms": deploy,
        "thinking": isolation.THINKING,
        "at-once": isolation.AT_ONCE,
    }
    with errors():
        if unknown := {*(part or ())} - {*known}:
            raise ValueError(f"no part {', '.join(sorted(unknown))}; use {', '.join(known)}")
        chosen = {name: known[name] for name in part or known}
        effort = Effort(seconds, 1.0, pairs)
        rows = isolation.measure_pairs(chosen, listings, callers or (1, 32), effort)
        figures = shown(isolation.HEAD, rows, isolation.line)
        if json_file:
            write(json_file, {"machine": environment, "seconds": seconds, "rows": figures})


@studies.command("adapters")
def adapters_(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a small Hugging Face checkpoint.")],
    seconds: Annotated[
        float, typer.Option(min=0.5, help="Of each run; answers in flight are awaited.")
    ] = 20.0,
    callers: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 and 8.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure three LoRA adapters on one base of runtime `hf`, on a CPU: shared, or merged in a process each.

    The adapters are random; needs `make setup-hf`.

    Example: `quorum-bench study adapters checkpoints/SmolLM2-135M-Instruct`.
    """
    environment = begin()
    with errors():
        rows = adapters.measure(checkpoint.resolve(), callers=callers or (1, 8), seconds=seconds)
        figures = shown(adapters.HEAD, rows, adapters.line)
        if json_file:
            write(json_file, {"machine": environment, "seconds": seconds, "rows": figures})


@studies.command("encoder")
def encoder_(
    folder: Annotated[Path, typer.Argument(help="Folder that `quorum tune` made.")],
    texts: Annotated[Path, typer.Option(help="Rows with texts, as `quorum extract` reads them.")] = Path(
        "examples/demo/listings.jsonl"
    ),
    base: Annotated[
        Path | None, typer.Option(help="The model that it was tuned from: adds PyTorch to the table.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=8, help="Batches by each engine, in turn.")] = 200,
    json_file: JsonFile = None,
) -> None:
    """Time an encoder on one core by OpenVINO and ONNX Runtime, next to PyTorch, alone and in batches of 32.

    Differences and equal answers are to OpenVINO f32 on the same weights.

    Example: `quorum-bench study encoder encoders/ner --base models/minilm`.
    """
    environment = begin()
    with errors():
        found, absent = encoder.open_all(folder, base)
        for name, reason in absent.items():
            err.print(f"[yellow]left out:[/] {name}: {reason}", highlight=False, soft_wrap=True)
        encoded, each_us = encoder.encode(folder, texts)
        print(f"{len(encoded)} texts of {sum(map(len, encoded)) / len(encoded):.1f} tokens,", end=" ")
        print(f"tokenised in {each_us:.0f} us each\n")
        rows = shown(encoder.HEAD, encoder.measure(folder, found, encoded, rounds), encoder.line)
        if json_file:
            write(
                json_file,
                {"machine": environment, "texts": len(encoded), "tokenise_us": each_us, "rows": rows},
            )


def _voting(part: VotingPart, cells: int, quick: bool, repeats: int | None) -> object:
    """Measure a part, print its tables, return its figures."""
    match part:
        case VotingPart.speed:
            rows = voting_speed.speed(cells, repeats or 15)
            print(voting_tables.speed_table(cells, rows) + "\n")
            return rows
        case VotingPart.kit:
            kit = voting_speed.kit(cells, repeats or 3)
            print(voting_tables.kit_table(kit) + "\n")
            return kit
        case VotingPart.scale:
            rows = voting_speed.scale(10 * cells, repeats or 5)
            print(voting_tables.scale_table(rows) + "\n")
            return rows
        case VotingPart.parquet:
            rows = voting_speed.parquet(10 * cells)
            print(voting_tables.parquet_table(rows) + "\n")
            return rows
        case VotingPart.accuracy:
            independent = voting_accuracy.gaps_of_independent(3 if quick else 20)
            correlated = voting_accuracy.gaps_with_bloc(3 if quick else 10)
            print(voting_tables.independent_table(independent) + "\n")
            print(voting_tables.bloc_table(correlated) + "\n")
            return {"independent": independent, "correlated": correlated}
