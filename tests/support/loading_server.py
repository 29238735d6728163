# SPDX-License-Identifier: Apache-2.0
"""A server that keeps what it loaded, in this process, and fails where a test says so."""

from __future__ import annotations

from support.deployment import Served
from tritonclient.grpc.model_config_pb2 import ModelConfig

from quorum.decision.weights import Parameters, Weights
from quorum.deployment import Deployment
from quorum.repository.configs import graph_of, parse_config
from quorum.repository.store import Store
from quorum.server.control import ControlError
from quorum_contract import CANARY, GATE, STABLE, VOTE


class Crash(BaseException):
    """The process is killed here."""


class Server:
    """Keeps what it loaded, as Triton does: files count only once they are loaded."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failures: dict[str, list[BaseException | None]] = {}
        self.answers: dict[str, int] = {}
        self.down = False
        self.graphs = {
            folder.name: self._graph(folder.name) for folder in store.path.glob("*") if folder.is_dir()
        }
        for model in (VOTE, STABLE, CANARY):
            self.load(model)

    def _graph(self, model: str) -> str:
        return graph_of(parse_config((self.store.path / model / "config.pbtxt").read_text("utf-8")))

    def ping(self) -> None:
        if self.down:
            raise ControlError("no server answers")

    def load(self, model: str) -> None:
        self.ping()
        failure = self.failures[model].pop(0) if self.failures.get(model) else None
        if failure:
            raise failure
        if model == VOTE:
            versions = Served(self.store.path).versions
            for version in versions:
                self.store.weights(version)
            self.versions = versions
        elif model == GATE:
            # Its graph has the canary's share.
            self.graphs[model] = self._graph(model)
        else:
            self.answers[model] = Served(self.store.path).pins[model]

    def runs(self, model: str, config: ModelConfig) -> bool:
        self.ping()
        return graph_of(config) == self.graphs[model]

    def pinned(self, channel: str) -> int:
        return self.answers[channel]

    def is_ready(self, model: str, version: str = "") -> bool:
        if model != VOTE:
            return not self.down and self.answers[model] in self.versions
        return not self.down and int(version) in self.versions

    def probe(self, channel: str) -> int:
        self.ping()
        failure = self.failures[f"probe {channel}"].pop(0) if self.failures.get(f"probe {channel}") else None
        if failure:
            raise failure
        if self.answers[channel] not in self.versions:
            raise ControlError(f"{channel} is not available")
        return self.answers[channel]

    def state(self) -> tuple[list[int], dict[str, int]]:
        return self.versions, dict(self.answers)


def weights(spec: Deployment, heavy: float = 2.0) -> Weights:
    return Weights(
        "majority",
        ("alpha", "beta", "gamma"),
        Parameters((heavy, 1.0, 1.0)),
        catalogue=spec.catalogue().hashes,
    )


def disk(spec: Deployment) -> dict[str, bytes]:
    skip = ("rollout.jsonl", ".rollout.lock")
    files = (p for p in spec.repository_path.rglob("*") if p.is_file() and p.name not in skip)
    return {str(p.relative_to(spec.repository_path)): p.read_bytes() for p in files}
