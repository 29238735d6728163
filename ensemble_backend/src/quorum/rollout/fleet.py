# SPDX-License-Identifier: Apache-2.0
"""Roll out to several servers: those that share a repository together, others one after another."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from quorum.decision.weights import Weights
from quorum.rollout.channels import Change, Rollout, RolloutError
from quorum.rollout.target import Probe, Server, answering
from quorum_contract import STABLE


class SharedRepository:
    """Servers that read one repository, as the one server of a :class:`Rollout`; called one at a time.

    Args:
        servers: Address -> the server and its probe.
    """

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
        """Ask the channel on each server.

        Raises:
            RolloutError: A server does not answer, or versions differ.
        """
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


class Fleet:
    """Makes the same change on every repository in turn; the first failure undoes itself and stops the rest.

    Args:
        rollouts: Name of each repository, for messages -> its rollout.
    """

    def __init__(self, rollouts: dict[str, Rollout]) -> None:
        self._rollouts = rollouts

    def publish(self, weights: Weights, reason: str | None = None) -> Change:
        """As :meth:`Rollout.publish`, on each.

        Raises:
            RolloutError: A repository failed, or the version would get different numbers.
        """
        self._settle()
        numbers = {name: rollout.version_for(weights) for name, rollout in self._rollouts.items()}
        if len(set(numbers.values())) > 1:
            listed = ", ".join(f"{name}: {number}" for name, number in numbers.items())
            raise RolloutError(
                f"the servers have different versions on disk, these weights would be {listed}; "
                "bring their repositories together first"
            )
        return self._each(lambda rollout: rollout.publish(weights, reason))

    def canary(self, version: int, share: float = 0.0) -> Change:
        """As :meth:`Rollout.canary`, on each."""
        return self._each(lambda rollout: rollout.canary(version, share))

    def end_canary(self, reason: str | None = None, of: int | None = None) -> Change:
        """As :meth:`Rollout.end_canary`, on each."""
        return self._each(lambda rollout: rollout.end_canary(reason, of))

    def promote(self, version: int, reason: str | None = None, over: int | None = None) -> Change:
        """As :meth:`Rollout.promote`, on each."""
        return self._each(lambda rollout: rollout.promote(version, reason, over))

    def rollback(self) -> Change:
        """As :meth:`Rollout.rollback`, on each.

        Raises:
            RolloutError: They do not all go back from and to the same version.
        """
        if len(self._rollouts) == 1:
            return self._each(lambda rollout: rollout.rollback())
        self._settle()
        ways = {
            name: (rollout.store.state().pins[STABLE], rollout.rollback_target())
            for name, rollout in self._rollouts.items()
        }
        if len(set(ways.values())) > 1:
            listed = ", ".join(f"{name} from {now} to {before}" for name, (now, before) in ways.items())
            raise RolloutError(
                f"the servers would go back differently ({listed}); name one version: `quorum promote N`"
            )
        return self._each(lambda rollout: rollout.rollback())

    def retire(self, version: int) -> Change:
        """As :meth:`Rollout.retire`, on each."""
        return self._each(lambda rollout: rollout.retire(version))

    def _settle(self) -> None:
        """Undo interrupted changes first: they would make the repositories differ."""
        for rollout in self._rollouts.values():
            rollout.settle()

    def _each(self, act: Callable[[Rollout], Change]) -> Change:
        finished: list[str] = []
        change: Change | None = None
        for name, rollout in self._rollouts.items():
            try:
                change = act(rollout)
            except Exception as error:
                if not finished:
                    raise
                untried = ", ".join(n for n in self._rollouts if n not in (*finished, name)) or "none"
                raise RolloutError(
                    f"stopped at {name}: {error}. Done on {', '.join(finished)}; not tried on {untried}. "
                    f"{_next_step(change)}"
                ) from error
            finished.append(name)
        if change is None:
            raise RolloutError("the fleet has no servers; list them under `fleet` in deploy.yaml")
        return change


def _next_step(change: Change | None) -> str:
    """Advice after a change that only some of the repositories made."""
    again = "the same command again"
    if change and change.action == "rollback":
        # Versions differ between the servers now, so a rollback would go to different ones.
        again = f"`quorum promote {change.version}`"
    if change is None or change.before is None:
        return f"Fix it and run {again}"
    command = "canary" if change.action == "canary" else "promote"
    return f"Fix it and run {again}, or go back by `quorum {command} {change.before}`"


def resolve(address: str) -> list[str]:
    """Resolve an address: ``host:port`` to itself, ``dns:host:port`` to every address of that name.

    Raises:
        RolloutError: The name does not resolve.
    """
    if not address.startswith("dns:"):
        return [address]
    host, _, port = address.removeprefix("dns:").rpartition(":")
    try:
        records = socket.getaddrinfo(host, int(port), family=socket.AF_INET, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise RolloutError(
            f"fleet: {address}: {error}; write dns:NAME:PORT with a name that resolves"
        ) from error
    return sorted({":".join(map(str, record[4][:2])) for record in records})


def by_repository(servers: Sequence[tuple[str, Path]]) -> dict[Path, list[str]]:
    """Group addresses by the repository that they read, in the order given."""
    groups: dict[Path, list[str]] = {}
    for address, repository in servers:
        groups.setdefault(repository, []).extend(resolve(address))
    return groups
