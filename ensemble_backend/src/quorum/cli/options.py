# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and parsers of their texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import quorum
from quorum.bulk.durations import parse_duration
from quorum.cli.console import DEPLOY, CommandError
from quorum_contract.errors import InvalidRequest

AttributesOption = Annotated[
    str | None, typer.Option("--attributes", "-a", help="Comma-separated; default: the whole catalogue.")
]
UrlOption = Annotated[
    str | None, typer.Option(help="host:port; default: the local server, else deploy.yaml.")
]

ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Also write an HTML report with charts to this file.")
]


def parse_wait(option: str, text: str) -> float:
    """Parse a duration such as "90s" or "10m", in seconds; raises CommandError."""
    try:
        return parse_duration(text)
    except InvalidRequest as error:
        raise CommandError(f"{option}: {error}") from error


def names_in(text: str | None) -> list[str] | None:
    """The names of a comma-separated list; None where there is no text."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def files_by_task(option: str, texts: list[str], usual: Path | None = None) -> dict[str, Path]:
    """Parse repeated TASK=FILE, or TASK alone for the file ``usual``.

    Raises CommandError for a name that is empty or given twice, and for one without a file.
    """
    found: dict[str, Path] = {}
    for text in texts:
        task, _, path = (part.strip() for part in text.partition("="))
        if not task:
            raise CommandError(f"{option} {text}: names no task; write TASK=FILE, such as colour=gold.jsonl")
        if task in found:
            raise CommandError(f"{option} {text}: {task} is named twice; put its rows into one file")
        file = Path(path) if path else usual
        if file is None:
            raise CommandError(f"{option} {text}: name its file: {option} {task}=FILE")
        found[task] = file
    return found


def load_if_any(deploy: Path) -> quorum.Deployment | None:
    """Load the deployment; None if ``deploy`` is the default and does not exist."""
    return quorum.load_deployment(deploy) if deploy.exists() or deploy != DEPLOY else None


def parse_canary_share(text: str | None) -> float | Literal["served"] | None:
    """Parse a share, or "served" for the one that the server announces; raises CommandError."""
    if text is None:
        return None
    return "served" if text == "served" else parse_share(text)


def parse_share(text: str) -> float:
    """Parse a share such as "5%" or "0.05"; raises CommandError, also outside 0 to 100 %."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise CommandError(f"share {text!r}: write a percentage or a number from 0 to 1, such as 5% or 0.05")
    return share
