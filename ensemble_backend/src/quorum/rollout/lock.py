# SPDX-License-Identifier: Apache-2.0
"""One change at a time on a repository, whoever makes it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorum_contract.errors import QuorumError

LOCK_FILE = ".rollout.lock"


class RolloutError(QuorumError, RuntimeError):
    """The change was refused or undone; the message says why, what serves now, and what to do."""

    code = "ROLLOUT_FAILED"


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Keep everybody else from changing the repository; the lock dies with the process.

    Raises:
        RolloutError: Somebody is at it.
    """
    with (repository / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RolloutError(
                f"another rollout is at work on {repository}; try again when it is done"
            ) from None
        yield
