# SPDX-License-Identifier: Apache-2.0
"""Inject faults into a replay, by the option ``faults``: for rehearsals and tests only."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from quorum.runtimes.base import Done, Generated, Usage
from quorum.runtimes.lookup_options import FAULTS

EXIT_CODE = 70
SLOW_S = 2.0
_GARBAGE = '\ufffd}{"' * 400 + "\x00 as an AI language model [[["
_BLOCK_BYTES = 1 << 26
_BLOCK_S = 0.02


class Faults:
    """The faults that a file names, one word at a time; no file or an empty one: none.

    ``is_limited`` says whether something ends a process that takes too much memory.
    """

    def __init__(self, path: Path, is_limited: bool) -> None:
        self._path, self._is_limited = path, is_limited

    def strike(self, done: Done) -> float | None:
        """Do what the file says now.

        Returns:
            Seconds by which the answer is late; None: the question gets no other answer, or none at all.

        Raises:
            RuntimeError: The fault is ``raise``, or one that cannot be injected.
        """
        match self._read():
            case "":
                return 0.0
            case "hang":
                return None
            case "block":
                threading.Event().wait()
            case "slow":
                return SLOW_S
            case "garbage":
                done(Generated(_GARBAGE, usage=Usage(0, len(_GARBAGE))))
            case "memory" if self._is_limited:
                _take_memory()
            case "memory":
                raise RuntimeError("the fault 'memory' would take all there is; set memory_limit_gib")
            case "exit":
                os._exit(EXIT_CODE)
            case "raise":
                raise RuntimeError("injected fault (faults)")
            case other:
                raise RuntimeError(f"{self._path}: no fault {other!r}; use one of {', '.join(FAULTS)}")
        return None

    def _read(self) -> str:
        try:
            return self._path.read_text("utf-8").strip()
        except FileNotFoundError:
            return ""


def _take_memory() -> None:
    blocks = []
    while True:
        blocks.append(b"x" * _BLOCK_BYTES)
        time.sleep(_BLOCK_S)
