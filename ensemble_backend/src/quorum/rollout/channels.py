# SPDX-License-Identifier: Apache-2.0
"""Publish weights as versions and pin channels to them, on a running server.

Every change is a new :class:`~quorum.repository.state.State`: check, journal, write the state and the
configurations that follow from it, load these, verify by a real request, log. A step that fails is undone.
The order of writes, and recovery from a crash in between, is in :mod:`quorum.rollout.journal`. Versions stay
loaded side by side, so nothing is unloaded under a request.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from quorum.decision.catalogue_change import UNCHANGED, CatalogueChange
from quorum.decision.kept import keep_attributes, not_calibrated
from quorum.decision.trial import check_decisions
from quorum.decision.weights import Weights
from quorum.deployment.schema import Deployment
from quorum.evaluation.guard import Comparison, compare
from quorum.repository.history import History, timestamp
from quorum.repository.store import Store
from quorum.review.spellings import as_served, respelled_in_words
from quorum.rollout.journal import Journal, Pending
from quorum.rollout.lock import RolloutError as RolloutError
from quorum.rollout.lock import locked
from quorum.rollout.target import Probe, Server, answering, check_canary, check_graph
from quorum.votes import VotesError, read_votes
from quorum_contract import CANARY, GATE, STABLE, VOTE


@dataclass(frozen=True, slots=True)
class Change:
    """The result of a command.

    Attributes:
        action: ``publish``, ``canary``, ``promote``, ``rollback`` or ``retire``.
        version: The version that changed or was pinned.
        before: The channel's version before; ``None`` where no channel changes.
        already: Whether the state was as wanted and nothing was done.
        planned: Whether it was only checked (``dry_run``).
        comparison: New weights against the running ones, for ``publish`` with held-out votes.
        retired: Versions that a ``publish`` unloads, beyond ``rollout.keep_versions``.
        canary: Another version than stable's, that a share of the products goes on to get.
        unscored: Members that new weights weigh by their scores, which the deployment does not give.
        catalogue: What the deployment's catalogue changed since new weights were learned.
        kept: Attributes that a ``publish`` lets the running version decide as before.
        not_calibrated: Of these, those whose confidence is not calibrated though that of the weights is.
    """

    action: str
    version: int
    before: int | None = None
    already: bool = False
    planned: bool = False
    comparison: Comparison | None = None
    retired: tuple[int, ...] = ()
    canary: int | None = None
    unscored: tuple[str, ...] = ()
    catalogue: CatalogueChange = UNCHANGED
    kept: tuple[str, ...] = ()
    not_calibrated: tuple[str, ...] = ()


class Rollout:
    """Changes versions and channels of one repository, by default the spec's, on a running server.

    With ``dry_run`` all is checked and nothing changed. Every change raises RolloutError when it is refused,
    or fails and is undone.
    """

    def __init__(
        self,
        spec: Deployment,
        server: Server,
        probe: Probe,
        repository: Path | None = None,
        dry_run: bool = False,
    ) -> None:
        self._spec = spec
        self._server = server
        self._probe = probe
        self._dry_run = dry_run
        self.store = Store(repository or spec.repository_path)
        self.history = History(self.store.path)
        self._journal = Journal(spec, self.store, self.history)

    def publish(self, weights: Weights, reason: str | None = None, keep: Sequence[str] = ()) -> Change:
        """Make ``weights`` a new version, unless a version holds them already; no channel changes.

        Attributes to ``keep`` are decided as by the running version. Weights that are worse than that one by
        more than ``rollout.margin``, over all or (``rollout.guard: per_attribute``) on an attribute, need a
        ``reason``. Attributes that the catalogue changed since use the default parameters of the weights.
        Raises WeightsError for weights of other members, and those that do not decide made-up votes.
        """
        check_decisions(weights)
        catalogue = self._spec.catalogue()
        weights.check_fits(self._spec.member_names, catalogue.hashes, catalogue.hash)
        with self._locked():
            weights = self.keeping(weights, keep)
            comparison = self.compare(weights)
            if comparison and reason is None:
                self._refuse_worse(comparison)
            version, sound = self.version_for(weights), self._sound_versions()
            scaled = tuple(name for name in not_calibrated(weights) if name in keep)
            change = Change(
                "publish", version, comparison=comparison, kept=tuple(keep), not_calibrated=scaled
            )
            if version in sound:
                return replace(change, already=True)
            retired = self._surplus(sound, version)
            change = replace(change, retired=retired, planned=self._dry_run)
            if self._dry_run:
                return change
            old = self.store.state()
            new = old.listing([*(v for v in sound if v not in retired), version])
            step = (timestamp(), "publish", version, None, weights.content_hash, reason, retired)
            pending = Pending(*step, models=(VOTE,), old=old, new=new, adds_version=True)
            with self._change(pending):
                self.store.add_version(version, weights)
                if self.store.weights(version).content_hash != weights.content_hash:
                    raise RolloutError(f"{self.store.weights_path(version)} does not read back as written")
                self._apply(pending)
                if not self._server.is_ready(VOTE, str(version)):
                    raise RolloutError(f"version {version} is not ready after its load")
        return change

    def keeping(self, weights: Weights, names: Sequence[str]) -> Weights:
        """The weights with the running version's parameters for these attributes; RolloutError for others."""
        if not names:
            return weights
        catalogue = self._spec.catalogue().hashes
        running = self.store.weights(self.store.state().pins[STABLE]).fitted(catalogue)
        known = dict.fromkeys([*self._spec.attributes, *running.attributes, *weights.attributes])
        if unknown := [repr(name) for name in names if name not in known]:
            raise RolloutError(
                f"there is no attribute {', '.join(unknown)} to keep; there are: {', '.join(known)}"
            )
        return keep_attributes(weights, running, names, catalogue)

    def _refuse_worse(self, comparison: Comparison) -> None:
        """Raise RolloutError for weights that are worse than ``rollout.guard`` allows."""
        rules, worse = self._spec.rollout, comparison.worse
        figures = "; ".join(filter(None, (str(comparison), comparison.remark)))
        if rules.guard == "per_attribute" and worse:
            keep = " ".join(f"--keep {shlex.quote(name)}" for name in worse)
            raise RolloutError(
                f"not published: {comparison.warning} ({figures}); rollout.guard is per_attribute: let "
                f"the running version decide these (`{keep}`), learn from more labels, or --force it with a "
                "reason"
            )
        if comparison.delta < -rules.margin:
            named = f"; {comparison.warning}" if comparison.warning else ""
            raise RolloutError(
                f"not published: {figures}{named}; see `quorum diff`, or --force it with a reason"
            )

    def _sound_versions(self) -> list[int]:
        """The loaded versions without damaged ones; loading the vote with a channel on one would end it."""
        damaged, state = self.store.damaged(), self.store.state()
        for channel, pinned in state.pins.items():
            if pinned in damaged:
                raise RolloutError(
                    f"{channel!r} answers with version {pinned}, which is damaged on disk and serves from "
                    f"memory alone: {damaged[pinned]}. Put the file back, or let {channel!r} answer with "
                    "another version first"
                )
        return [v for v in state.versions if v not in damaged]

    def _surplus(self, sound: Sequence[int], new: int) -> tuple[int, ...]:
        """The oldest versions beyond ``rollout.keep_versions`` that no channel or rollback needs."""
        pins = self.store.state().pins
        needed = {new, *pins.values(), self.history.before_last_change(pins[STABLE])}
        unused = sorted(v for v in sound if v not in needed)
        excess = len({*sound, new}) - self._spec.rollout.keep_versions
        return tuple(unused[: max(0, excess)])

    def settle(self) -> None:
        """Undo an interrupted change, as every change does first; raises RolloutError in a dry run."""
        if self._journal.path.exists():
            with self._locked():
                pass

    def version_for(self, weights: Weights) -> int:
        """The version that holds these weights, else the next number; numbers are never reused."""
        for version in reversed(self.store.state().versions):
            if self.store.hash_if_sound(version) == weights.content_hash:
                return version
        return self.store.next_version(self.store.state().versions)

    def compare(self, weights: Weights) -> Comparison | None:
        """Compare weights with the running ones on the held-out votes, spelled as in serving.

        Returns:
            ``None`` if the spec names none.

        Raises:
            VotesError: The table cannot be read.
            RolloutError: It has no gold, or votes of other members.
        """
        if self._spec.rollout.heldout is None:
            return None
        path = self._spec.root / self._spec.rollout.heldout
        catalogue = self._spec.catalogue()
        running = self.store.weights(self.store.state().pins[STABLE])
        served = weights.fitted(catalogue.hashes), running.fitted(catalogue.hashes)
        try:
            recorded = read_votes(path).of_members(self._spec.member_names)
            table, respelled = as_served(recorded, catalogue)
            found = compare(*served, table, self._spec.rollout.margin, catalogue.answer_kinds())
            return replace(found, remark=respelled_in_words(respelled))
        except VotesError:
            raise
        except ValueError as error:
            raise RolloutError(f"rollout.heldout {path}: {error}") from error

    def canary(self, version: int, share: float = 0.0) -> Change:
        """Pin the canary channel to another version than stable's; answers tell callers the share, 0 to 1."""
        if not 0 <= share <= 1:
            raise RolloutError(f"share {share}: a number from 0 to 1 is needed, such as 0.05")
        with self._locked():
            check_canary(version, self.store.state())
            return self._pin("canary", CANARY, version, share)

    def end_canary(self, reason: str | None = None, of: int | None = None) -> Change:
        """Set the canary's share to 0 and pin it to stable's version; with ``of``, only if pinned to that."""
        with self._locked():
            self._check_pinned(CANARY, of)
            return self._pin("canary", CANARY, self.store.state().pins[STABLE], 0.0, reason)

    def promote(self, version: int, reason: str | None = None, over: int | None = None) -> Change:
        """Pin the stable channel to ``version``; with ``over``, only if it is still pinned to that one."""
        with self._locked():
            self._check_pinned(STABLE, over)
            return self._pin("promote", STABLE, version, reason=reason)

    def rollback(self) -> Change:
        """Pin the stable channel to its version before the last promotion."""
        with self._locked():
            return self._pin("rollback", STABLE, self.rollback_target())

    def rollback_target(self) -> int:
        """The version that :meth:`rollback` goes to; raises RolloutError where there is none."""
        current = self.store.state().pins[STABLE]
        before = self.history.before_last_change(current)
        if before is None:
            raise RolloutError(
                f"{STABLE!r} answers with version {current}, which was not promoted over another; "
                "there is nothing to go back to, name a version to `promote`"
            )
        return before

    def retire(self, version: int) -> Change:
        """Unload a version that no channel is pinned to. Its folder stays, so its number is never reused."""
        with self._locked():
            old = self.store.state()
            if version in self.store.versions_on_disk() and version not in old.versions:
                return Change("retire", version, already=True)
            self._check_listed("retire", version)
            users = [channel for channel, pinned in old.pins.items() if pinned == version]
            if users:
                verb = "answers" if len(users) == 1 else "answer"
                raise RolloutError(
                    f"version {version} cannot be retired: {' and '.join(users)} {verb} with it; "
                    "promote another version first, or end the canary (`quorum canary off`)"
                )
            if self._dry_run:
                return Change("retire", version, planned=True)
            new = old.listing([v for v in self._sound_versions() if v != version])
            step = (timestamp(), "retire", version, None, self.store.hash_if_sound(version))
            pending = Pending(*step, models=(VOTE,), old=old, new=new)
            with self._change(pending):
                self._apply(pending)
        return Change("retire", version)

    def _pin(
        self, action: str, channel: str, version: int, share: float | None = None, reason: str | None = None
    ) -> Change:
        self._check_listed(action, version)
        damaged = self.store.damaged().get(version)
        if damaged:
            raise RolloutError(
                f"version {version} is damaged on disk, no server would start with it: {damaged}. "
                "Put the file back, or publish its weights again"
            )
        if undecided := self.store.refused([version], check_decisions).get(version):
            raise RolloutError(f"no {action} of version {version}: {undecided}")
        old = self.store.state()
        new, before = old.pinned(channel, version, share), old.pins[channel]
        if new == old and self._answers_with(channel, version):
            return Change(action, version, before, already=True)
        on_canary = new.pins[CANARY] if channel == STABLE and new.canary_share else version
        change = Change(action, version, before, canary=on_canary if on_canary != version else None)
        if self._dry_run:
            return replace(change, planned=True)
        if reason is None and share:
            reason = f"{100 * share:.4g} % of the products"
        models = (channel,) if new.canary_share == old.canary_share else (channel, GATE)
        step = (timestamp(), action, version, before, self.store.hash_if_sound(version), reason)
        pending = Pending(*step, models=models, old=old, new=new)
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
            self._verify(channels)
            self._journal.log(pending)
        except BaseException as error:
            self._undo(pending, error, channels)
            raise
        # Made and logged: the next command recognises a journal that cannot be removed now as old.
        with suppress(OSError):
            self._journal.clear()

    def _undo(self, pending: Pending, error: BaseException, channels: Sequence[str]) -> None:
        """Undo a failed change and raise RolloutError with the outcome."""
        change = f"{pending.action} {pending.version}"
        try:
            self._journal.undo(pending, str(error) or type(error).__name__, self._server.load)
        except OSError as again:
            raise RolloutError(
                f"{change} failed ({error}) and cannot be undone now: {again}. Fix that; the next "
                "command, or the next `quorum up`, undoes it"
            ) from error
        if not isinstance(error, Exception):
            return
        serving = ", ".join(f"{channel} {v}" for channel, v in pending.old.pins.items())
        try:
            self._verify(channels)
        except Exception as after:
            raise RolloutError(
                f"{change} was undone: {error}. On disk all is as before ({serving}), but the server does "
                f"not answer so: {after}. See `quorum status`; a restart serves what is on disk"
            ) from error
        raise RolloutError(f"{change} was undone: {error}; serving as before: {serving}") from error

    def _to_verify(self, pending: Pending) -> list[str]:
        """The changed channel, and the other if it answers now: its outage must not block the change."""
        pins = pending.old.pins
        return [c for c, pinned in pins.items() if c in pending.models or self._answers_with(c, pinned)]

    def _verify(self, channels: Sequence[str]) -> None:
        """Check that these channels answer a real request with their pinned version."""
        pins = self.store.state().pins
        for channel in channels:
            pinned, answered = pins[channel], answering(self._server, self._probe, channel)
            if answered != pinned:
                raise RolloutError(f"{channel!r} answered with version {answered} instead of {pinned}")

    def _check_pinned(self, channel: str, version: int | None) -> None:
        if version is not None and self.store.state().pins[channel] != version:
            raise RolloutError(f"{channel!r} was changed from version {version} meanwhile; compare again")

    def _check_listed(self, action: str, version: int) -> None:
        listed = self.store.state().versions
        if version not in listed:
            have = ", ".join(map(str, listed))
            if version in self.store.versions_on_disk():
                raise RolloutError(
                    f"version {version} is not loaded, so there is nothing to {action}; loaded are: {have}. "
                    f"To have it back, publish it again: `quorum publish {self.store.weights_path(version)}`"
                )
            raise RolloutError(f"there is no version {version} to {action}; published are: {have}")

    def _answers_with(self, channel: str, version: int) -> bool:
        try:
            return answering(self._server, self._probe, channel) == version
        except Exception:
            return False

    def _apply(self, pending: Pending) -> None:
        """Write the new state and its configurations, and load them."""
        self._journal.apply(pending)
        for model in pending.models:
            self._server.load(model)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the repository, undo an interrupted change and check that the server runs this graph."""
        self._server.ping()
        with locked(self.store.path):
            if not self._dry_run:
                self._journal.recover(self._server.load)
            elif self._journal.path.exists():
                raise RolloutError("a change was interrupted; the next command without --dry-run undoes it")
            check_graph(self._server, self._spec, self.store)
            yield
