# SPDX-License-Identifier: Apache-2.0
"""What a change is about to do, written down first: whoever comes after a crash can take it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from quorum.repository.store import RepositoryError, Store, sync_folder, write_atomic
from quorum.rollout.history import Event, History, account

PENDING_FILE = "rollout.pending.json"
_SCRATCH_FOLDERS = (".publish-*", ".retired-*")
# What write_atomic had not yet renamed.
_SCRATCH_FILES = ("*/.config.pbtxt.*", f".{PENDING_FILE}.*")


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that has begun.

    Attributes:
        at: When, ISO 8601; the log entry of the finished change has the same.
        action: As in :class:`quorum.rollout.history.Event`.
        version: As there.
        before: As there.
        weights_hash: As there.
        configs: Model -> its configuration before the change.
        adds_version: Whether the version's folder is part of the change.
        reason: As there.
        retired: As there.
    """

    at: str
    action: str
    version: int
    before: int | None
    weights_hash: str
    configs: Mapping[str, str]
    adds_version: bool = False
    reason: str | None = None
    retired: Sequence[int] = ()

    def event(self, outcome: str) -> Event:
        """The log entry."""
        return Event(
            self.at,
            account(),
            self.action,
            self.version,
            self.before,
            self.weights_hash,
            outcome,
            self.reason,
            self.retired,
        )


class Journal:
    """The pending change of one repository, of which there is at most one.

    Args:
        store: The repository.
        history: Its log.
    """

    def __init__(self, store: Store, history: History) -> None:
        self._store = store
        self._history = history
        self.path = store.path / PENDING_FILE

    def begin(self, pending: Pending) -> None:
        """Write down what is about to happen."""
        write_atomic(self.path, json.dumps(asdict(pending), indent=2) + "\n")

    def finish(self, pending: Pending) -> None:
        """The change is made and verified."""
        self.log(pending)
        self.clear()

    def log(self, pending: Pending) -> None:
        """From here on the change counts as made, whatever happens."""
        self._history.append(pending.event("done"))

    def clear(self) -> None:
        """Take the note back."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def undo(self, pending: Pending, why: str, load: Callable[[str], None] | None) -> None:
        """Put everything back.

        Args:
            pending: The change.
            why: For the log.
            load: Makes a running server read a model anew; ``None`` when no server runs.
        """
        # Configurations go first: a listed version without a folder would stop the next start.
        # What is as it was needs no writing: there may be no room for it.
        for model, text in pending.configs.items():
            if self._store.read_config(model) != text:
                self._store.write_config(model, text)
        if pending.adds_version:
            self._store.remove_version(pending.version)
        if load is not None:
            for model in pending.configs:
                with suppress(Exception):
                    load(model)
        self._history.append(pending.event(f"undone: {why}"))
        self.clear()

    def recover(self, load: Callable[[str], None] | None) -> Pending | None:
        """Take back a change whose process was interrupted; the caller holds the lock, or no server runs.

        Args:
            load: As for :meth:`undo`.

        Returns:
            What was taken back, if anything.

        Raises:
            RepositoryError: The journal cannot be read.
        """
        for pattern in _SCRATCH_FOLDERS:
            for folder in self._store.path.glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)
        for pattern in _SCRATCH_FILES:
            for file in self._store.path.glob(pattern):
                file.unlink(missing_ok=True)
        pending = self._read()
        if pending is None:
            return None
        last = self._history.last()
        if last is not None and (last.at, last.action, last.version) == (
            pending.at,
            pending.action,
            pending.version,
        ):
            self.clear()
            return None
        self.undo(pending, "the process that made it was interrupted", load)
        return pending

    def _read(self) -> Pending | None:
        try:
            return Pending(**json.loads(self.path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, TypeError) as error:
            raise RepositoryError(
                f"{self.path}: not a journal of quorum ({error}); look at it, then remove it"
            ) from error
