# SPDX-License-Identifier: Apache-2.0
"""Make a running server what ``deploy.yaml`` says, while it serves: each request is answered, by one graph.

The stages are those of :mod:`quorum.rollout.apply_journal`. A request takes all its steps as it enters a
channel (measured on tritonserver 2.51), so it is answered by the graph before or by the one after, never by a
mixture, and a step that is replaced or unloaded ends once its last request is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from quorum.decision.other_members import for_members
from quorum.decision.trial import check_decisions
from quorum.decision.weights import Weights, loads
from quorum.deployment.schema import Deployment
from quorum.repository.configs import parse_config
from quorum.repository.history import History, Step, timestamp
from quorum.repository.loaded import rendered_models
from quorum.repository.render import misfits
from quorum.repository.store import CONFIG_FILE, KEEP_FILE, Store
from quorum.rollout.apply_journal import ApplyJournal, Begun, Stage
from quorum.rollout.graph_change import ANSWERING, GraphChange, find_change, weights_of_copy
from quorum.rollout.journal import Journal
from quorum.rollout.lock import RolloutError, locked
from quorum.rollout.plan_lines import ApplyPlan, describe, refusals
from quorum.rollout.target import Probe, Server, answering
from quorum.rollout.weights import WeightsKind
from quorum.serving.copies import copy_of, is_copy
from quorum_contract import RECOMMEND_CHANNELS, STABLE, VOTE

Note = Callable[[str], None]
Check = Callable[[GraphChange], None]
"""Raises where a change does not fit the machine."""
Faults = Callable[[str], dict[str, str]]
"""Asks a channel a real question on every server: address -> why it decides nothing, of those that do not."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be served.

    Attributes:
        spec: The deployment.
        weights: For it, if given.
        check: Refuses what does not fit the machine.
    """

    spec: Deployment
    weights: Weights | None = None
    check: Check = lambda _: None


class Applying:
    """Makes the server, or servers, of one repository what a deployment says.

    ``note`` takes a line for each stage. Every method raises RolloutError when the change is refused, or
    fails and is undone.
    """

    def __init__(
        self,
        wanted: Wanted,
        server: Server,
        probe: Probe,
        repository: Path | None = None,
        note: Note = lambda _: None,
        faults: Faults = lambda _: {},
    ) -> None:
        self._wanted, self._spec = wanted, wanted.spec
        self._server, self._probe, self._note, self._faults = server, probe, note, faults
        self._known: dict[str, dict[str, str]] = {}
        self.store = Store(repository or wanted.spec.repository_path)
        self._journal = ApplyJournal(self.store)

    def plan(self) -> ApplyPlan:
        """Check all and change nothing; an interrupted change is a RolloutError."""
        self._server.ping()
        with locked(self.store.path):
            if self._journal.path.exists() or self.store.pending_path.exists():
                raise RolloutError(
                    "a change was interrupted; `quorum apply` without --dry-run undoes it first"
                )
            return self._described(self._checked())

    def apply(self) -> ApplyPlan:
        """Make the change, unless there is nothing to do."""
        self._server.ping()
        with locked(self.store.path):
            self._recover()
            change = self._checked()
            plan = self._described(change)
            if not change.is_empty:
                self._make(change, str(plan))
            return plan

    def settle(self) -> None:
        """Undo or finish an interrupted change."""
        self._server.ping()
        with locked(self.store.path):
            self._recover()

    def _described(self, change: GraphChange) -> ApplyPlan:
        answers = f"version {change.new.pins[STABLE]}, {self._weights_hash(change)}"
        return replace(describe(change), answers=answers)

    def _checked(self) -> GraphChange:
        """The change, if it can be made; raises RolloutError or WeightsError."""
        weights, spec = self._weights(), self._spec
        version = None
        if weights is not None:
            check_decisions(weights)
            weights.check_fits(spec.member_names, spec.catalogue().hashes, spec.catalogue().hash)
            self._guard(weights)
            version = self.store.next_version(self.store.state().versions)
        change = find_change(spec, self.store, weights, version)
        self._check_server(change)
        if refused := [*refusals(change)]:
            raise RolloutError("; ".join(refused))
        self._wanted.check(change)
        return change

    def _weights(self) -> Weights | None:
        """The weights of a new version: those given, or those of stable for other members; None: none."""
        state, spec = self.store.state(), self._spec
        members = spec.member_names
        running = self.store.weights(state.pins[STABLE])
        if self._wanted.weights is not None:
            if running.members != tuple(members):
                self._check_canary(state.canary_share)
                return self._wanted.weights
            if running.content_hash != self._wanted.weights.content_hash:
                raise RolloutError(
                    "the members are those that serve already: roll new weights out by `quorum publish`, and "
                    "apply without --weights"
                )
        if running.members == tuple(members):
            if unfit := misfits(spec, self.store, state):
                listed = "; ".join(f"version {version}: {why}" for version, why in unfit.items())
                raise RolloutError(f"{listed}. Promote another one, `quorum retire` this, and apply again")
            return None
        self._check_canary(state.canary_share)
        return for_members(running, members)

    def _check_canary(self, share: float) -> None:
        if share:
            raise RolloutError(
                "a canary is running; end it first (`quorum canary off`), then change the members"
            )

    def _guard(self, weights: Weights) -> None:
        """Refuse given weights that are worse on the held-out votes, as a publish does."""
        kind = WeightsKind(self._spec, self.store)
        if self._wanted.weights is not None and (comparison := kind.compare(weights)):
            kind.refuse_worse(comparison, "allow more by `rollout.margin` in deploy.yaml")

    def _check_server(self, change: GraphChange) -> None:
        """Refuse a server that does not run what its repository says."""
        for model in rendered_models(self.store.path):
            text = self.store.read_config(model)
            if text is None or is_copy(model):
                continue
            if not self._server.runs(model, parse_config(text)):
                raise RolloutError(
                    f"{self.store.path} was rendered anew since the server started ({model}): apply writes "
                    "it itself. Restart the server, or put deploy.yaml back, run `quorum render` and change "
                    "it again"
                )

    def _make(self, change: GraphChange, summary: str) -> None:
        version, old = change.new.pins[STABLE], change.old.pins[STABLE]
        content = self._weights_hash(change)
        before = old if old != version else None
        begun = Begun(Step(timestamp(), "apply", version, before, content, summary), change)
        serving = [channel for channel in ANSWERING if self.store.read_config(channel)]
        self._known = {channel: self._faults(channel) for channel in serving}
        try:
            self._journal.write(begun)
        except OSError as error:
            raise RolloutError(f"nothing was changed: {error}; make room there and try again") from error
        try:
            self._load(begun)
            if change.copied:
                begun = self._go_over(begun)
            begun = self._change_steps(begun)
            begun = self._go_back(begun)
            self._journal.log(begun)
            begun = self._at(begun, "clean")
        except BaseException as error:
            self._undo(self._journal.read() or begun, error)
            raise
        self._finish(begun)

    def _weights_hash(self, change: GraphChange) -> str:
        if change.weights is None:
            return self.store.weights(change.new.pins[STABLE]).content_hash
        return msgspec.json.decode(change.weights)["content_hash"]  # type: ignore[no-any-return]

    def _at(self, begun: Begun, stage: Stage) -> Begun:
        now = msgspec.structs.replace(begun, stage=stage)
        self._journal.write(now)
        return now

    def _load(self, begun: Begun) -> None:
        """Load what joins, and the copies; no channel asks them yet."""
        change = begun.change
        if change.version is not None and change.weights is not None:
            self.store.add_version(change.version, loads(change.weights))
        joining = self._joining(change)
        self._put_models(change, joining)
        self._write_copies(change)
        for model in (*joining, *map(copy_of, change.copied)):
            self._note(f"loading {model}")
            self._ready(model)

    def _joining(self, change: GraphChange) -> tuple[str, ...]:
        """Models that can be loaded before the catalogue changes."""
        return tuple(
            m
            for m in change.added
            if m not in (*change.channels, *change.of_retriever) and m not in change.copied
        )

    def _write_copies(self, change: GraphChange) -> None:
        files = change.copies()
        if VOTE in change.copied:
            for version in {*change.new.pins.values()}:
                text = change.weights if version == change.version else None
                files[weights_of_copy(version)] = text or self.store.weights_path(version).read_text("utf-8")
        self._journal.put(dict(files))

    def _go_over(self, begun: Begun) -> Begun:
        begun = self._at(begun, "over")
        self._note("channels go over to the new graph")
        self._flip(
            {name: begun.change.channel_of_copies(name) for name in begun.change.channels}, begun.change
        )
        return begun

    def _change_steps(self, begun: Begun) -> Begun:
        """Change the steps, which no channel asks now, or the only step that changes."""
        change = begun.change
        begun = self._at(begun, "steps")
        for channel in change.removed:
            if channel in ANSWERING:
                self._server.unload(channel)
        kept = {name for name, text in change.after.items() if text is None}
        flips = {f"{name}/{CONFIG_FILE}" for name in change.channels}
        self._journal.put({n: t for n, t in change.after.items() if n not in kept | flips})
        for model in dict.fromkeys((*change.changed, *change.copied, *change.of_retriever)):
            self._note(f"loading {model}")
            if change.copied and model in change.changed:
                # No channel asks it, and its memory is free for its successor.
                self._server.unload(model)
            self.store.touch(model)
            self._ready(model)
        if not change.copied:
            self._verify(change)
        return begun

    def _go_back(self, begun: Begun) -> Begun:
        begun = self._at(begun, "back")
        change = begun.change
        channels = (
            change.channels if change.copied else {n: change.channels[n] for n in change.changed_channels}
        )
        self._flip(dict(channels), change)
        for channel in RECOMMEND_CHANNELS if change.of_retriever else ():
            if not self._server.is_ready(channel):
                raise RolloutError(f"{channel!r} is not ready after its load")
        return begun

    def _flip(self, channels: dict[str, str], change: GraphChange) -> None:
        for channel, text in channels.items():
            self._journal.put({f"{channel}/{CONFIG_FILE}": text, f"{channel}/{KEEP_FILE}": ""})
            self._server.load(channel)
        self._verify(change)

    def _verify(self, change: GraphChange) -> None:
        """Check that every channel answers a real request with its version, and decides if it did before."""
        somewhere = {url for faults in self._known.values() for url in faults}
        for channel, version in change.pins().items():
            answered = answering(self._server, self._probe, channel)
            if answered != version:
                raise RolloutError(f"{channel!r} answered with version {answered} instead of {version}")
            for url, fault in self._faults(channel).items():
                if url not in self._known.get(channel, somewhere):
                    raise RolloutError(f"{channel!r} at {url} decides nothing: {fault}")

    def _ready(self, model: str) -> None:
        self._server.load(model)
        if not self._server.is_ready(model):
            raise RolloutError(f"{model} is not ready after its load; see the server's log")

    def _put_models(self, change: GraphChange, models: Iterable[str]) -> None:
        wanted = {*models}
        self._journal.put({n: t for n, t in change.after.items() if n.split("/")[0] in wanted})

    def _finish(self, begun: Begun) -> None:
        """Unload and remove what no channel asks any more; what cannot be unloaded is left for the next."""
        change, failed = begun.change, False
        for model in (*change.removed, *map(copy_of, change.copied)):
            try:
                self._server.unload(model)
            except Exception as error:
                self._note(f"{model} could not be unloaded: {error}; the next `quorum apply` tries again")
                failed = True
        if failed:
            return
        self._journal.put({name: text for name, text in change.after.items() if text is None})
        self._journal.remove_copies(change)
        self._journal.clear()

    def _recover(self) -> None:
        """Undo or finish what was interrupted."""
        Journal(self._spec, self.store, History(self.store.path)).recover(self._server.load)
        if begun := self._journal.read():
            if begun.stage == "clean" or self._is_logged(begun):
                self._note("finishing an interrupted apply")
                self._finish(begun)
            else:
                self._note("undoing an interrupted apply")
                self._put_back(begun, "the process that made it was interrupted")

    def _is_logged(self, begun: Begun) -> bool:
        last = History(self.store.path).last()
        return last is not None and (last.at, last.outcome) == (begun.step.at, "done")

    def _undo(self, begun: Begun, error: BaseException) -> None:
        """Undo a failed change and raise RolloutError with the outcome."""
        try:
            self._put_back(begun, str(error) or type(error).__name__)
        except Exception as again:
            raise RolloutError(
                f"apply failed ({error}) and cannot be undone now: {again}. Fix that; the next `quorum "
                "apply`, or the next start of the server, undoes it"
            ) from error
        if isinstance(error, Exception):
            raise RolloutError(f"apply was undone: {error}; serving as before") from error

    def _put_back(self, begun: Begun, why: str) -> None:
        """Make all as it was, by the same stages in the other direction."""
        change, stage = begun.change, begun.stage
        if stage == "back" and change.copied:
            for name in change.channels:
                self._journal.put({f"{name}/{CONFIG_FILE}": change.channel_of_copies(name)})
                self._server.load(name)
        if stage in ("steps", "back"):
            flips = {f"{name}/{CONFIG_FILE}" for name in change.channels}
            self._journal.put({n: t for n, t in change.before.items() if n not in flips and t is not None})
            for model in dict.fromkeys((*change.changed, *change.of_retriever)):
                if change.copied and model in change.changed:
                    self._server.unload(model)
                self.store.touch(model)
                self._server.load(model)
        if stage != "load":
            self._channels_as_before(change)
            # From here on no channel asks what is removed, and none may go over to it again.
            begun = self._at(begun, "load")
        gone = [m for m in change.added if m not in change.channels]
        for model in (*reversed(gone), *map(copy_of, change.copied)):
            with suppress(Exception):
                self._server.unload(model)
        self._journal.put(change.before)
        if change.version is not None:
            self.store.remove_version(change.version)
        self._journal.log(begun, f"undone: {why}")
        self._journal.remove_copies(change)
        self._journal.clear()

    def _channels_as_before(self, change: GraphChange) -> None:
        for name, after in change.channels.items():
            path = f"{name}/{CONFIG_FILE}"
            text = change.before.get(path, after)
            self._journal.put({path: text})
            if text is None:
                self._server.unload(name)
            else:
                self._server.load(name)
        for name in change.removed:
            if name in ANSWERING:
                self._server.load(name)
