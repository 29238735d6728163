# SPDX-License-Identifier: Apache-2.0
"""What the commands of studies share: options, machine, rows as they come, files, errors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from quorum_bench.environment import describe_environment, machine_line
from quorum_contract.errors import QuorumError

err = Console(stderr=True)
studies = typer.Typer(
    help="Measurements that stand alone, each with a table of its own.", no_args_is_help=True
)

JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write all figures to this file.")]
PartsFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file, next to its other parts'.")
]


def begin() -> dict[str, Any]:
    """Print and return the machine, with the time."""
    environment = describe_environment() | {"date": datetime.now(UTC).isoformat(timespec="minutes")}
    load = environment["load_before"][0]
    print(f"{environment['date']}  {machine_line(environment)}, load {load}, NumPy {np.__version__}\n")
    return environment


def write(path: Path, content: object) -> None:
    """Write figures as JSON."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_part(path: Path | None, name: str, figures: object) -> None:
    """Write the figures of a part into a JSON file, next to those of its other parts; None: nowhere."""
    if path:
        parts = json.loads(path.read_text("utf-8")) if path.exists() else {}
        write(path, parts | {name: figures})


@contextmanager
def errors() -> Iterator[None]:
    """Print a refusal as one line and exit with 2."""
    try:
        yield
    except (QuorumError, ValueError, OSError) as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def shown(
    head: str, rows: Iterator[dict[str, Any]], line: Callable[[dict[str, Any]], str]
) -> list[dict[str, Any]]:
    """Print each row as soon as it is known, and return all."""
    print(head)
    found = []
    for row in rows:
        found.append(row)
        print(line(row), flush=True)
    return found


def ae110k_folder(folder: Path | None = None) -> Path | None:
    """The folder of AE-110K, by default that in QUORUM_DATA."""
    data = os.environ.get("QUORUM_DATA")
    return Path(data) / "ae-110k" if folder is None and data else folder


def ae110k_votes(file: Path | None) -> Path | None:
    """The file of votes on AE-110K, by default that in QUORUM_DATA."""
    folder = ae110k_folder()
    return folder / "votes.jsonl" if file is None and folder else file
