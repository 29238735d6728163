# SPDX-License-Identifier: Apache-2.0
"""Journal a change before it begins, so that the next command after a crash can undo it.

The journal (``rollout.pending.json``) holds the state before and after; every file follows from these. A
change and its undo write in an order that is safe at every moment:

====================================  ==================================================================
killed after                          files on disk; Triton alone; recovery
====================================  ==================================================================
the journal                           as before; serves as before; removes the journal
the version folder (publish, reset)   an unlisted folder; as before; removes it
configurations of models that are     as before: no state names these models; removes them and the
new (the first retriever)             folder
``state.json``                        the new state, configurations of the old one; as before; restores
                                      the state, then removes the folder
some configurations                   each lists only versions that have a folder, and the vote lists
                                      every pinned version; serves some of the change; restores state,
                                      configurations, folder, in that order
the line in the history               the whole change, which counts as made; removes the journal
====================================  ==================================================================

So ``state.json`` is always written before the configurations, in both directions: without a journal it is
the truth, and ``quorum render`` derives the rest. A folder is created before the state lists it, and removed
after the state stops listing it; so are the configurations of models that a state names first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from quorum.deployment.schema import Deployment
from quorum.files import sync_folder, write_atomic
from quorum.repository.configs import print_config, state_configs
from quorum.repository.history import Event, History, Step, account, timestamp
from quorum.repository.render import put_state
from quorum.repository.state import STATE_FILE, RepositoryError, State
from quorum.repository.store import CONFIG_FILE, PENDING_FILE, Store
from quorum.rollout.lock import RolloutError

# Temporary folders of quorum.repository.store, and temporary files of quorum.files.
_SCRATCH = (
    ".publish-*", ".retired-*", f"*/.{CONFIG_FILE}.*", f".{STATE_FILE}.*", f".{PENDING_FILE}.*",
)  # fmt: skip


class Pending(Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that has begun.

    Attributes:
        models: Models whose configuration changes, and which a running server loads.
        old: The state before.
        new: The state after.
        adds_version: Whether the change creates the version's folder.
    """

    models: tuple[str, ...]
    old: State
    new: State
    adds_version: bool = False

    def __post_init__(self) -> None:
        """Refuse a journal whose undo would remove the folder of a loaded version."""
        served = self.old.of(self.model)
        if self.adds_version and served and self.version in served.versions:
            raise ValueError(f"it adds version {self.version}, which is loaded already")

    def event(self, outcome: str) -> Event:
        """The log entry."""
        step = {field: getattr(self, field) for field in Step.__struct_fields__}
        return Event(**step, who=account(), outcome=outcome)


def set_aside(journal: Path) -> Path:
    """Rename a damaged journal; returns its new path."""
    stamp = "".join(c for c in timestamp() if c.isalnum())
    aside = journal.with_name(f"{journal.stem}.damaged-{stamp}.json")
    journal.rename(aside)
    sync_folder(aside.parent)
    return aside


class _Key(msgspec.Struct, frozen=True):
    """What a note and its line in the log have in common, whatever release wrote them."""

    at: str
    action: str
    version: int


class Journal:
    """The pending change of one repository; at most one exists."""

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

    def log(self, pending: Pending) -> None:
        """Log a change that is made and verified; from here on it counts as made."""
        self._history.append(pending.event("done"))

    def clear(self) -> None:
        """Remove the journal."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def undo(self, pending: Pending, why: str, load: Callable[[str], None] | None) -> None:
        """Restore the state before the change, and log why; ``load`` reloads a model if a server runs."""
        put_state(self._spec, self._store, pending.models, pending.new, pending.old)
        if pending.adds_version:
            self._store.remove_version(pending.version, pending.model)
        if load is not None:
            for model in reversed(pending.models):
                with suppress(Exception):
                    load(model)
        self._history.append(pending.event(f"undone: {why}"))
        self.clear()

    def recover(self, load: Callable[[str], None] | None) -> Pending | None:
        """Undo a change whose process was interrupted, and return it.

        The caller holds the lock, or no server runs; ``load`` as for :meth:`undo`.

        Raises:
            RepositoryError: The journal cannot be read.
            RolloutError: A server runs, and ``deploy.yaml`` was changed since the change began.
        """
        for pattern in _SCRATCH:
            for path in self._store.path.glob(pattern):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        if self._is_logged(raw):
            self.clear()
            return None
        pending = self._read(raw)
        if load is not None:
            self._check_unchanged(pending)
        self.undo(pending, "the process that made it was interrupted", load)
        return pending

    def damage(self) -> str:
        """Why the journal cannot be read; empty where it can, or where there is none."""
        try:
            raw = self.path.read_bytes()
            if not self._is_logged(raw):
                self._read(raw)
        except FileNotFoundError:
            pass
        except RepositoryError as error:
            return str(error)
        return ""

    def set_aside(self) -> Path:
        """Rename a damaged journal, and make every configuration follow ``state.json``; returns its new path.

        What its change had written to ``state.json`` stays: only the journal knew what was before.
        """
        aside = set_aside(self.path)
        if state := self._store.state_if_any():
            models = (*state_configs(self._spec, state, self._store.path),)
            put_state(self._spec, self._store, models, state, state)
        return aside

    def _check_unchanged(self, pending: Pending) -> None:
        """Refuse to load configurations of another ``deploy.yaml`` than the running server's own."""
        old, new = pending.old, pending.new
        was, now = old.of(pending.model), new.of(pending.model)
        states = [old, new]
        if was and now:
            states.append(old.having(pending.model, was.listing([*was.versions, *now.versions])))
        configs = []
        for state in states:
            # Of a version whose folder was not written yet, nothing else was either.
            with suppress(RepositoryError):
                configs.append(state_configs(self._spec, state, self._store.path))
        for model in pending.models:
            text = self._store.read_config(model)
            # Of the first version of a retriever, the models have no configuration before.
            if text not in [print_config(c) if (c := of_state.get(model)) else None for of_state in configs]:
                raise RolloutError(
                    f"{pending.action} {pending.version} was interrupted, and {self._spec.path} was changed "
                    "since. Put the change back and try again; or stop the server, run `quorum render` and "
                    "start it again: that undoes the interrupted change"
                )

    def _is_logged(self, raw: bytes) -> bool:
        """Whether the noted change, of this release or an earlier one, is done and in the log."""
        try:
            noted = msgspec.convert(json.loads(raw), _Key)
        except (ValueError, RecursionError):
            return False
        last = self._history.last()
        return last is not None and _Key(last.at, last.action, last.version) == noted

    def _read(self, raw: bytes) -> Pending:
        try:
            return msgspec.convert(json.loads(raw), Pending)
        except (ValueError, RecursionError) as error:
            raise RepositoryError(
                f"{self.path}: not a journal of this release ({error}); if an earlier release wrote it, let "
                "that one undo the change (`quorum up`), else look at it, then remove it; the next start of "
                "this release sets it aside"
            ) from error
