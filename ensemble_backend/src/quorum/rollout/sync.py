# SPDX-License-Identifier: Apache-2.0
"""Bring a repository to the state of another one of its fleet: versions, pins and the canary's share.

Versions are copied first, each complete and with its hash checked; no state names them until all are there.
Then the state changes as in any rollout: journalled, loaded and verified where a server runs, and undone if
it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.deployment.schema import Deployment
from quorum.records import Record
from quorum.repository.history import Event, History, account, timestamp
from quorum.repository.render import render
from quorum.repository.store import Store
from quorum.rollout.apply_journal import ApplyJournal, recover_offline
from quorum.rollout.channels import Rollout
from quorum.rollout.journal import Journal, Pending
from quorum.rollout.kind import Kind
from quorum.rollout.lock import RolloutError, locked
from quorum.rollout.offline import KINDS
from quorum.rollout.retriever import RetrieverKind
from quorum.rollout.target import Probe, Server
from quorum_contract import STABLE, VOTE


@dataclass(frozen=True, slots=True)
class Synced(Record):
    """What a repository gets, or got, from another one.

    Attributes:
        weights: Versions of the weights that are copied.
        retriever: Versions of the retriever that are copied.
        state: Whether versions that are loaded, pins or the canary's share change.
        is_served: Whether a running server loads it.
        planned: Whether it was only checked.
    """

    weights: tuple[int, ...]
    retriever: tuple[int, ...]
    state: bool
    is_served: bool = False
    planned: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.weights or self.retriever or self.state)


class Syncing(Rollout):
    """Brings the repository of a running server to another one's state, of the weights or the retriever."""

    def sync(self, source: Kind[Any]) -> None:
        """Copy what is missing, then load and verify the other one's state."""
        with self._locked():
            old, theirs = self.store.state(), source.served()
            new = old if theirs is None else old.having(self.kind.model, theirs)
            copy_versions(source, self.kind)
            if theirs is None or new == old:
                return
            mine = self.kind.served(old)
            pin = theirs.pins[self.kind.stable]
            before = mine.pins[self.kind.stable] if mine else None
            step = (timestamp(), "sync", pin, before, self.kind.hash_of(pin))
            versions = {*theirs.versions, *(mine.versions if mine else ())}
            models = (
                *(model for version in sorted(versions) for model in self.kind.inner(version)),
                self.kind.model,
                *(name for channel in theirs.pins for name in self.kind.following(channel)),
                *self.kind.share_in,
            )
            pending = Pending(*step, model=self.kind.model, models=models, old=old, new=new)
            with self._change(pending):
                self._apply(pending)


def plan_sync(spec: Deployment, source: Store, target: Store) -> Synced:
    """What a repository lacks of another one's state; RolloutError where it cannot be brought to it."""
    if ApplyJournal(source).path.exists() or source.pending_path.exists():
        raise RolloutError(f"{source.path}: a change is unfinished there; finish it first, then sync")
    if ApplyJournal(target).path.exists():
        raise RolloutError(
            f"{target.path}: `quorum apply` goes on there, or was interrupted: run it again to settle that, "
            "then sync; where no server reads it, `quorum sync` without --dry-run undoes it first"
        )
    missing = {kind.part.model: _missing(kind(spec, source), kind(spec, target)) for kind in KINDS}
    weights, retriever = (tuple(missing[kind.part.model]) for kind in KINDS)
    # An interrupted rollout is undone first, so what it wrote to the state counts for nothing.
    changes = target.pending_path.exists() or target.state_if_any() != source.state()
    return Synced(weights, retriever, changes)


def _missing(source: Kind[Any], target: Kind[Any]) -> list[int]:
    """Loaded versions of one repository that the other has no folder of; refuses another content."""
    served = source.served()
    missing = []
    for version in served.versions if served else ():
        wanted = source.hash_of(version)
        if version not in target.store.versions_on_disk(target.model):
            missing.append(version)
        elif target.hash_if_sound(version) != wanted:
            raise RolloutError(
                f"{target.source(version)} is not version {version} of {source.store.path}: another one was "
                "published there, or it is damaged, and versions are never overwritten. Sync into an empty "
                "folder, and start the server from that"
            )
    return missing


def copy_versions(source: Kind[Any], target: Kind[Any]) -> None:
    """Copy what :func:`plan_sync` found, each folder complete; raises RolloutError where a copy differs."""
    for version in _missing(source, target):
        content: Any = source.source(version)
        target.add(version, source.store.weights(version) if source.model == VOTE else content)
        if target.hash_if_sound(version) != source.hash_of(version):
            target.store.remove_version(version, target.model)
            raise RolloutError(f"{target.source(version)} is not as in {source.store.path}; try again")


def sync_offline(
    spec: Deployment, source: Store, target: Store, check_stopped: Callable[[], None] = lambda: None
) -> Synced:
    """Bring a repository that no server reads to another one's state, and render it for the deployment.

    ``check_stopped`` raises where a server reads it after all; it is called while the repository is locked,
    as a server that starts locks it after it has recorded its start. Returns what the repository got.
    """
    target.path.mkdir(parents=True, exist_ok=True)
    with locked(target.path):
        check_stopped()
        history = History(target.path)
        # What was interrupted is undone first: the next start would undo it, and this with it.
        recover_offline(target)
        if target.state_if_any() is not None:
            Journal(spec, target, history).recover(None)
        plan = plan_sync(spec, source, target)
        for kind in KINDS:
            copy_versions(kind(spec, source), kind(spec, target))
        state = source.state()
        if target.state_if_any() != state:
            pin = state.pins[STABLE]
            content = target.weights(pin).content_hash
            event = Event(timestamp(), "sync", pin, None, content, f"from {source.path}", who=account())
            history.append(event)
            target.write_state(state)
        # What a kill leaves undone here, the next sync does: a server does not start from it before.
        render(spec, target.path)
        return plan


def sync_running(
    spec: Deployment, source: Store, target: Store, server: Server, probes: Sequence[Probe]
) -> None:
    """Bring the repository of a running server, with probes of weights and retriever, to another's state."""
    for kind, probe in zip(KINDS, probes, strict=True):
        if kind is RetrieverKind and source.state().retriever is None:
            continue
        Syncing(spec, server, probe, target.path, kind=kind).sync(kind(spec, source))


def source_of(repositories: Sequence[Path], target: Path) -> Path:
    """The repository to take the state from: the others of the fleet, which must agree."""
    others = [Store(path) for path in repositories if path.resolve() != target.resolve()]
    states = {str(store.path): store.state_if_any() for store in others}
    known = [state for state in states.values() if state is not None]
    if not known:
        raise RolloutError("no other repository of the fleet has a state; name one with --from")
    if any(state != known[0] for state in known):
        raise RolloutError(
            f"the other repositories differ ({', '.join(states)}); name the one that is right with --from"
        )
    return next(store.path for store in others if store.state_if_any() is not None)
