# SPDX-License-Identifier: Apache-2.0
"""Journal a change of the graph (``apply.pending.json``), so that a start or the next command can undo it.

The journal holds every file before and after, and how far the change is. Its stages, in order:

=========  =========================================================================  =====================
stage      what goes on                                                               a kill here: recovery
=========  =========================================================================  =====================
``load``   models that join, and copies of the steps that change, are loaded          removes them
``over``   channels go over to the copies                                             channels go back first
``steps``  nothing asks the steps themselves: they are changed                        all steps go back, too
``back``   channels go back to the steps                                              over to the copies first
``clean``  all answers; it is in the history; copies and what left are removed        goes on
=========  =========================================================================  =====================
"""

from __future__ import annotations

import json
import shutil
from typing import Literal

import msgspec

from quorum.files import sync_folder, write_atomic
from quorum.repository.history import Event, History, Step, account
from quorum.repository.state import STATE_FILE, RepositoryError
from quorum.repository.store import CONFIG_FILE, KEEP_FILE, Store, read_text
from quorum.rollout.graph_change import Files, GraphChange
from quorum.serving.copies import copy_of
from quorum_contract import VOTE

APPLY_FILE = "apply.pending.json"
Stage = Literal["load", "over", "steps", "back", "clean"]


class Begun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of the graph that has begun.

    Attributes:
        step: For the history.
        change: What changes.
        stage: How far it is.
    """

    step: Step
    change: GraphChange
    stage: Stage = "load"


class ApplyJournal:
    """The pending change of the graph of one repository; at most one exists."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._history = History(store.path)
        self.path = store.path / APPLY_FILE

    def write(self, begun: Begun) -> None:
        """Note a change, or how far it is."""
        write_atomic(self.path, json.dumps(msgspec.to_builtins(begun), indent=1) + "\n")

    def read(self) -> Begun | None:
        """The change that has begun; RepositoryError for a journal that cannot be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Begun)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise RepositoryError(
                f"{self.path}: damaged, or no journal of this release ({error}), so an interrupted `quorum "
                "apply` cannot be undone; stop the server and start it again: `quorum up` sets the file "
                "aside, and names what differs from deploy.yaml, which `quorum render` puts right"
            ) from error

    def damage(self) -> str:
        """Why the journal cannot be read; empty where it can, or where there is none."""
        try:
            self.read()
        except RepositoryError as error:
            return str(error.__cause__ or error)
        return ""

    def log(self, begun: Begun, outcome: str = "done") -> None:
        """Add the change to the history."""
        step = msgspec.structs.asdict(begun.step)
        self._history.append(Event(**step, who=account(), outcome=outcome))

    def clear(self) -> None:
        """Remove the journal."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def put(self, files: Files) -> None:
        """Write files, each by a rename; those that are None are removed, with folders that this empties.

        In an order in which each can be read: what is listed by another comes before it.
        """
        for name in sorted(files, key=_is_read_last):
            text, path = files[name], self._store.path / name
            if text is not None and name.endswith(KEEP_FILE):
                # Without a temporary file, which Triton would take for one of the version.
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            elif text is not None and read_text(path) != text:
                # Of equal content, neither the time changes nor a full disk matters.
                write_atomic(path, text)
        for name, text in files.items():
            if text is None and name.endswith(CONFIG_FILE):
                self._store.remove_config(name.split("/")[0])
            elif text is None:
                (self._store.path / name).unlink(missing_ok=True)

    def remove_copies(self, change: GraphChange) -> None:
        """Remove the files of the copies of a change."""
        for model in change.copied:
            shutil.rmtree(self._store.path / copy_of(model), ignore_errors=True)

    def remove_all_copies(self) -> None:
        """Remove the files of all copies, where no journal says of which change they are."""
        for folder in self._store.path.glob(copy_of("*")):
            if (folder / CONFIG_FILE).is_file():
                shutil.rmtree(folder, ignore_errors=True)

    def undo_offline(self, begun: Begun) -> None:
        """Put every file back as before, or finish, where all was done but to remove what is left."""
        change = begun.change
        if begun.stage == "clean":
            self.put({name: text for name, text in change.after.items() if text is None})
        else:
            self.put(change.before)
            if change.version is not None:
                self._store.remove_version(change.version)
            self.log(begun, "undone: the process that made it was interrupted")
        self.remove_copies(change)
        self.clear()


def recover_offline(store: Store) -> Begun | None:
    """Undo or finish an interrupted change of a repository that no server reads, and return it."""
    journal = ApplyJournal(store)
    begun = journal.read()
    if begun is not None:
        journal.undo_offline(begun)
    return begun


def _is_read_last(name: str) -> tuple[bool, bool]:
    return name.endswith(CONFIG_FILE), name in (STATE_FILE, f"{VOTE}/{CONFIG_FILE}")
