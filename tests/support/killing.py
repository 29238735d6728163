# SPDX-License-Identifier: Apache-2.0
"""A process that dies right before one of its file operations, as by ``kill -9``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quorum.rollout.channels import RolloutError

OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "open"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die_before(operation: int, folder: Path) -> None:
    """Let this process die right before so many file operations in a folder."""
    left = operation

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in OPERATIONS or str(folder) not in str(arguments[0]):
            return
        if event == "open" and not (arguments[2] or 0) & WRITING:
            return
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def killed_before(operation: int, repository: Path, act: Callable[[], Any]) -> bool:
    """Do it in a process that dies right before so many file operations; whether it died."""
    child = os.fork()
    if child == 0:
        die_before(operation, repository)
        try:
            act()
        except RolloutError:
            pass
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0
