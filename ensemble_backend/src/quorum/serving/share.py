# SPDX-License-Identifier: Apache-2.0
"""Read the canary's share of the items from ``state.json``, as the retriever's answers report it.

The share of the weights is a setting of the gate, which is loaded again when it changes. To load a retriever
again takes seconds and twice its memory, so this one is read from the file whenever that was replaced.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

logger = logging.getLogger(__name__)

STATE_FILE = "state.json"


class _Served(msgspec.Struct):
    canary_share: float = 0.0


class _State(msgspec.Struct):
    retriever: _Served | None = None


class CanaryShare:
    """The retriever's share in the ``state.json`` of a model repository."""

    def __init__(self, repository: Path) -> None:
        self._path = repository / STATE_FILE
        self._seen: tuple[int, int] | None = None
        self._share = 0.0

    def read(self) -> float:
        """The share in [0, 1]; the last one known while the file cannot be read."""
        try:
            found = self._path.stat()
            if self._seen != (now := (found.st_mtime_ns, found.st_ino)):
                state = msgspec.json.decode(self._path.read_bytes(), type=_State)
                self._share = state.retriever.canary_share if state.retriever else 0.0
                self._seen = now
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("retriever: the canary's share in %s cannot be read: %s", self._path, error)
        return self._share
