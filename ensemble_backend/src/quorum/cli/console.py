# SPDX-License-Identifier: Apache-2.0
"""How commands talk: people read standard error, results go to standard output, machines get JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from quorum.fit import LearnError, VotesError
from quorum.repository.store import RepositoryError
from quorum.rollout.channels import RolloutError
from quorum.server.control import ControlError
from quorum.server.install import ServerNotFound
from quorum.server.triton import ServerError
from quorum.spec import Deployment, SpecError, load_spec
from quorum.tasks.catalogue import CatalogueError
from quorum.weights import WeightsError
from quorum_client import QuorumError

out = Console()
err = Console(stderr=True)

P = ParamSpec("P")
R = TypeVar("R")

DeployOption = Annotated[Path, typer.Option("--deploy", "-d", help="The deployment to work on.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
DEPLOY = Path("deploy.yaml")


class CommandError(RuntimeError):
    """A command cannot do what was asked; the message says what, where and what next."""


_EXPECTED = (
    CommandError,
    SpecError,
    CatalogueError,
    WeightsError,
    VotesError,
    LearnError,
    RepositoryError,
    RolloutError,
    ControlError,
    ServerNotFound,
    ServerError,
    QuorumError,
)


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a user can mend into one message and exit code 1; anything else is a bug."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except _EXPECTED as error:
            message = Text.assemble(("error: ", "bold red"), str(error))
            err.print(message, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error

    return run


def spec_of(deploy: Path) -> Deployment:
    """Load the deployment.

    Raises:
        SpecError: It cannot be used.
    """
    return load_spec(deploy)


def print_json(data: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def note(text: str | Text) -> None:
    """One line for people; brackets in a string are only brackets."""
    err.print(text, highlight=False, soft_wrap=True, markup=False)


def progress() -> Progress:
    """A progress bar on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=err,
    )
