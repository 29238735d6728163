# SPDX-License-Identifier: Apache-2.0
"""The server interface of a rollout, and checks of what is to be changed on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tritonclient.grpc import model_config_pb2 as pb

from quorum.deployment.schema import Deployment
from quorum.repository.render import difference, model_configs
from quorum.repository.store import Store
from quorum.rollout.apply_journal import ApplyJournal
from quorum.rollout.lock import RolloutError
from quorum_client import Overloaded
from quorum_contract import CHANNELS, RECOMMEND_CHANNELS, RETRIEVER

Probe = Callable[[str], int]
"""Asks one server's channel a canned question; returns the version that answered."""


class Graph(Protocol):
    """The models of a running server."""

    def runs(self, model: str, config: pb.ModelConfig) -> bool:
        """Whether a model was loaded from this configuration, apart from versions."""


class Server(Graph, Protocol):
    """A running server, as a rollout uses it."""

    def ping(self) -> None:
        """Raise when the server is unreachable or refuses the admin key."""

    def load(self, model: str) -> None:
        """Load or reload a model from the repository."""

    def unload(self, model: str) -> None:
        """Unload a model."""

    def is_ready(self, model: str, version: str = "") -> bool:
        """Whether a model version is ready."""

    def pinned(self, channel: str) -> int:
        """The version, of weights or retriever, that a channel was loaded with."""


def answering(server: Server, probe: Probe, channel: str) -> int:
    """The version that a channel answers with, or was loaded with if the gate is full.

    Raises:
        Exception: The probe's error.
    """
    try:
        return probe(channel)
    except Overloaded:
        if not server.is_ready(channel):
            raise
        return server.pinned(channel)


def check_graph(server: Graph, spec: Deployment, store: Store, model: str | None = None) -> None:
    """Refuse a repository whose members or limits differ from those that the server runs.

    Args:
        server: The server.
        spec: The deployment.
        store: Its repository.
        model: The versioned model that changes; None: any. What serves the other may be broken meanwhile.

    Raises:
        RepositoryError: Its state cannot be read.
        RolloutError: It differs from the spec, or the server was started from another one.
    """
    if found := graph_difference(server, spec, store, model):
        raise RolloutError(f"{found}; a rollout would load half of it")


def graph_difference(server: Graph, spec: Deployment, store: Store, model: str | None = None) -> str:
    """How members or limits of spec, repository and server differ, and what to do; "" if they do not.

    Arguments are those of :func:`check_graph`.

    Raises:
        RepositoryError: Its state, or the journal of an interrupted `quorum apply`, cannot be read.
    """
    state = store.state()
    if ApplyJournal(store).read():
        return f"{store.path}: `quorum apply` goes on, or was interrupted: run it again to settle that"
    changes = difference(spec, store.path)
    if changes.names:
        return (
            f"{store.path} differs from {spec.path} ({', '.join(changes.names[:3])}): `quorum apply` changes "
            "the running server (see --dry-run); or stop the server, run `quorum render`, start it again"
        )
    of_retriever = {RETRIEVER, *RECOMMEND_CHANNELS}
    configs = {
        name: config
        for name, config in model_configs(spec, state, store.path).items()
        if model is None or (name in of_retriever) == (model == RETRIEVER)
    }
    # Channels first: they name every member, and a server has no configuration of one that it does not know.
    # Lazy channels last: a server without them has another vote.
    for name in sorted(configs, key=lambda name: name not in CHANNELS):
        if not server.runs(name, configs[name]):
            return f"{store.path} was rendered anew since the server started ({name}): restart the server"
    return ""
