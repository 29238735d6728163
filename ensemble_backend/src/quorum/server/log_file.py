# SPDX-License-Identifier: Apache-2.0
"""The logs of server and gateway: private, bounded, and readable from their ends.

Both write to files opened for appending, so that a log can be emptied while they do.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

SERVER_LOG, GATEWAY_LOG = "server.log", "gateway.log"
"""In the state folder of a deployment."""
LIMIT_BYTES = 64 << 20
"""A log that is larger is moved to ``server.log.1``, in place of the one before."""
WITHOUT_GPU = (
    b"quorum: this machine has no GPU, so these lines of Triton are harmless, also those marked E: "
    b'"CudaDriverHelper has not been initialized", "unable to create stream", '
    b'"Unable to allocate pinned system memory", "Failed to initialize NVML", "DCGM unable to start"\n'
)
"""Explains what looks like errors at a healthy start."""
_TAIL_LINES = 40
_TAIL_BYTES = 64 << 10
_LOST_LOCK = "boost::interprocess::lock_exception"
_REFUSED = re.compile(
    r"load failed for model '([^']+)': version \d+ is at UNAVAILABLE state: Internal: RuntimeConfigError: "
    r"(.+?)\s*\n(?:At:|;)",
    re.DOTALL,
)


def open_private(path: str, flags: int) -> int:
    """Open a file for its owner alone, also one that was there with other permissions."""
    handle = os.open(path, flags, 0o600)
    os.fchmod(handle, 0o600)
    return handle


def set_aside(path: Path) -> None:
    """Keep an earlier server's log as ``server.log.1``, before the first start of a new one."""
    with contextlib.suppress(FileNotFoundError):
        path.replace(older(path))


def bound(path: Path, limit_bytes: int = LIMIT_BYTES) -> bool:
    """Copy a log beyond its limit aside and empty it; lines written in between may be lost.

    Returns:
        Whether it was beyond its limit. A disk without room for the copy loses the old lines.
    """
    try:
        if path.stat().st_size <= limit_bytes:
            return False
        with (
            contextlib.suppress(OSError),
            path.open("rb") as log,
            open(older(path), "wb", opener=open_private) as copy,
        ):
            shutil.copyfileobj(log, copy, 1 << 20)
        os.truncate(path, 0)
    except FileNotFoundError:
        return False
    return True


def tail(path: Path) -> str:
    """The last lines of a log; empty where there is none."""
    with contextlib.suppress(OSError), path.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:])
    return ""


def refused_settings(text: str) -> list[str]:
    """The models whose settings a member's runtime refused, by the lines of a log, each with the reason."""
    found = {model: " ".join(why.split()) for model, why in _REFUSED.findall(text)}
    return [f"{model}: {why}" for model, why in found.items()]


def lost_lock(text: str) -> bool:
    """Whether tritonserver ended itself, as a step was not scheduled for a second, by the lines of a log."""
    return _LOST_LOCK in text


def older(path: Path) -> Path:
    """Where the earlier lines of a log are."""
    return path.with_name(f"{path.name}.1")
