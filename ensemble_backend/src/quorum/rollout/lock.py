# SPDX-License-Identifier: Apache-2.0
"""Lock a repository for one change at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quorum_contract.errors import QuorumError

LOCK_FILE = ".rollout.lock"


class RolloutError(QuorumError, RuntimeError):
    """The change was refused or undone; the message names the reason, the serving versions and the fix."""

    code = "ROLLOUT_FAILED"


class WorseVersion(RolloutError):
    """Not published: worse than the running version on held-out data; the message has the figures."""

    code = "VERSION_WORSE"


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Lock the repository until the block or the process ends; raises RolloutError if another holds it."""
    with (repository / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RolloutError(
                f"another rollout is running on {repository}; try again when it is done"
            ) from None
        yield
