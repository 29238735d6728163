# SPDX-License-Identifier: Apache-2.0
"""Roll out to several servers: those that share a repository together, others one after another."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from tritonclient.grpc import model_config_pb2 as pb

from quorum.rollout.change import Change
from quorum.rollout.channels import Rollout, RolloutError
from quorum.rollout.target import Probe, Server, answering

P = ParamSpec("P")


class SharedRepository:
    """Servers that read one repository, by address, as the one server of a :class:`Rollout`."""

    def __init__(self, servers: dict[str, tuple[Server, Probe]]) -> None:
        self._servers = servers
        self._begun: set[tuple[str, str]] = set()

    def ping(self) -> None:
        """Raise when a server is unreachable."""
        for server, _ in self._servers.values():
            server.ping()

    def load(self, model: str) -> None:
        """Load a model on each server; after a failure, only on those where this command began it before.

        So new weights stop at the server that fails, while an undo reaches the servers after it.
        """
        failed: Exception | None = None
        where = ""
        for address, (server, _) in self._servers.items():
            if failed and (address, model) not in self._begun:
                continue
            self._begun.add((address, model))
            try:
                server.load(model)
            except Exception as error:
                failed, where = failed or error, where or address
        if failed:
            raise RolloutError(f"{where}: {failed}") from failed

    def unload(self, model: str) -> None:
        """Unload a model on each server, whatever the others say; RolloutError names the first that fails.

        A server that never loaded it has nothing to do, and Triton says no word.
        """
        failed: RolloutError | None = None
        for address, (server, _) in self._servers.items():
            try:
                server.unload(model)
            except Exception as error:
                failed = failed or RolloutError(f"{address}: {error}")
        if failed:
            raise failed

    def is_ready(self, model: str, version: str = "") -> bool:
        """Whether a model version is ready on all servers."""
        return all(server.is_ready(model, version) for server, _ in self._servers.values())

    def runs(self, model: str, config: pb.ModelConfig) -> bool:
        """Whether all servers loaded a model from this configuration, apart from versions."""
        return all(server.runs(model, config) for server, _ in self._servers.values())

    def pinned(self, channel: str) -> int:
        """The version that all servers loaded a channel with; raises RolloutError when they differ."""
        return self._same(channel, lambda server, _: server.pinned(channel))

    def probe(self, channel: str) -> int:
        """Ask the channel on each server; raises RolloutError when one does not answer or versions differ."""
        return self._same(channel, lambda server, probe: answering(server, probe, channel))

    def _same(self, channel: str, ask: Callable[[Server, Probe], int]) -> int:
        versions = {}
        for address, (server, probe) in self._servers.items():
            try:
                versions[address] = ask(server, probe)
            except Exception as error:
                raise RolloutError(f"{address}: {error}") from error
        if len(set(versions.values())) > 1:
            listed = ", ".join(f"{address} with {version}" for address, version in versions.items())
            raise RolloutError(f"{channel!r} is answered by different versions: {listed}")
        return next(iter(versions.values()))


def _on_each(change: Callable[Concatenate[Rollout, P], Change]) -> Callable[Concatenate[Fleet, P], Change]:
    """A change of one rollout as the same change of a fleet."""

    @wraps(change)
    def on_each(fleet: Fleet, /, *args: P.args, **kwargs: P.kwargs) -> Change:
        return fleet.each(lambda rollout: change(rollout, *args, **kwargs))

    return on_each


class Fleet:
    """Makes the same change on every repository, by name, in turn.

    All are checked before the first is changed; a failure after that undoes itself and stops the rest.
    """

    def __init__(self, rollouts: dict[str, Rollout]) -> None:
        self._rollouts = rollouts

    def publish(self, content: Any, reason: str | None = None, keep: Sequence[str] = ()) -> Change:
        """As :meth:`Rollout.publish`, on each, if the version gets the same number everywhere."""
        self._settle()
        mixed = self.keeping(content, keep)
        numbers = {name: rollout.version_for(mixed) for name, rollout in self._rollouts.items()}
        if len(set(numbers.values())) > 1:
            listed = ", ".join(f"{name}: {number}" for name, number in numbers.items())
            raise RolloutError(
                f"the servers have different versions on disk, this one would be {listed}; "
                "bring their repositories together first"
            )
        return self.each(lambda rollout: rollout.publish(content, reason, keep))

    def keeping(self, content: Any, names: Sequence[str]) -> Any:
        """As :meth:`Kind.keeping`; RolloutError where the repositories would get different weights."""
        kinds = [rollout.kind for rollout in self._rollouts.values()]
        mixed = {kind.content_hash(own := kind.keeping(content, names)): own for kind in kinds}
        if len(mixed) > 1:
            raise RolloutError(
                "the servers' stable channels answer with different weights, so --keep would publish "
                "different ones; promote one version on all of them first"
            )
        return next(iter(mixed.values()))

    canary = _on_each(Rollout.canary)
    end_canary = _on_each(Rollout.end_canary)
    promote = _on_each(Rollout.promote)
    retire = _on_each(Rollout.retire)

    def rollback(self) -> Change:
        """As :meth:`Rollout.rollback`, on each, if all go back from and to the same version."""
        if len(self._rollouts) == 1:
            return self.each(lambda rollout: rollout.rollback())
        self._settle()
        ways = {
            name: f"from {rollout.answering()} to {rollout.rollback_target()}"
            for name, rollout in self._rollouts.items()
        }
        if len(set(ways.values())) > 1:
            listed = ", ".join(f"{name} {way}" for name, way in ways.items())
            flag = next(iter(self._rollouts.values())).kind.flag
            raise RolloutError(
                f"the servers would go back differently ({listed}); name one version: "
                f"`quorum promote N{flag}`"
            )
        return self.each(lambda rollout: rollout.rollback())

    def _settle(self) -> None:
        """Undo interrupted changes first: they would make the repositories differ."""
        for rollout in self._rollouts.values():
            rollout.settle()

    def each(self, act: Callable[[Rollout], Change]) -> Change:
        """Make a change on every repository, if all would take it; raises RolloutError where it stopped."""
        self._settle()
        # The first checks itself before it changes anything.
        for name, rollout in [*self._rollouts.items()][1:]:
            try:
                act(rollout.rehearsal())
            except Exception as error:
                raise RolloutError(f"nothing was changed, as {name} would not take it: {error}") from error
        changes: dict[str, Change] = {}
        for name, rollout in self._rollouts.items():
            try:
                changes[name] = act(rollout)
            except Exception as error:
                if not changes:
                    raise
                untried = ", ".join(n for n in self._rollouts if n not in (*changes, name)) or "none"
                last, change = next(reversed(changes.items()))
                stable = self._rollouts[last].answering()
                raise RolloutError(
                    f"stopped at {name}: {error}. Done on {', '.join(changes)}; not tried on {untried}. "
                    f"{_next_step(change, stable, rollout.kind.flag)}"
                ) from error
        return next(reversed(changes.values()))


def _next_step(change: Change, stable: int, flag: str) -> str:
    """Advice after a change that only some of the repositories made; ``stable``: their stable version."""
    again = "the same command again"
    if change.action == "rollback":
        # Versions differ between the servers now, so a rollback would go to different ones.
        again = f"`quorum promote {change.version}{flag}`"
    if change.before is None:
        return f"Fix it and run {again}"
    back = f"promote {change.before}"
    if change.action == "canary":
        back = "canary off" if change.before == stable else f"canary {change.before}"
    return f"Fix it and run {again}, or go back by `quorum {back}{flag}`"


def resolve(address: str) -> list[str]:
    """Resolve ``host:port`` to itself, ``dns:host:port`` to all addresses; raises RolloutError if none."""
    if not address.startswith("dns:"):
        return [address]
    host, _, port = address.removeprefix("dns:").rpartition(":")
    try:
        records = socket.getaddrinfo(host, int(port), family=socket.AF_INET, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        fix = "write dns:NAME:PORT with a name that resolves"
        raise RolloutError(f"fleet: {address}: {error}; {fix}") from error
    return sorted({":".join(map(str, record[4][:2])) for record in records})


def by_repository(servers: Sequence[tuple[str, Path]]) -> dict[Path, list[str]]:
    """Group addresses by the repository that they read, in the order given."""
    groups: dict[Path, list[str]] = {}
    for address, repository in servers:
        groups.setdefault(repository, []).extend(resolve(address))
    return groups
