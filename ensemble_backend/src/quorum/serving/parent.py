# SPDX-License-Identifier: Apache-2.0
"""End a step with its server: a step that outlives it holds memory, a GPU, and texts of products."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from quorum.serving.admission import shared_files
from quorum.serving.regions import mapped_regions

_LOOK_S = 0.5


def end_with_server() -> None:
    """Watch this step's server from a thread; when it is gone, end the step, its processes and its files.

    The kernel's own signal (``PR_SET_PDEATHSIG``) follows the thread that started the step, and Triton starts
    steps from threads that end.
    """
    server = os.getppid()
    threading.Thread(target=_outlive, args=(server, _end), name="quorum-parent", daemon=True).start()


def _outlive(server: int, end: Callable[[int], None]) -> None:
    """Call ``end`` once this process has another parent than ``server``."""
    while os.getppid() == server:
        time.sleep(_LOOK_S)
    end(server)


def _end(server: int) -> None:
    # Only at the end, as every step would pay for the import.
    import psutil

    with suppress(Exception):
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
        for file in (*mapped_regions(), *shared_files(server)):
            file.unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)
