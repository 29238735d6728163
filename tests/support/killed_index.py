# SPDX-License-Identifier: Apache-2.0
"""``quorum index`` in a process that kills itself, as ``kill -9`` would, before or after a step."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from support.forking import context
from support.killing import die_before

from quorum.operations import index as operation
from quorum.operations.index import IndexOptions, IndexReport, index_keyphrases
from quorum.retrieval import embed, version_folder

PART = 20
"""Keyphrases of a part, so that few make several."""

# What does it, by the name of the step.
STEPS: dict[str, tuple[Any, str]] = {
    "read": (operation, "gather_keyphrases"),
    "part": (embed, "_write"),
    "table": (operation, "_write_table"),
    "graph": (operation, "build_graph"),
    "recall": (operation, "recall_of"),
    "manifest": (operation, "write_manifest"),
    "sync": (version_folder, "sync_folder"),
    "rename": (Path, "rename"),
}


def made(keyphrases: Path, student: Path, name: str = "out", **settings: Any) -> IndexReport:
    """Index keyphrases into a folder beside them, in this process."""
    options = IndexOptions(engine="onnxruntime", threads=1, max_bad="100%", **settings)
    return index_keyphrases(keyphrases, student, keyphrases.with_name(name), options)


def killed(keyphrases: Path, student: Path, kill: str) -> int | None:
    """Index in a process of its own; ``after part#3``: killed after a part is written for the third time.

    ``operation#3``: before three file operations are done.

    Returns:
        Its exit code.
    """
    process: Any = context.Process(target=_killed, args=(keyphrases, student, kill))
    process.start()
    process.join(60)
    code: int | None = process.exitcode
    return code


def _killed(keyphrases: Path, student: Path, kill: str) -> None:
    embed.PART = PART  # type: ignore[misc]
    kill, _, number = kill.partition("#")
    if kill == "operation":
        die_before(int(number), keyphrases.parent)
        made(keyphrases, student, index="usearch")
        return
    when, _, step = kill.partition(" ")
    owner, name = STEPS[step]
    original, calls, call = getattr(owner, name), 0, int(number or 1)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*arguments, **named)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, wrapped)
    made(keyphrases, student, index="usearch")
