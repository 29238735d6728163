# SPDX-License-Identifier: Apache-2.0
"""Note a change before it begins, so that the next command after a crash can take it back.

The note (``rollout.pending.json``) holds the state before and after; every file follows from these. A change
and its undoing write in an order in which no moment is a trap:

====================================  ==================================================================
killed after                          what is on disk; Triton by itself; what recovery does
====================================  ==================================================================
the note                              as before; serves as before; removes the note
the version folder (publish, reset)   a folder that nothing lists; as before; removes it
``state.json``                        the new state, configurations of the old one; as before; puts the
                                      state back, then removes the folder
some configurations                   each lists only versions that have a folder, and the vote lists
                                      every version that a channel asks; serves some of the change; puts
                                      back state, configurations, folder, in that order
the line in the history               all of the change, which counts as made; removes the note
====================================  ==================================================================

So ``state.json`` is always written before the configurations, in both directions: without a note it is the
truth, and ``quorum render`` makes the rest follow. A folder comes before the state that lists it, and goes
after the state that lists it no more.
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
# What quorum.files had not yet renamed.
_SCRATCH_FILES = ("*/.config.pbtxt.*", ".state.json.*", f".{PENDING_FILE}.*")


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change that has begun.

    Attributes:
        at: When, ISO 8601; the log entry of the finished change has the same.
        action: As in :class:`quorum.repository.history.Event`.
        version: As there.
        before: As there.
        weights_hash: As there.
        models: Models whose configuration follows, and which a running server loads.
        old: The state before the change.
        new: The state after it.
        adds_version: Whether the version's folder is part of the change.
        reason: As in the log entry.
        retired: As there.
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
    """The pending change of one repository, of which there is at most one.

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
        """Write down what is about to happen."""
        write_atomic(self.path, json.dumps(msgspec.to_builtins(pending), indent=2) + "\n")

    def apply(self, pending: Pending) -> None:
        """Write the new state and the configurations that follow; a folder that it lists is there already."""
        put_state(self._spec, self._store, pending.models, pending.old, pending.new)

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
        """Take back a change whose process was interrupted; the caller holds the lock, or no server runs.

        Args:
            load: As for :meth:`undo`.

        Returns:
            What was taken back, if anything.

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
        """A running server must not be given configurations of another ``deploy.yaml`` than its own."""
        old, new = pending.old, pending.new
        between = old.listing([*old.versions, *new.versions])
        configs = [state_configs(self._spec, state) for state in (old, new, between)]
        for model in pending.models:
            text = self._store.read_config(model)
            if text not in [print_config(of_state[model]) for of_state in configs]:
                raise RolloutError(
                    f"{pending.action} {pending.version} was interrupted, and {self._spec.path} was changed "
                    "since. Put the change back and try again; or stop the server, run `quorum render` and "
                    "start it again: that takes back what was interrupted"
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
                "that one take the change back (`quorum up`), else look at it, then remove it"
            ) from error
