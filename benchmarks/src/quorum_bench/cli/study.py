# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench study NAME``: measurements that stand alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from quorum_bench.environment import describe_environment, machine_line
from quorum_bench.studies import (
    address_layout,
    labels,
    redeploys,
    score_size,
    scores,
    simulated_members,
    voting_accuracy,
    voting_speed,
    voting_tables,
)
from quorum_contract.errors import QuorumError

err = Console(stderr=True)
studies = typer.Typer(
    help="Measurements that stand alone, each with a table of its own.", no_args_is_help=True
)

JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write all figures to this file.")]


class MembersPart(StrEnum):
    """Parts of the study ``simulated-members``."""

    em = "em"
    gold = "gold"
    shrinkage = "shrinkage"
    blocs = "blocs"
    label = "label"


class VotingPart(StrEnum):
    """Parts of the study ``voting``."""

    speed = "speed"
    kit = "kit"
    scale = "scale"
    parquet = "parquet"
    accuracy = "accuracy"


class LabelsPart(StrEnum):
    """Parts of the study ``labels``."""

    demo = "demo"
    ae110k = "ae110k"


class ScoresPart(StrEnum):
    """Parts of the study ``scores``."""

    seeds = "seeds"
    draws = "draws"
    noise = "noise"
    size = "size"
    equal = "equal"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(studies, name="study")


