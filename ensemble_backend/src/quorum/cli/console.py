# SPDX-License-Identifier: Apache-2.0
"""Input and output of commands: messages on standard error, results on standard output, errors as exit 1."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from rich import progress
from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from quorum.files import WRITE_ERRNOS
from quorum.records import plain
from quorum.safe_text import safe_json, safe_to_show
from quorum_contract.errors import QuorumError


class SafeConsole(Console):
    """A console that leaves unsafe characters of texts out: a text of others cannot steer the terminal.

    Cells of tables that may wrap are never cut, which would make two names one: long words go on below.
    """

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print as rich does, tables with whole cells and a blank line below."""
        tables = [one for one in objects if isinstance(one, Table)]
        for column in (column for table in tables for column in table.columns):
            if not column.no_wrap:
                column.overflow = "fold"
        super().print(*objects, **settings)
        if tables:
            super().print()

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does; only rich itself writes control codes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(safe_to_show(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Go on without messages that have no reader; results that have none end the command."""
        if not self.stderr:
            super().on_broken_pipe()
        self.quiet = True


def new_table(*heads: str | Column, title: str | None = None) -> Table:
    """A table in the look that all commands share."""
    table = Table(*heads, title=title, title_justify="left", title_style="bold", box=SIMPLE)
    table.show_edge, table.padding = False, (0, 1, 0, 0)
    return table


# Names and values may hold brackets, which are no markup.
out = SafeConsole(markup=False)
err = SafeConsole(stderr=True, markup=False)

if TYPE_CHECKING:
    from quorum.tune.loop import Step

P = ParamSpec("P")
R = TypeVar("R")

DeployOption = Annotated[
    Path, typer.Option("--deploy", "--spec", "-d", envvar="QUORUM_DEPLOY", help="The deployment to work on.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
DEPLOY = Path("deploy.yaml")


class CommandError(QuorumError, RuntimeError):
    """A command refuses its arguments; the message names the problem and the fix."""

    code = "COMMAND_REFUSED"


_REMEDIES = {
    errno.ENOENT: "check the name, or make its folder first",
    errno.EISDIR: "name a file in it",
    errno.ENOTDIR: "a part of this path is a file; name another",
    errno.EEXIST: "name another, or remove it",
    errno.EACCES: "allow it to be read and written, or name another place",
    errno.EPERM: "allow it to be read and written, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.ENOSPC: "free some space, or name another place",
    errno.EDQUOT: "free some space, or name another place",
    errno.EFBIG: "raise the limit (`ulimit -f`), or name another place",
    errno.EIO: "check the disk, or name another place",
    errno.EINVAL: "name a file",
    errno.EAGAIN: "run this again when that is done",
}


_HINTS = {
    "UNREACHABLE": "; `quorum up` starts one here",
    "UNAUTHENTICATED": "; commands take it from QUORUM_INFERENCE_KEY",
}


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Print quorum's errors and those of files as one message and exit with 1; anything else is a bug."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except QuorumError as error:
            # By its code, as the class would load the whole client for every command.
            hint = _HINTS.get(error.code, "")
            raise _end(f"{error}{hint}") from error
        except OSError as error:
            # Only of files: errors of sockets and pipes mean nothing to a user.
            if error.filename is None and error.errno not in WRITE_ERRNOS:
                raise
            raise _end(describe_os_error(error)) from error

    return run


def _end(message: str) -> typer.Exit:
    if _log is not None:
        _log(message, "error")
        return typer.Exit(1)
    err.print(Text.assemble(("error: ", "bold red"), message), highlight=False, soft_wrap=True)
    return typer.Exit(1)


def describe_os_error(error: OSError) -> str:
    """Name the file, the error and the fix."""
    if error.filename is None:
        return f"{error.strerror}; {_REMEDIES[error.errno or 0]}"
    name = os.fsdecode(error.filename2 or error.filename)
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, *WRITE_ERRNOS)
    if refused and not os.path.lexists(name):
        # The file was to be created there, maybe under a temporary name.
        name = os.path.dirname(name) or "."  # noqa: PTH120  (a Path would lose what makes a name wrong)
    return f"{name}: {error.strerror}; {_REMEDIES.get(error.errno or 0, 'name another file')}"


def print_json(data: Any) -> None:
    """Print a record, or JSON values, as one JSON document on standard output, see :func:`safe_json`."""
    sys.stdout.write(safe_json(json.dumps(plain(data), ensure_ascii=False, indent=2)) + "\n")


def note(text: str | Text) -> None:
    """Print one line on standard error, or hand it to the log of :func:`log_notes`."""
    if _log is None:
        err.print(text, highlight=False, soft_wrap=True)
    else:
        _log(str(text), "info")


def note_finding(text: str) -> None:
    """As :func:`note`, of a fault, or of the end of one."""
    note(text) if _log is None else _log(text, "warning")


def log_notes(log: Callable[[str, str], None]) -> None:
    """From now on hand each line for standard error, the error at the end too, to ``log`` with its level."""
    global _log
    _log = log


_log: Callable[[str, str], None] | None = None


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 row", "2 rows"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class _Rate(progress.ProgressColumn):
    """How many of a unit are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: progress.Task) -> Text:
        """The rate of the last seconds."""
        return Text(f"{task.speed:.3g} {self._unit}/s" if task.speed else f"- {self._unit}/s")


class ProgressBar:
    """A progress bar on standard error, shown from its first call until the end of the ``with`` block.

    With ``unit`` it also shows how many of these it does in a second.
    """

    def __init__(self, label: str, unit: str = "") -> None:
        self._label = label
        self._task: progress.TaskID | None = None
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            *([_Rate(unit)] if unit else []),
            progress.TextColumn("eta"),
            progress.TimeRemainingColumn(),
            console=err,
        )

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, rate: float = 0.0) -> None:
        """Show the progress, and what is done a second unless that is 0."""
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=total)
        label = f"{self._label}, {rate:.0f}/s" if rate else self._label
        self._bar.update(self._task, completed=done, description=label)


class StepBar:
    """A progress bar of training on standard error: steps, loss, rows per second, best score, time left."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._tasks: dict[str, progress.TaskID] = {}
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[figures]}"),
            console=err,
        )

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._bar.stop()

    def __call__(self, step: Step, stage: str = "") -> None:
        """Show the progress; each stage of a command has a line of its own."""
        self._bar.start()
        if stage not in self._tasks:
            label = f"{self._label} {stage}".rstrip()
            self._tasks[stage] = self._bar.add_task(label, total=step.total, figures="")
        left = timedelta(seconds=round(step.eta))
        score = "" if step.score is None else f" held out {step.score:.1%}"
        rate = f"{step.rate:.0f}" if step.rate >= 1 else f"{step.rate:.1f}"
        figures = f"loss {step.loss:.3f} {rate} rows/s{score} eta {left}"
        self._bar.update(self._tasks[stage], completed=step.done, figures=figures)


def adapters_text(adapters: Mapping[str, str]) -> str:
    """Which adapter answers which attribute, in words, by :meth:`quorum.Deployment.adapters` of a member."""
    answers: dict[str, list[str]] = {}
    for attribute, folder in adapters.items():
        answers.setdefault(folder, []).append("all others" if attribute == "*" else attribute)
    if list(adapters) == ["*"]:
        return adapters["*"]
    return "; ".join(f"{folder}: {', '.join(names)}" for folder, names in answers.items())
