# SPDX-License-Identifier: Apache-2.0
"""Change the state of a repository that no server reads: recover, leave damaged versions out, reset.

``quorum up`` recovers and quarantines before a server starts; ``quorum render --reset-weights`` resets. Each
change is journalled, logged and undone after a crash, as in a rollout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.decision.weights import equal_weights
from quorum.deployment.schema import Deployment
from quorum.repository.history import History, timestamp
from quorum.repository.render import current_state, misfits
from quorum.repository.state import Served
from quorum.repository.store import Store
from quorum.rollout.apply_journal import ApplyJournal, Begun
from quorum.rollout.apply_journal import recover_offline as recover_begun
from quorum.rollout.journal import Journal, Pending, set_aside
from quorum.rollout.kind import Kind
from quorum.rollout.lock import locked
from quorum.rollout.retriever import RetrieverKind
from quorum.rollout.weights import WeightsKind
from quorum_contract import CHANNELS, STABLE, VOTE

KINDS: tuple[type[Kind[Any]], ...] = (WeightsKind, RetrieverKind)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A damaged version that is no longer loaded; its folder stays, so its number is never reused.

    Attributes:
        version: The version.
        why: The damage.
        moved: Channel that was pinned to it -> its new version.
        model: The versioned model.
        ended: Whether nothing of the model is served any more; never so of the weights.
    """

    version: int
    why: str
    moved: dict[str, int]
    model: str = VOTE
    ended: bool = False

    def __str__(self) -> str:
        """One line for people."""
        moved = "".join(f"; {channel} goes to version {to}" for channel, to in self.moved.items())
        if self.ended:
            moved = "; nothing is recommended until a retriever is published"
        of = "" if self.model == VOTE else "of the retriever "
        return f"version {self.version} {of}is damaged and left out ({self.why}){moved}"


@dataclass(frozen=True, slots=True)
class SetAside:
    """A journal of a change that could not be read.

    Attributes:
        path: Where it lies now.
        why: The damage.
    """

    path: Path
    why: str

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"the journal of an interrupted change is damaged, and was set aside as {self.path}; what "
            f"state.json says is served: check it with `quorum status` ({self.why})"
        )


def set_damaged_journal_aside(spec: Deployment, repository: Path | None = None) -> SetAside | None:
    """Set a journal that cannot be read aside, so that a server starts; its change is not undone."""
    store = Store(repository or spec.repository_path)
    with locked(store.path):
        journal = Journal(spec, store, History(store.path))
        why = journal.damage()
        return SetAside(journal.set_aside(), why) if why else None


def set_damaged_apply_aside(repository: Path, *, with_copies: bool) -> SetAside | None:
    """Set a journal of `quorum apply` that cannot be read aside, so that a server starts; nothing is undone.

    ``with_copies`` removes the copies of steps too, which channels may ask until they are rendered again.
    """
    store = Store(repository)
    with locked(store.path):
        journal = ApplyJournal(store)
        why = journal.damage()
        if not why:
            return None
        aside = SetAside(set_aside(journal.path), why)
        if with_copies:
            journal.remove_all_copies()
        return aside


def recover_apply(repository: Path) -> Begun | None:
    """Undo, or finish, an interrupted `quorum apply` before a server starts, and return it."""
    store = Store(repository)
    with locked(store.path):
        return recover_begun(store)


def recover_offline(spec: Deployment, repository: Path | None = None) -> Pending | None:
    """Undo an interrupted rollout before a server starts from the repository, and return it.

    As for all here, the repository is the deployment's own by default, and a running rollout is a
    RolloutError.
    """
    store = Store(repository or spec.repository_path)
    with locked(store.path):
        return Journal(spec, store, History(store.path)).recover(None)


def quarantine(spec: Deployment, repository: Path | None = None) -> list[Quarantined]:
    """Leave damaged versions out of the next start: Triton cannot start with one of them.

    A channel pinned to one goes to an earlier version of the stable channel. Where there is none, nothing
    changes: a version that was never promoted does not go live by itself. But a retriever without a sound
    version is not served any more, so that the votes are.
    """
    store = Store(repository or spec.repository_path)
    with locked(store.path):
        kinds = (kind(spec, store) for kind in KINDS)
        return [found for kind in kinds for found in _quarantined(spec, store, kind)]


def _quarantined(spec: Deployment, store: Store, kind: Kind[Any]) -> Iterator[Quarantined]:
    history = History(store.path, kind.model)
    journal = Journal(spec, store, history)
    for version, why in kind.damaged().items():
        old = store.state()
        served = kind.served(old)
        if served is None:
            return
        moved = _fallbacks(kind, served, history, version)
        if moved is None and kind.model == VOTE:
            continue
        if moved is None:
            new, models = old.having(kind.model, None), (*kind.part.channels, kind.model)
            models += tuple(model for gone in served.versions for model in kind.inner(gone))
        else:
            rest = served.listing([v for v in served.versions if v != version], moved)
            new, models = old.having(kind.model, rest), (kind.model, *kind.inner(version))
            models = (*(name for channel in moved for name in kind.following(channel)), *models)
        step = (timestamp(), "quarantine", version, None, "", why)
        pending = Pending(*step, model=kind.model, models=models, old=old, new=new)
        journal.begin(pending)
        journal.apply(pending)
        journal.log(pending)
        journal.clear()
        yield Quarantined(version, why, moved or {}, kind.model, ended=moved is None)


def reset_weights(spec: Deployment, repository: Path | None = None) -> int:
    """Pin both channels to a new version of equal weights, and return its number.

    For a change of members or catalogue that no version on disk fits. Versions stay on disk, but misfits are
    no longer loaded. The server must be stopped; a running one takes weights by a rollout.
    """
    store = Store(repository or spec.repository_path)
    store.path.mkdir(parents=True, exist_ok=True)
    with locked(store.path):
        journal = Journal(spec, store, History(store.path))
        journal.recover(None)
        old, weights = current_state(store), equal_weights(spec.member_names)
        is_rendered = store.state_path.exists() or store.read_config(VOTE) is not None
        version = store.next_version(old.versions if is_rendered else ())
        fitting = [v for v in old.versions if v not in misfits(spec, store, old)]
        pending = Pending(
            timestamp(),
            "reset",
            version,
            old.pins[STABLE],
            weights.content_hash,
            "equal weights",
            models=(VOTE, *spec.channels),
            old=old,
            new=old.listing((*fitting, version), dict.fromkeys(CHANNELS, version)),
            adds_version=version not in old.versions,
        )
        journal.begin(pending)
        store.add_version(version, weights)
        journal.apply(pending)
        journal.log(pending)
        journal.clear()
    return version


def _fallbacks(kind: Kind[Any], part: Served, history: History, version: int) -> dict[str, int] | None:
    """Channel pinned to ``version`` -> its fallback version; ``None`` if there is no sound one."""
    pins, sound = part.pins, {*part.versions} - kind.damaged().keys()
    served = [v for v in history.served() if v in sound]
    stable = pins[kind.stable]
    if not sound or (version in pins.values() and stable not in sound and not served):
        return None
    refuge = stable if stable in sound else next(iter(served), None)
    return {channel: refuge for channel, pinned in pins.items() if pinned == version and refuge is not None}
