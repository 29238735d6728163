# SPDX-License-Identifier: Apache-2.0
"""Publish weights as a version and decide which version a channel answers with, on a running server.

Every change is: check, write by rename, load, verify by a real request, log. A step that fails is undone.
What a channel answers with changes by rewriting one small configuration; the versions stay loaded side by
side, so nothing is unloaded under a request.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from quorum.contract import CANARY, STABLE, VOTE
from quorum.fit.votes import VotesError, read_votes
from quorum.repository.configs import channel_config, print_config, vote_config
from quorum.repository.render import listed_versions
from quorum.repository.store import Store
from quorum.rollout.gate import Comparison, compare
from quorum.rollout.history import History, timestamp
from quorum.rollout.journal import Journal, Pending
from quorum.spec.model import Deployment
from quorum.weights import Weights

LOCK_FILE = ".rollout.lock"


class RolloutError(RuntimeError):
    """The change was refused or undone; the message says why, what serves now, and what to do."""


class Server(Protocol):
    """What a rollout needs of a running server."""

    def ping(self) -> None:
        """Raise when nobody answers or the administration is closed to us."""

    def load(self, model: str) -> None:
        """Load or reload a model from the repository."""

    def is_ready(self, model: str, version: str = "") -> bool:
        """Whether a model version answers."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a command did.

    Attributes:
        action: ``publish``, ``canary``, ``promote``, ``rollback`` or ``retire``.
        version: The version it was about.
        before: What the channel answered with before; ``None`` where no channel changes.
        already: Whether it was so before and nothing had to be done.
        planned: Whether it was only checked and not done (``dry_run``).
        comparison: New weights against the running ones, for ``publish`` with held-out votes.
    """

    action: str
    version: int
    before: int | None = None
    already: bool = False
    planned: bool = False
    comparison: Comparison | None = None


class Rollout:
    """Changes versions and channels of one repository and the server that serves it.

    Args:
        spec: The deployment.
        server: The running server.
        probe: Sends one canned request to a channel and returns the version that answered.
        repository: The repository folder; the spec's own by default.
        dry_run: Check everything, change nothing.
    """

    def __init__(
        self,
        spec: Deployment,
        server: Server,
        probe: Callable[[str], int],
        repository: Path | None = None,
        dry_run: bool = False,
    ) -> None:
        self._spec = spec
        self._server = server
        self._probe = probe
        self._dry_run = dry_run
        self.store = Store(repository or spec.repository_path)
        self.history = History(self.store.path)
        self._journal = Journal(self.store, self.history)

    def publish(self, weights: Weights, reason: str | None = None) -> Change:
        """Make ``weights`` a new version, unless a version holds them already; no channel changes.

        Args:
            weights: New weights.
            reason: Publish even if they are worse on the held-out votes; why, for the log.

        Raises:
            WeightsError: Made for other members or another catalogue.
            RolloutError: Worse than the running weights by more than ``rollout.margin``, or refused by the
                server; repository and server are as before.
        """
        weights.check_fits(self._spec.member_names, self._spec.catalogue().hash)
        with self._locked():
            comparison = self.compare(weights)
            if comparison and comparison.delta < -self._spec.rollout.margin and reason is None:
                raise RolloutError(
                    f"not published: {comparison}; see `quorum diff`, or --force it with a reason"
                )
            version = self.version_for(weights)
            if version in self.store.versions_listed():
                return Change("publish", version, already=True, comparison=comparison)
            if self._dry_run:
                return Change("publish", version, planned=True, comparison=comparison)
            pending = self._pending("publish", version, None, weights.content_hash, [VOTE], reason)
            with self._change(replace(pending, adds_version=True)):
                self.store.add_version(version, weights)
                self._list_versions([*listed_versions(self.store), version])
                if not self._server.is_ready(VOTE, str(version)):
                    raise RolloutError(f"version {version} is not ready after its load")
        return Change("publish", version, comparison=comparison)

    def version_for(self, weights: Weights) -> int:
        """The version that holds these weights, else the number they would get; none is given twice."""
        for version in reversed(self.store.versions_listed()):
            if self._hash(version) == weights.content_hash:
                return version
        return max([*self.store.versions_on_disk(), *self.store.versions_listed()], default=0) + 1

    def compare(self, weights: Weights) -> Comparison | None:
        """Hold weights against the running ones on the held-out votes; ``None`` if the spec names none.

        Raises:
            VotesError: The table cannot be read.
            RolloutError: It has no gold, or votes of other members.
        """
        if self._spec.rollout.heldout is None:
            return None
        path = self._spec.root / self._spec.rollout.heldout
        running = self.store.weights(self.store.pins()[STABLE])
        try:
            return compare(weights, running, read_votes(path).of_members(self._spec.member_names))
        except VotesError:
            raise
        except ValueError as error:
            raise RolloutError(f"rollout.heldout {path}: {error}") from error

    def canary(self, version: int) -> Change:
        """Let the canary channel answer with ``version``.

        Raises:
            RolloutError: There is no such version, or the channel does not answer with it.
        """
        return self._pin("canary", CANARY, version)

    def promote(self, version: int) -> Change:
        """Let the stable channel answer with ``version``.

        Raises:
            RolloutError: There is no such version, or the channel does not answer with it.
        """
        return self._pin("promote", STABLE, version)

    def rollback(self) -> Change:
        """Let the stable channel answer with what it answered with before its version was promoted.

        Raises:
            RolloutError: It never changed, or the version before is gone.
        """
        with self._locked():
            return self._pin_locked("rollback", STABLE, self.rollback_target())

    def rollback_target(self) -> int:
        """The version that :meth:`rollback` goes to.

        Raises:
            RolloutError: The running version was not promoted over another.
        """
        current = self.store.pins().get(STABLE, 0)
        before = self.history.before_last_change(current)
        if before is None:
            raise RolloutError(
                f"{STABLE!r} answers with version {current}, which was not promoted over another; "
                "there is nothing to go back to, name a version to `promote`"
            )
        return before

    def retire(self, version: int) -> Change:
        """Unload a version. Its folder stays on disk, so that its number is never given again.

        Raises:
            RolloutError: There is no such version, or a channel answers with it.
        """
        with self._locked():
            if version in self.store.versions_on_disk() and version not in self.store.versions_listed():
                return Change("retire", version, already=True)
            self._check_listed("retire", version)
            users = [channel for channel, pinned in self.store.pins().items() if pinned == version]
            if users:
                raise RolloutError(
                    f"version {version} cannot be retired: {' and '.join(users)} answers with it; "
                    "promote another version first"
                )
            if self._dry_run:
                return Change("retire", version, planned=True)
            with self._change(self._pending("retire", version, None, self._hash(version), [VOTE])):
                self._list_versions([v for v in self.store.versions_listed() if v != version])
        return Change("retire", version)

    def _pin(self, action: str, channel: str, version: int) -> Change:
        with self._locked():
            return self._pin_locked(action, channel, version)

    def _pin_locked(self, action: str, channel: str, version: int) -> Change:
        self._check_listed(action, version)
        before = self.store.pins().get(channel)
        if before == version and self._answers_with(channel, version):
            return Change(action, version, before, already=True)
        if self._dry_run:
            return Change(action, version, before, planned=True)
        with self._change(self._pending(action, version, before, self._hash(version), [channel])):
            self._set_channel(channel, print_config(channel_config(self._spec, channel, version)))
        return Change(action, version, before)

    @contextmanager
    def _change(self, pending: Pending) -> Iterator[None]:
        """Make a change whole: verified and logged, or taken back."""
        channels = self._to_verify(pending)
        self._journal.begin(pending)
        try:
            yield
            self._verify(channels)
        except BaseException as error:
            self._journal.undo(pending, str(error) or type(error).__name__, self._server.load)
            if not isinstance(error, Exception):
                raise
            serving = ", ".join(f"{channel} {v}" for channel, v in self.store.pins().items())
            raise RolloutError(
                f"{pending.action} {pending.version} was undone: {error}; serving as before: {serving}"
            ) from error
        self._journal.finish(pending)

    def _to_verify(self, pending: Pending) -> list[str]:
        """The channel that changes, and others that answer now: an outage of one must not bind both."""
        pins = self.store.pins()
        return [c for c, pinned in pins.items() if c in pending.configs or self._answers_with(c, pinned)]

    def _verify(self, channels: Sequence[str]) -> None:
        """These channels answer a real request, with the version they are pinned to."""
        pins = self.store.pins()
        for channel in channels:
            pinned, answered = pins[channel], self._probe(channel)
            if answered != pinned:
                raise RolloutError(f"{channel!r} answered with version {answered} instead of {pinned}")

    def _pending(
        self,
        action: str,
        version: int,
        before: int | None,
        weights_hash: str,
        models: Sequence[str],
        reason: str | None = None,
    ) -> Pending:
        configs = {model: self.store.read_config(model) or "" for model in models}
        return Pending(timestamp(), action, version, before, weights_hash, configs, reason=reason)

    def _check_listed(self, action: str, version: int) -> None:
        listed = self.store.versions_listed()
        if version not in listed:
            have = ", ".join(map(str, listed)) or "none"
            raise RolloutError(f"there is no version {version} to {action}; published are: {have}")

    def _hash(self, version: int) -> str:
        return self.store.weights(version).content_hash

    def _answers_with(self, channel: str, version: int) -> bool:
        try:
            return self._probe(channel) == version
        except Exception:
            return False

    def _set_channel(self, channel: str, text: str) -> None:
        self.store.write_config(channel, text)
        self._server.load(channel)

    def _list_versions(self, versions: Sequence[int]) -> None:
        self.store.write_config(VOTE, print_config(vote_config(self._spec, versions)))
        self._server.load(VOTE)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time on this repository, whoever makes it, and none without a server."""
        self._server.ping()
        with locked(self.store.path):
            if not self._dry_run:
                self._journal.recover(self._server.load)
            elif self._journal.path.exists():
                raise RolloutError(
                    "a change was interrupted; the next command without --dry-run takes it back"
                )
            yield


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


def recover_offline(repository: Path) -> Pending | None:
    """Take back what an interrupted rollout left, before a server starts from the repository.

    Returns:
        What was taken back, if anything.

    Raises:
        RolloutError: A rollout is at work.
    """
    store = Store(repository)
    with locked(repository):
        return Journal(store, History(repository)).recover(None)