@studies.command("simulated-members")
def simulated_members_(
    part: Annotated[
        list[MembersPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer settings and seeds.")] = False,
    votes: Annotated[
        Path | None, typer.Option(help="Recorded votes with gold; the part `label` needs them.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Compare learned weights with the best that can be known at all, on simulated members.

    Each row has what is wanted, what was got, and the verdict. Parts: `em` against MAP with the true
    accuracies, `gold` against the exact Bayes decision where members repeat each other, `shrinkage` against
    shared and separate accuracies, `blocs` with and without looking for them, `label` chosen against random.

    Example: `quorum-bench study simulated-members --part em --part gold --quick`.
    """
    environment = _begin()
    parts = part or [name for name in MembersPart if name is not MembersPart.label or votes]
    rows: list[dict[str, Any]] = []
    with _errors():
        print(simulated_members.HEAD)
        for name in parts:
            first = len(rows)
            for row in simulated_members.rows_of(name.value, quick, votes):
                rows.append(row)
                print(simulated_members.line(row), flush=True)
            print(simulated_members.summary(name.value, rows[first:]) + "\n")
        if json_file:
            _write(json_file, {"machine": environment, "quick": quick, "rows": rows})


@studies.command()
def voting(
    part: Annotated[
        list[VotingPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the cells, few seeds.")] = False,
    repeats: Annotated[int | None, typer.Option(help="Of each timing; speed 15, kit 3, scale 5.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file, next to its other parts'.")
    ] = None,
) -> None:
    """Measure speed and accuracy of vote aggregation, next to crowd-kit where it is installed.

    Parts: `speed` against reading the votes, `kit` against crowd-kit (`pip install crowd-kit "numpy<2"` in an
    environment of its own adds its rows), `scale` from a thousand to millions of cells, `parquet` from a file
    (needs pyarrow), `accuracy` on simulated members.

    Example: `quorum-bench study voting --part speed --quick`.
    """
    environment = _begin()
    cells = 100_000 if quick else 1_000_000
    with _errors():
        for name in part or list(VotingPart):
            result = _voting(name, cells, quick, repeats)
            if json_file:
                parts = json.loads(json_file.read_text("utf-8")) if json_file.exists() else {}
                figures = {"machine": environment, "cells": cells, "quick": quick, "result": result}
                _write(json_file, parts | {name.value: figures})


@studies.command("scores")
def scores_(
    part: Annotated[
        list[ScoresPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(help="Folder of recorded votes: read where they are there, recorded and kept if not."),
    ] = None,
    deploy: Annotated[Path, typer.Option(help="The demo's LLMs, in a checkout.")] = Path("deploy.yaml"),
    ae110k: Annotated[
        Path | None,
        typer.Option(help="Recorded votes on AE-110K; default: ae-110k/votes.jsonl in $QUORUM_DATA."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Tables of every kind.")] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file, next to its other parts'.")
    ] = None,
) -> None:
    """Measure what scores of votes add to learned weights, what noise in their place costs, and their size.

    Parts: `seeds` without gold, on listings of ten seeds; `draws` with 100 gold labels; `noise` instead of
    scores, and distorted ones; `size` of histograms, seconds and microseconds; `equal` hashes of weights and
    decisions by votes without scores. Votes on 600 listings a seed are recorded from the demo's LLMs.

    Example: `quorum-bench study scores --part seeds --votes out/score-votes`.
    """
    environment = _begin()
    inputs = scores.Inputs(votes, deploy, _recorded_votes(ae110k), seeds)
    with _errors():
        for name in part or list(ScoresPart):
            rows = _scores(name, inputs)
            if json_file:
                parts = json.loads(json_file.read_text("utf-8")) if json_file.exists() else {}
                _write(
                    json_file, parts | {name.value: {"machine": environment, "seeds": seeds, "result": rows}}
                )


@studies.command("labels")
def labels_(
    part: Annotated[
        list[LabelsPart] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(help="Folder of recorded votes: read where they are there, recorded and kept if not."),
    ] = None,
    deploy: Annotated[Path, typer.Option(help="The demo's LLMs, in a checkout.")] = Path("deploy.yaml"),
    ae110k: Annotated[
        Path | None,
        typer.Option(help="Recorded votes on AE-110K; default: ae-110k/votes.jsonl in $QUORUM_DATA."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Further listings, of other seeds than the demo's.")] = 2,
    draws: Annotated[int, typer.Option(min=1, help="Draws of labels per size.")] = 40,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file, next to its other parts'.")
    ] = None,
) -> None:
    """Measure what few gold labels give: mean and worst draw, and the attribute that loses most.

    Parts: `demo`, many draws of 50, 100 and 200 labels on votes of the demo's LLMs, without and with scores;
    `ae110k`, held-out accuracy by number of labels where attributes are alike. Both compare weights by
    attribute with common ones.

    Example: `quorum-bench study labels --part demo --votes out/label-votes`.
    """
    environment = _begin()
    inputs = labels.Inputs(votes, deploy, _recorded_votes(ae110k), seeds, draws)
    with _errors():
        for name in part or list(LabelsPart):
            rows = _labels(name, inputs)
            if json_file:
                parts = json.loads(json_file.read_text("utf-8")) if json_file.exists() else {}
                _write(json_file, parts | {name.value: {"machine": environment, "result": rows}})


def _labels(part: LabelsPart, inputs: labels.Inputs) -> list[dict[str, Any]]:
    """Measure a part, print its table line by line, return its figures."""
    if part is LabelsPart.demo:
        rows = _shown(labels.DEMO_HEAD, labels.demo(inputs), labels.demo_line)
        print(labels.demo_summary(rows, inputs.draws) + "\n")
        return rows
    if inputs.ae110k is None or not inputs.ae110k.is_file():
        print(f"AE-110K is left out: no such file: {inputs.ae110k or '--ae110k FILE'}")
        return []
    rows = _shown(labels.REAL_HEAD, labels.real(inputs), labels.real_line)
    print(labels.real_summary(rows) + "\n")
    return rows


def _recorded_votes(file: Path | None) -> Path | None:
    """The file of AE-110K's votes: the given one, or the one in $QUORUM_DATA."""
    folder = os.environ.get("QUORUM_DATA")
    return Path(folder) / "ae-110k" / "votes.jsonl" if file is None and folder else file


def _scores(part: ScoresPart, inputs: scores.Inputs) -> list[dict[str, Any]]:
    """Measure a part, print its table line by line, return its figures."""
    if part in (ScoresPart.noise, ScoresPart.equal) and inputs.real is None:
        print(f"AE-110K is left out: no such file: {inputs.ae110k or '--ae110k FILE'}")
    match part:
        case ScoresPart.seeds:
            rows = _shown(scores.SEEDS_HEAD, scores.seeds(inputs), scores.seeds_line)
            print(scores.seeds_summary(rows) + "\n")
        case ScoresPart.draws:
            rows = list(scores.draws(inputs))
            print(scores.draws_table(rows) + "\n")
        case ScoresPart.noise:
            rows = _shown(scores.NOISE_HEAD, scores.noise(inputs), scores.noise_line)
            print(scores.noise_summary(rows) + "\n")
        case ScoresPart.size:
            rows = _shown(score_size.SIZE_HEAD, score_size.size(), score_size.size_line)
            rows += _shown(score_size.TIME_HEAD, score_size.serving(), score_size.time_line)
            print()
        case ScoresPart.equal:
            rows = _shown("Hashes of AE-110K without scores", scores.equal(inputs), scores.equal_line)
            print()
    return rows


def _shown(
    head: str, rows: Iterator[dict[str, Any]], line: Callable[[dict[str, Any]], str]
) -> list[dict[str, Any]]:
    """Print each row as soon as it is known, and return all."""
    print(head)
    found = []
    for row in rows:
        found.append(row)
        print(line(row), flush=True)
    return found


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
    environment = _begin()
    publishes, count, quiet_s = (15, 60, 5.0) if quick else (100, 300, 30.0)
    with _errors():
        with redeploys.serve(base) as target:
            load = redeploys.under_load(target, publishes, quiet_s)
        with redeploys.serve(base) as target:
            kept = redeploys.held(target, count)
        print(redeploys.table(load, kept))
        if json_file:
            _write(json_file, {"machine": environment, "under_load": load, "held": kept})


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
    _begin()
    with _errors():
        print(address_layout.compare(processes, turns, rounds))


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


def _begin() -> dict[str, Any]:
    """Print and return the machine, with the time."""
    environment = describe_environment() | {"date": datetime.now(UTC).isoformat(timespec="minutes")}
    load = environment["load_before"][0]
    print(f"{environment['date']}  {machine_line(environment)}, load {load}, NumPy {np.__version__}\n")
    return environment


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _errors() -> Iterator[None]:
    """Print a refusal as one line and exit with 2."""
    try:
        yield
    except (QuorumError, ValueError, OSError) as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
