# SPDX-License-Identifier: Apache-2.0
"""Processes forked from one that has loaded the product: a command takes half a second of imports else."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["support.loaded"])


class Ended(NamedTuple):
    """A command that has ended."""

    code: int | None
    out: str
    err: str


Call = Callable[..., int | None]
"""Calls a function in a process of its own; its exit code, None: it had to be killed after a time-out."""


def call(function: Callable[..., None], *arguments: Any, timeout_s: float = 100.0) -> int | None:
    """Call a function in a process forked from the one that has loaded the product."""
    return _ended(context, function, arguments, timeout_s)


@contextmanager
def loaded(*modules: str) -> Iterator[Call]:
    """As :func:`call`, from a process that has loaded these modules too: PyTorch takes seconds."""
    pipe, other = context.Pipe()
    host: Any = context.Process(target=_host, args=(other, modules))
    host.start()

    def call(function: Callable[..., None], *arguments: Any, timeout_s: float = 300.0) -> int | None:
        pipe.send((function, arguments, timeout_s))
        code: int | None = pipe.recv()
        return code

    try:
        yield call
    finally:
        pipe.send(None)
        host.join(10)
        host.kill()
        host.join()


def _host(pipe: Any, modules: Sequence[str]) -> None:
    for name in modules:
        import_module(name)
    while given := pipe.recv():
        pipe.send(_ended(multiprocessing.get_context("fork"), *given))


def _ended(how: Any, function: Callable[..., None], arguments: Sequence[Any], timeout_s: float) -> int | None:
    process = how.Process(target=function, args=tuple(arguments))
    process.start()
    process.join(timeout_s)
    code: int | None = process.exitcode
    process.kill()
    process.join()
    return code


def run(folder: Path, arguments: Sequence[str], environment: Mapping[str, str], by: Call = call) -> Ended:
    """Run the command ``quorum`` in ``folder``; a code of None: it had to be killed after the time-out."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        code = by(run_quorum, folder, arguments, dict(environment), out, err)
        return Ended(code, out.read_text("utf-8"), err.read_text("utf-8"))


def run_quorum(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path
) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["quorum", *arguments]

    from quorum.cli import main

    main()
