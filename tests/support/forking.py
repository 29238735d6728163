# SPDX-License-Identifier: Apache-2.0
"""Processes forked from one that has loaded the product: a command takes half a second of imports else."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["support.loaded"])


class Ended(NamedTuple):
    """A command that has ended."""

    code: int | None
    out: str
    err: str


def run(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float = 100.0
) -> Ended:
    """Run the command ``quorum`` in ``folder``; a code of None: it had to be killed after the time-out."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        process: Any = context.Process(
            target=run_quorum, args=(folder, arguments, dict(environment), out, err)
        )
        process.start()
        process.join(timeout_s)
        code = process.exitcode
        process.kill()
        process.join()
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
