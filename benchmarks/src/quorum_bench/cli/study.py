# SPDX-License-Identifier: Apache-2.0
"""``quorum-bench study NAME``: measurements that stand alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
    redeploys,
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
