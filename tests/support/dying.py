# SPDX-License-Identifier: Apache-2.0
"""Code that dies before any of its writing operations, or amid a write: killed, or by an exception."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

AUDITED = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate", "open"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Died(BaseException):
    """Stands for the end of a process: no clean-up of its writes anything any more."""


class _Fate:
    """Counts the writing operations in a folder, and what happens at the one that is the last."""

    def __init__(self, operation: int, folder: Path, die: Callable[[], None]) -> None:
        self.left, self.folder, self.die, self.dead = operation, str(folder), die, False

    def reached(self) -> None:
        self.left -= 1
        if self.dead or self.left < 0:
            self.dead = True
            self.die()

    def pwrite(self, handle: int, raw: Any, offset: int) -> int:
        self.reached()
        view = memoryview(raw)
        if self.left == 0:
            # The next operation is the second half of this write.
            _PWRITE(handle, view[: len(view) // 2], offset)
        self.reached()
        return _PWRITE(handle, view, offset)

    def fsync(self, handle: int) -> None:
        self.reached()


_PWRITE = os.pwrite
_now: _Fate | None = None
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _now is None or event not in AUDITED or _now.folder not in str(arguments[0]):
        return
    if event == "open" and not (arguments[2] or 0) & WRITING:
        return
    _now.reached()


@contextmanager
def _facing(fate: _Fate) -> Iterator[None]:
    global _now, _hooked
    if not _hooked:
        # It cannot be taken off again.
        sys.addaudithook(_hook)
        _hooked = True
    _now = fate
    try:
        with mock.patch("os.pwrite", fate.pwrite), mock.patch("os.fsync", fate.fsync):
            yield
    finally:
        _now = None


def died_before(operation: int, folder: Path, act: Callable[[], Any]) -> bool:
    """Do it with an exception before so many writing operations in a folder; whether it was reached."""

    def die() -> None:
        raise Died

    try:
        with _facing(_Fate(operation, folder, die)):
            act()
    except Died:
        return True
    return False


def killed_before(operation: int, folder: Path, act: Callable[[], Any]) -> bool:
    """Do it in a process that is killed before so many writing operations in a folder; whether it was."""
    child = os.fork()
    if child == 0:
        try:
            with _facing(_Fate(operation, folder, lambda: os.kill(os.getpid(), signal.SIGKILL))):
                act()
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0
