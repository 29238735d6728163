# SPDX-License-Identifier: Apache-2.0
"""``quorum flywheel`` in a process that kills itself, as ``kill -9`` would, before or after a step."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.forking import Call

STEPS: dict[str, tuple[str, str]] = {
    "record": ("quorum.operations.flywheel_steps", "write_atomic"),
    "answer": ("quorum.bulk.judging.journal.Journal", "add"),
    "judge": ("quorum.operations.flywheel", "judge"),
    "pool": ("quorum.operations.flywheel", "pool"),
    "export": ("quorum.distill.run", "write_student"),
    "distil": ("quorum.operations.flywheel", "distill_student"),
    "part": ("quorum.retrieval.embed", "_write"),
    "index": ("quorum.operations.flywheel", "index_keyphrases"),
    "publish": ("quorum.operations.flywheel", "publish"),
    "measure": ("quorum.operations.flywheel", "evaluate_retrieval"),
}
"""Name of a step -> module or class, and what of it does the step."""


def killed(call: Call, folder: Path, arguments: Sequence[str], kill: str) -> int | None:
    """Run the command in ``folder``; ``after answer#2``: killed when that is done for the second time.

    Returns:
        Its exit code.
    """
    return call(_killed, folder, [*arguments], kill)


def _killed(folder: Path, arguments: list[str], kill: str) -> None:
    kill, _, number = kill.partition("#")
    when, _, step = kill.partition(" ")
    owner, name = _found(STEPS[step][0]), STEPS[step][1]
    original, calls, call = getattr(owner, name), 0, int(number or 1)

    def wrapped(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*given, **named)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, wrapped)
    os.chdir(folder)
    for number_of, path in ((1, folder / "killed.out"), (2, folder / "killed.err")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number_of)
    sys.argv = ["quorum", *arguments]

    from quorum.cli import main

    main()


def _found(name: str) -> Any:
    from importlib import import_module

    module, _, last = name.rpartition(".")
    if last[0].isupper():
        return getattr(import_module(module), last)
    return import_module(name)
