# SPDX-License-Identifier: Apache-2.0
"""Publish weights as a version and decide which version a channel answers with, on a running server.

Every change is: check, write by rename, load, verify by a real request, log. A step that fails is undone.
What a channel answers with changes by rewriting one small configuration; the versions stay loaded side by
side, so nothing is unloaded under a request.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quorum.contract import CANARY, STABLE, VOTE
from quorum.repository.configs import channel_config, print_config, vote_config
from quorum.repository.render import listed_versions
from quorum.repository.store import Store
from quorum.rollout.history import History
from quorum.spec.model import Deployment
from quorum.weights import Weights


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
        action: ``publish``, ``canary``, ``promote`` or ``rollback``.
        version: The version it was about.
        before: What the channel answered with before; ``None`` for ``publish``.
        already: Whether it was so before and nothing had to be done.
    """

    action: str
    version: int
    before: int | None = None
    already: bool = False


class Rollout:
    """Changes versions and channels of one repository and the server that serves it.

    Args:
        spec: The deployment.
        server: The running server.
        probe: Sends one canned request to a channel and returns the version that answered.
        repository: The repository folder; the spec's own by default.
    """

    def __init__(
        self, spec: Deployment, server: Server, probe: Callable[[str], int], repository: Path | None = None
    ) -> None:
        self._spec = spec
        self._server = server
        self._probe = probe
        self.store = Store(repository or spec.repository_path)
        self.history = History(self.store.path)

    def publish(self, weights: Weights) -> Change:
        """Make ``weights`` a new version; no channel changes.

        Raises:
            WeightsError: Made for other members or another catalogue.
            RolloutError: The server refused them; repository and server are as before.
        """
        weights.check_fits(self._spec.member_names, self._spec.catalogue().hash)
        with self._locked():
            version = max([*self.store.versions_on_disk(), *self.store.versions_listed()], default=0) + 1
            before = self.store.read_config(VOTE)
            self.store.add_version(version, weights)
            try:
                self._list_versions([*listed_versions(self.store), version])
                if not self._server.is_ready(VOTE, str(version)):
                    raise RolloutError(f"version {version} is not ready after its load")
            except Exception as error:
                self._undo_publish(version, before)
                self.history.append("publish", version, None, weights.content_hash, f"undone: {error}")
                raise RolloutError(
                    f"version {version} was not published: {error}; the old versions serve on"
                ) from error
            self.history.append("publish", version, None, weights.content_hash)
        return Change("publish", version)

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
        current = self.store.pins().get(STABLE, 0)
        before = self.history.before_last_change(current)
        if before is None:
            raise RolloutError(
                f"{STABLE!r} answers with version {current}, which was not promoted over another; "
                "there is nothing to go back to, name a version to `promote`"
            )
        return self._pin("rollback", STABLE, before)

    def _pin(self, action: str, channel: str, version: int) -> Change:
        with self._locked():
            listed = self.store.versions_listed()
            if version not in listed:
                have = ", ".join(map(str, listed)) or "none"
                raise RolloutError(f"there is no version {version} to {action}; published are: {have}")
            before = self.store.pins().get(channel)
            if before == version and self._answers_with(channel, version):
                return Change(action, version, before, already=True)
            weights_hash = self.store.weights(version).content_hash
            text_before = self.store.read_config(channel)
            try:
                self._set_channel(channel, print_config(channel_config(self._spec, channel, version)))
                answered = self._probe(channel)
                if answered != version:
                    raise RolloutError(f"{channel!r} answered with version {answered}")
            except Exception as error:
                if text_before is not None:
                    with suppress(Exception):
                        self._set_channel(channel, text_before)
                self.history.append(action, version, before, weights_hash, f"undone: {error}")
                raise RolloutError(
                    f"{action} {version} was undone: {error}; {channel!r} answers with {before}"
                ) from error
            self.history.append(action, version, before, weights_hash)
        return Change(action, version, before)

    def _answers_with(self, channel: str, version: int) -> bool:
        try:
            return self._probe(channel) == version
        except Exception:
            return False

    def _set_channel(self, channel: str, text: str) -> None:
        self.store.write_config(channel, text)
        self._server.load(channel)

    def _list_versions(self, versions: list[int]) -> None:
        self.store.write_config(VOTE, print_config(vote_config(self._spec, versions)))
        self._server.load(VOTE)

    def _undo_publish(self, version: int, config_before: str | None) -> None:
        # The listing goes first: a listed version without a folder would stop the next start.
        if config_before is not None:
            self.store.write_config(VOTE, config_before)
        self.store.remove_version(version)
        with suppress(Exception):
            self._server.load(VOTE)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time on this repository, whoever makes it, and none without a server."""
        self._server.ping()
        with (self.store.path / ".rollout.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RolloutError(
                    f"another rollout is at work on {self.store.path}; try again when it is done"
                ) from None
            yield
