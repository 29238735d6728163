# SPDX-License-Identifier: Apache-2.0
"""Publish versions of weights or of a retriever and pin channels to them, on a running server.

Every change is a new :class:`~quorum.repository.state.State`: check, journal, write the state and the
configurations that follow from it, load these, verify by a real request, log. A step that fails is undone.
The order of writes, and recovery from a crash in between, is in :mod:`quorum.rollout.journal`. Versions stay
loaded side by side, so nothing is unloaded under a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from quorum.decision.kept import not_calibrated
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.repository.history import History, timestamp
from quorum.repository.store import Store
from quorum.rollout.apply_journal import ApplyJournal
from quorum.rollout.change import Change
from quorum.rollout.journal import Journal, Pending
from quorum.rollout.kind import Kind, Note
from quorum.rollout.lock import RolloutError as RolloutError
from quorum.rollout.lock import locked
from quorum.rollout.target import Probe, Server, answering, check_graph
from quorum.rollout.weights import WeightsKind


class Rollout:
    """Changes versions and channels of one repository, by default the spec's, on a running server.

    Of the weights, unless another ``kind`` is given. With ``dry_run`` all is checked and nothing changed;
    ``note`` takes lines on the progress of long comparisons. Every change raises RolloutError when it is
    refused, or fails and is undone.
    """

    def __init__(
        self,
        spec: Deployment,
        server: Server,
        probe: Probe,
        repository: Path | None = None,
        dry_run: bool = False,
        kind: type[Kind[Any]] = WeightsKind,
        note: Note = lambda _: None,
    ) -> None:
        self._spec = spec
        self._server = server
        self._probe = probe
        self._dry_run = dry_run
        self.store = Store(repository or spec.repository_path)
        self.kind: Kind[Any] = kind(spec, self.store, note)
        self.history = History(self.store.path, self.kind.model)
        self._journal = Journal(spec, self.store, self.history)

    def publish(self, content: Any, reason: str | None = None, keep: Sequence[str] = ()) -> Change:
        """Make weights, or the folder of a retriever, a new version, unless a version holds them already.

        No channel changes, except by the first version of a retriever: both its channels begin with that.
        Attributes to ``keep`` are decided as by the running weights. What is worse than the running version
        on held-out data, by more than ``rollout`` or ``retriever`` of the deployment allow, needs a
        ``reason``. Raises WeightsError or ManifestError for what cannot serve this deployment.
        """
        self.kind.check(content)
        with self._locked():
            content = self.kind.keeping(content, keep)
            comparison = self.kind.compare(content)
            if comparison and reason is None:
                self.kind.refuse_worse(comparison)
            version, sound = self.version_for(content), self._sound_versions()
            change = Change("publish", version, model=self.kind.model, comparison=comparison)
            change = replace(change, first=self.kind.served() is None)
            if isinstance(content, Weights):
                scaled = tuple(name for name in not_calibrated(content) if name in keep)
                change = replace(change, kept=tuple(keep), not_calibrated=scaled)
            if version in sound:
                served = self.kind.served()
                answers = served is not None and served.pins[self.kind.stable] == version
                return replace(change, already=True, answers=answers)
            retired = self._surplus(sound, version)
            change = replace(change, retired=retired, planned=self._dry_run)
            if self._dry_run:
                return change
            wanted = self.kind.content_hash(content)
            pending = self._pending_publish(
                version, [v for v in sound if v not in retired], wanted, reason, retired
            )
            with self._change(pending):
                self.kind.add(version, content)
                if self.kind.hash_if_sound(version) != wanted:
                    raise RolloutError(f"{self.kind.source(version)} does not read back as written")
                self._apply(pending)
                if not self._server.is_ready(self.kind.model, str(version)):
                    raise RolloutError(f"version {version} is not ready after its load")
        return change

    def _pending_publish(
        self, version: int, stay: Sequence[int], wanted: str, reason: str | None, retired: tuple[int, ...]
    ) -> Pending:
        """The change that adds a version; the first one of a retriever brings its channels, pinned to it."""
        kind, old = self.kind, self.store.state()
        served = kind.served(old)
        new = served.listing([*stay, version]) if served else kind.part.first(version)
        models = (*kind.inner(version), kind.model, *(() if served else kind.part.channels))
        models += tuple(model for gone in retired for model in kind.inner(gone))
        step = (timestamp(), "publish", version, None, wanted, reason, retired, kind.model)
        return Pending(*step, models=models, old=old, new=old.having(kind.model, new), adds_version=True)

    def _sound_versions(self) -> list[int]:
        """The loaded versions without damaged ones; loading the model with a channel on one would end it."""
        damaged, served = self.kind.damaged(), self.kind.served()
        if served is None:
            return []
        for channel, pinned in served.pins.items():
            if pinned in damaged:
                raise RolloutError(
                    f"{channel!r} answers with version {pinned}, which is damaged on disk and serves from "
                    f"memory alone: {damaged[pinned]}. Put the file back, or let {channel!r} answer with "
                    "another version first"
                )
        return [v for v in served.versions if v not in damaged]

    def _surplus(self, sound: Sequence[int], new: int) -> tuple[int, ...]:
        """The oldest versions beyond ``rollout.keep_versions`` that no channel or rollback needs."""
        if not sound:
            return ()
        pins = self.kind.running().pins
        needed = {new, *pins.values(), self.history.before_last_change(pins[self.kind.stable])}
        unused = sorted(v for v in sound if v not in needed)
        excess = len({*sound, new}) - self._spec.rollout.keep_versions
        return tuple(unused[: max(0, excess)])

    def rehearsal(self) -> Rollout:
        """The same rollout, which only checks."""
        server, probe, kind = self._server, self._probe, type(self.kind)
        return Rollout(self._spec, server, probe, self.store.path, dry_run=True, kind=kind)

    def settle(self) -> None:
        """Undo an interrupted change, as every change does first; raises RolloutError in a dry run."""
        if self._journal.path.exists():
            with self._locked():
                pass

    def version_for(self, content: Any) -> int:
        """The version that holds this content, else the next number; numbers are never reused."""
        served = self.kind.served()
        versions = served.versions if served else ()
        wanted = self.kind.content_hash(content)
        for version in reversed(versions):
            if self.kind.hash_if_sound(version) == wanted:
                return version
        return self.store.next_version(versions, self.kind.model)

    def canary(self, version: int, share: float = 0.0) -> Change:
        """Pin the canary channel to another version than stable's; answers tell callers the share, 0 to 1."""
        if not 0 <= share <= 1:
            raise RolloutError(f"share {share}: a number from 0 to 1 is needed, such as 0.05")
        with self._locked():
            self._check_canary(version)
            return self._pin("canary", self.kind.canary, version, share)

    def end_canary(self, reason: str | None = None, of: int | None = None) -> Change:
        """Set the canary's share to 0 and pin it to stable's version; with ``of``, only if pinned to that."""
        with self._locked():
            self._check_pinned(self.kind.canary, of)
            return self._pin("canary", self.kind.canary, self.answering(), 0.0, reason)

    def promote(self, version: int, reason: str | None = None, over: int | None = None) -> Change:
        """Pin the stable channel to ``version``; with ``over``, only if it is still pinned to that one."""
        with self._locked():
            self._check_pinned(self.kind.stable, over)
            return self._pin("promote", self.kind.stable, version, reason=reason)

    def rollback(self) -> Change:
        """Pin the stable channel to its version before the last promotion."""
        with self._locked():
            return self._pin("rollback", self.kind.stable, self.rollback_target())

    def rollback_target(self) -> int:
        """The version that :meth:`rollback` goes to; raises RolloutError where there is none."""
        current = self.answering()
        before = self.history.before_last_change(current)
        if before is None:
            raise RolloutError(
                f"{self.kind.stable!r} answers with version {current}, which was not promoted over another; "
                "there is nothing to go back to, name a version to `promote`"
            )
        return before

    def answering(self) -> int:
        """The version that the stable channel is pinned to; raises RolloutError where there is none."""
        return self.kind.running().pins[self.kind.stable]

    def retire(self, version: int) -> Change:
        """Unload a version that no channel is pinned to. Its folder stays, so its number is never reused."""
        model = self.kind.model
        with self._locked():
            served = self.kind.running()
            if version in self.store.versions_on_disk(model) and version not in served.versions:
                return Change("retire", version, already=True, model=model)
            self._check_listed("retire", version)
            users = [channel for channel, pinned in served.pins.items() if pinned == version]
            if users:
                verb = "answers" if len(users) == 1 else "answer"
                raise RolloutError(
                    f"version {version} cannot be retired: {' and '.join(users)} {verb} with it; "
                    f"promote another version first, or end the canary (`quorum canary off{self.kind.flag}`)"
                )
            if self._dry_run:
                return Change("retire", version, planned=True, model=model)
            old = self.store.state()
            new = served.listing([v for v in self._sound_versions() if v != version])
            step = (timestamp(), "retire", version, None, self.kind.hash_if_sound(version))
            models = (model, *self.kind.inner(version))
            pending = Pending(*step, model=model, models=models, old=old, new=old.having(model, new))
            with self._change(pending):
                self._apply(pending)
        return Change("retire", version, model=model)

    def _pin(
        self, action: str, channel: str, version: int, share: float | None = None, reason: str | None = None
    ) -> Change:
        self._check_listed(action, version)
        kind, old = self.kind, self.store.state()
        damaged = kind.broken([version]).get(version)
        if damaged:
            raise RolloutError(
                f"version {version} is damaged on disk, no server would start with it: {damaged}. "
                f"Put the file back, or publish its {kind.content} again"
            )
        if unfit := kind.unfit(version):
            raise RolloutError(f"no {action} of version {version}: {unfit}")
        was = kind.running()
        now, before = was.pinned(channel, version, share), was.pins[channel]
        channels = kind.following(channel)
        if now == was and all(self._answers_with(name, version) for name in channels):
            return Change(action, version, before, already=True, model=kind.model)
        asks = now.canary_share if channel == kind.stable else 0.0
        on_canary = now.pins[kind.canary] if asks else version
        of_canary = on_canary if on_canary != version else None
        change = Change(action, version, before, canary=of_canary, canary_share=asks, model=kind.model)
        if self._dry_run:
            return replace(change, planned=True)
        if reason is None and share:
            reason = f"{100 * share:.4g} % of the products"
        models = channels if now.canary_share == was.canary_share else (*channels, *kind.share_in)
        step = (timestamp(), action, version, before, kind.hash_if_sound(version), reason)
        new = old.having(kind.model, now)
        pending = Pending(*step, model=kind.model, models=models, old=old, new=new)
        with self._change(pending):
            self._apply(pending)
        return change

    @contextmanager
    def _change(self, pending: Pending) -> Iterator[None]:
        """Make a change atomic: verified and logged, or undone."""
        channels = self._to_verify(pending)
        try:
            self._journal.begin(pending)
        except OSError as error:
            raise RolloutError(f"nothing was changed: {error}; make room there and try again") from error
        try:
            yield
            self._verify([*channels, *(c for c in pending.models if c in self.kind.pins(pending.new))])
            self._journal.log(pending)
        except BaseException as error:
            self._undo(pending, error, channels)
            raise
        # Made and logged: the next command recognises a journal that cannot be removed now as old.
        with suppress(OSError):
            self._journal.clear()

    def _undo(self, pending: Pending, error: BaseException, channels: Sequence[str]) -> None:
        """Undo a failed change and raise RolloutError with the outcome."""
        change, kept = f"{pending.action} {pending.version}", []

        def load(model: str) -> None:
            try:
                self._load(model)
            except Exception as again:
                # What is loaded is verified below, but no channel tells of what should be gone.
                if self.store.read_config(model) is None:
                    kept.append(again)
                raise

        try:
            self._journal.undo(pending, str(error) or type(error).__name__, load)
        except OSError as again:
            raise RolloutError(
                f"{change} failed ({error}) and cannot be undone now: {again}. Fix that; the next "
                "command, or the next `quorum up`, undoes it"
            ) from error
        if not isinstance(error, Exception):
            return
        served = self.kind.served(pending.old)
        pins = (served.pins if served else {}).items()
        serving = ", ".join(f"{channel} {v}" for channel, v in pins) or f"no version of {self.kind.noun}"
        try:
            self._verify(channels)
            if kept:
                raise kept[0]
        except Exception as after:
            raise RolloutError(
                f"{change} was undone: {error}. On disk all is as before ({serving}), but the server does "
                f"not answer so: {after}. See `quorum status`; a restart serves what is on disk"
            ) from error
        raise RolloutError(f"{change} was undone: {error}; serving as before: {serving}") from error

    def _to_verify(self, pending: Pending) -> list[str]:
        """The changed channels, and others that answer now: their outage must not block the change."""
        pins = self.kind.pins(pending.old).items()
        return [c for c, pinned in pins if c in pending.models or self._answers_with(c, pinned)]

    def _verify(self, channels: Iterable[str]) -> None:
        """Check that these channels answer a real request with their pinned version."""
        pins = self.kind.pins(self.store.state())
        for channel in dict.fromkeys(channels):
            pinned, answered = pins[channel], answering(self._server, self._probe, channel)
            if answered != pinned:
                raise RolloutError(f"{channel!r} answered with version {answered} instead of {pinned}")

    def _check_pinned(self, channel: str, version: int | None) -> None:
        if version is not None and self.kind.running().pins[channel] != version:
            raise RolloutError(f"{channel!r} was changed from version {version} meanwhile; compare again")

    def _check_listed(self, action: str, version: int) -> None:
        kind, listed = self.kind, self.kind.running().versions
        if version not in listed:
            have = ", ".join(map(str, listed))
            if version in self.store.versions_on_disk(kind.model):
                raise RolloutError(
                    f"version {version} is not loaded, so there is nothing to {action}; loaded are: {have}. "
                    f"To have it back, publish it again: `quorum publish {kind.source(version)}`"
                )
            raise RolloutError(f"there is no version {version} to {action}; published are: {have}")

    def _check_canary(self, version: int) -> None:
        """Refuse a canary that is the version of the stable channel: they would be one."""
        kind, served = self.kind, self.kind.running()
        if version != served.pins[kind.stable]:
            return
        others = ", ".join(str(other) for other in served.versions if other != version)
        named = f"name one of {others}" if others else "publish one first (`quorum publish`)"
        raise RolloutError(
            f"version {version} is what {kind.stable!r} answers with, and a canary tries another version: "
            f"{named}; `quorum canary off{kind.flag}` ends a canary"
        )

    def _answers_with(self, channel: str, version: int) -> bool:
        try:
            return answering(self._server, self._probe, channel) == version
        except Exception:
            return False

    def _apply(self, pending: Pending) -> None:
        """Write the new state and its configurations, and load them."""
        self._journal.apply(pending)
        for model in pending.models:
            self._load(model)

    def _load(self, model: str) -> None:
        """Load a model, or unload one that has no configuration any more."""
        act = self._server.unload if self.store.read_config(model) is None else self._server.load
        act(model)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the repository, undo an interrupted change and check that the server runs this graph."""
        self._server.ping()
        with locked(self.store.path):
            # One that is damaged raises, and says so.
            if ApplyJournal(self.store).read():
                raise RolloutError(
                    "`quorum apply` was interrupted: run it again, which undoes or finishes that"
                )
            if not self._dry_run:
                self._journal.recover(self._load)
            elif self._journal.path.exists():
                raise RolloutError("a change was interrupted; the next command without --dry-run undoes it")
            check_graph(self._server, self._spec, self.store, self.kind.model)
            yield
