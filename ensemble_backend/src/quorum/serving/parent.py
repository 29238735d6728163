# SPDX-License-Identifier: Apache-2.0
"""End a step with its server: a step that outlives it holds memory, a GPU, and texts of products."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from quorum.processes import all_processes, descendants, end_processes
from quorum.serving.regions import mapped_regions
from quorum.serving.shared_file import own_server, traces_of

_LOOK_S = 0.5


def end_with_server() -> None:
    """Watch this step's server from a thread; when it is gone, end the step, its processes and its files.

    The kernel's own signal (``PR_SET_PDEATHSIG``) follows the thread that started the step, and Triton starts
    steps from threads that end.
    """
    how = (os.getppid(), partial(_end, own_server()))
    threading.Thread(target=_outlive, args=how, name="quorum-parent", daemon=True).start()


def _outlive(server: int, end: Callable[[], None]) -> None:
    """Call ``end`` once this process has another parent than ``server``."""
    while os.getppid() == server:
        time.sleep(_LOOK_S)
    end()


def _end(server: str) -> None:
    with suppress(Exception):
        end_processes(descendants(all_processes(), os.getpid()))
        for file in (*mapped_regions(), *traces_of(server)):
            file.unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)
