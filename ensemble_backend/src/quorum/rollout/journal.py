# SPDX-License-Identifier: Apache-2.0
"""Journal a change before it begins, so that the next command after a crash can undo it.

The journal (``rollout.pending.json``) holds the state before and after; every file follows from these. A
change and its undo write in an order that is safe at every moment:

====================================  ==================================================================
killed after                          files on disk; Triton alone; recovery
====================================  ==================================================================
the journal                           as before; serves as before; removes the journal
the version folder (publish, reset)   an unlisted folder; as before; removes it
``state.json``                        the new state, configurations of the old one; as before; restores
                                      the state, then removes the folder
some configurations                   each lists only versions that have a folder, and the vote lists
                                      every pinned version; serves some of the change; restores state,
                                      configurations, folder, in that order
the line in the history               the whole change, which counts as made; removes the journal
====================================  ==================================================================

So ``state.json`` is always written before the configurations, in both directions: without a journal it is
the truth, and ``quorum render`` derives the rest. A folder is created before the state lists it, and removed
after the state stops listing it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress

import msgspec

from quorum.deployment.schema import Deployment
from quorum.files import sync_folder, write_atomic
from quorum.repository.configs import print_config, state_configs
from quorum.repository.history import Event, History, account
from quorum.repository.render import put_state
from quorum.repository.state import RepositoryError, State
from quorum.repository.store import PENDING_FILE, Store
from quorum.rollout.lock import RolloutError

_SCRATCH_FOLDERS = (".publish-*", ".retired-*")
# Temporary files of quorum.files.
_SCRATCH_FILES = ("*/.config.pbtxt.*", ".state.json.*", f".{PENDING_FILE}.*")


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change that has begun; fields not listed are those of :class:`quorum.repository.history.Event`.

    Attributes:
        at: When, ISO 8601; the same as in the log entry of the finished change.
        models: Models whose configuration changes, and which a running server loads.
        adds_version: Whether the change creates the version's folder.
    """

    at: str
    action: str
    version: int
    before: int | None
    weights_hash: str
    models: tuple[str, ...]
    old: State
    new: State
    adds_version: bool = False
    reason: str | None = None
    retired: tuple[int, ...] = ()

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


class _Key(msgspec.Struct, frozen=True):
    """What a note and its line in the log have in common, whatever release wrote them."""

    at: str
    action: str
    version: int


class Journal:
    """The pending change of one repository; at most one exists.

    Args:
        spec: The deployment, from which configurations follow.
        store: The repository.
        history: Its log.
    """

    def __init__(self, spec: Deployment, store: Store, history: History) -> None:
        self._spec = spec
        self._store = store
        self._history = history
        self.path = store.pending_path

    def begin(self, pending: Pending) -> None:
        """Write the journal."""
        write_atomic(self.path, json.dumps(msgspec.to_builtins(pending), indent=2) + "\n")

    def apply(self, pending: Pending) -> None:
        """Write the new state and its configurations; folders that it lists must exist."""
        put_state(self._spec, self._store, pending.models, pending.old, pending.new)

    def finish(self, pending: Pending) -> None:
        """Log a change that is made and verified, and remove the journal."""
        self.log(pending)
        self.clear()

    def log(self, pending: Pending) -> None:
        """Log the change; from here on it counts as made."""
        self._history.append(pending.event("done"))

    def clear(self) -> None:
        """Remove the journal."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def undo(self, pending: Pending, why: str, load: Callable[[str], None] | None) -> None:
        """Restore the state before the change.

        Args:
            pending: The change.
            why: For the log.
            load: Reloads a model on a running server; ``None`` when no server runs.
        """
        put_state(self._spec, self._store, pending.models, pending.new, pending.old)
        if pending.adds_version:
            self._store.remove_version(pending.version)
        if load is not None:
            for model in pending.models:
                with suppress(Exception):
                    load(model)
        self._history.append(pending.event(f"undone: {why}"))
        self.clear()

    def recover(self, load: Callable[[str], None] | None) -> Pending | None:
        """Undo a change whose process was interrupted; the caller holds the lock, or no server runs.

        Args:
            load: As for :meth:`undo`.

        Returns:
            The undone change, if any.

        Raises:
            RepositoryError: The journal cannot be read.
            RolloutError: A server runs, and ``deploy.yaml`` was changed since the change began.
        """
        for pattern in _SCRATCH_FOLDERS:
            for folder in self._store.path.glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)
        for pattern in _SCRATCH_FILES:
            for file in self._store.path.glob(pattern):
                file.unlink(missing_ok=True)
        if self._is_logged():
            self.clear()
            return None
        pending = self._read()
        if pending is None:
            return None
        if load is not None:
            self._check_unchanged(pending)
        self.undo(pending, "the process that made it was interrupted", load)
        return pending

    def _check_unchanged(self, pending: Pending) -> None:
        """Refuse to load configurations of another ``deploy.yaml`` than the running server's own."""
        old, new = pending.old, pending.new
        between = old.listing([*old.versions, *new.versions])
        configs = [state_configs(self._spec, state) for state in (old, new, between)]
        for model in pending.models:
            text = self._store.read_config(model)
            if text not in [print_config(of_state[model]) for of_state in configs]:
                raise RolloutError(
                    f"{pending.action} {pending.version} was interrupted, and {self._spec.path} was changed "
                    "since. Put the change back and try again; or stop the server, run `quorum render` and "
                    "start it again: that undoes the interrupted change"
                )

    def _is_logged(self) -> bool:
        """Whether the noted change, of this release or an earlier one, is done and in the log."""
        try:
            noted = msgspec.json.decode(self.path.read_bytes(), type=_Key)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return False
        last = self._history.last()
        return last is not None and _Key(last.at, last.action, last.version) == noted

    def _read(self) -> Pending | None:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Pending)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RepositoryError(
                f"{self.path}: not a journal of this release ({error}); if an earlier release wrote it, let "
                "that one undo the change (`quorum up`), else look at it, then remove it"
            ) from error
