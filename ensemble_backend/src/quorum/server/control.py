# SPDX-License-Identifier: Apache-2.0
"""Administer a running server with the admin key: load models, read their state and configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from quorum.repository.configs import graph_of
from quorum.repository.state import VERSIONED
from quorum.server.triton import GRPC_ADMIN_HEADER
from quorum.serving.copies import original_of
from quorum_contract.errors import QuorumError
from quorum_contract.foreign import Meaning, meaning_of

# A server that starts is found once it listens: gRPC's own first pause is a second, and grows to minutes.
_RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    # By its name the shortest pause, but also the longest time that one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 500),
]
_FRAMES = re.compile(r"\s*\nAt:\n(?:[ \t]+\S.*(?:\n|$))+;?\s*")
START_IT = "; start it with `quorum up`"
"""End of the message where no server answers."""


class ControlError(QuorumError, RuntimeError):
    """The server refused a call, knows no such model or is unreachable; the message names call and fix."""

    code = "SERVER_CONTROL_FAILED"


@dataclass(frozen=True, slots=True)
class ModelState:
    """One row of the repository index.

    Attributes:
        name: Model.
        version: Version, empty for a model that never loaded.
        state: ``READY``, ``UNAVAILABLE``, ``LOADING`` or ``UNLOADING``.
        reason: Why it is not ready.
    """

    name: str
    version: str
    state: str
    reason: str


class Control:
    """Administers the server at ``url`` (``host:port``); without a deadline a load can hang forever.

    A load may take ``load_s``, by default as long as any other call.
    """

    def __init__(
        self, url: str, admin_key: str, timeout_s: float = 60.0, load_s: float | None = None
    ) -> None:
        self.url = url
        self._timeout_s, self._load_s = timeout_s, load_s or timeout_s
        self._metadata = [(GRPC_ADMIN_HEADER, admin_key)]
        self._channel = grpc.insecure_channel(url, options=_RECONNECT)
        self._stub = GRPCInferenceServiceStub(self._channel)

    def load(self, model: str) -> None:
        """Load or reload a model from its files; when that fails, loaded versions keep serving."""
        request = pb.RepositoryModelLoadRequest(model_name=model)
        self._call(f"load {model!r}", self._stub.RepositoryModelLoad, request, self._load_s)

    def unload(self, model: str) -> None:
        """Unload a model; requests in flight are answered."""
        request = pb.RepositoryModelUnloadRequest(model_name=model)
        self._call(f"unload {model!r}", self._stub.RepositoryModelUnload, request)

    def ping(self) -> None:
        """Raise ControlError when the server is unreachable or refuses the admin key."""
        self.index()

    def index(self) -> list[ModelState]:
        """List every model and version that the server knows."""
        response = self._call("list models", self._stub.RepositoryIndex, pb.RepositoryIndexRequest())
        return [ModelState(m.name, m.version, m.state or "UNAVAILABLE", m.reason) for m in response.models]

    def is_ready(self, model: str, version: str = "") -> bool:
        """Whether a model is ready; ``False`` also when the server is unreachable."""
        try:
            request = pb.ModelReadyRequest(name=model, version=version)
            return bool(self._stub.ModelReady(request, timeout=5).ready)
        except grpc.RpcError:
            return False

    def runs(self, model: str, config: ModelConfig) -> bool:
        """Whether the server loaded a model from this configuration, apart from versions."""
        return graph_of(self._config(model)) == graph_of(config)

    def pinned(self, channel: str) -> int:
        """The version, of weights or retriever, that the server loaded a channel with."""
        steps = self._config(channel).ensemble_scheduling.step
        return int(next(s for s in steps if original_of(s.model_name) in VERSIONED).model_version)

    def _config(self, model: str) -> Any:
        request = pb.ModelConfigRequest(name=model)
        return self._call(f"see the configuration of {model!r}", self._stub.ModelConfig, request).config

    def is_live(self) -> bool:
        """Whether the server process is live; ``False`` also when it is unreachable."""
        try:
            return bool(self._stub.ServerLive(pb.ServerLiveRequest(), timeout=min(5, self._timeout_s)).live)
        except grpc.RpcError:
            return False

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, action: str, method: Any, request: Any, timeout_s: float | None = None) -> Any:
        """Call with the admin key; ``action`` says what failed."""
        try:
            return method(request, timeout=timeout_s or self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            code, details = error.code(), _without_frames(error.details() or "")
            why = f"{code.name}: {details}"
            if code == grpc.StatusCode.UNAVAILABLE:
                why = f"no server answers at {self.url}{START_IT}"
                if meaning_of(details) is Meaning.KEY_WANTED:
                    why = f"{self.url} refuses this admin key; set QUORUM_ADMIN_KEY to the server's own"
            raise ControlError(f"{action}: {why}") from error


def _without_frames(details: str) -> str:
    """Triton's words without the places in Python that it was at, which say nothing to a user."""
    return _FRAMES.sub("; ", details).strip("; \n")
