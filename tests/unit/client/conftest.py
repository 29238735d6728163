# SPDX-License-Identifier: Apache-2.0
"""A gRPC server in this process that speaks Triton's protocol, with answers and faults set by the test."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from support.both_clients import Asyncio, Blocking
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

MEMBERS = ["llama", "qwen"]


def pack(values: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


class Response:
    """A right answer, for the test to bend: ``tensors[name] = (datatype, shape, raw)``."""

    def __init__(self, request: Any) -> None:
        attributes = next(list(t.contents.bytes_contents) for t in request.inputs if t.name == "ATTRIBUTES")
        a, n = len(attributes), len(MEMBERS)
        self.model_name, self.id = request.model_name, request.id
        self.tensors: dict[str, tuple[str, list[int], bytes]] = {
            "VALUES": ("BYTES", [a], pack([b"v-" + name for name in attributes])),
            "CONFIDENCE": ("FP32", [a], struct.pack(f"<{a}f", *[0.75] * a)),
            "MEMBERS": ("BYTES", [n], pack([m.encode() for m in MEMBERS])),
            "MEMBER_VALUES": ("BYTES", [n, a], pack([b"v-" + x for x in attributes] * n)),
            "MEMBER_STATUS": ("INT32", [n, a], struct.pack(f"<{n * a}i", *[0] * (n * a))),
            "MEMBER_SCORES": ("FP32", [n, a], struct.pack(f"<{n * a}f", *[-0.5] * (n * a))),
            "DECISION_STATUS": ("INT32", [a], struct.pack(f"<{a}i", *[0] * a)),
            "WEIGHTS_VERSION": ("INT64", [1], struct.pack("<q", 7)),
        }

    def message(self) -> Any:
        message = pb.ModelInferResponse(model_name=self.model_name, id=self.id)
        for name, (datatype, shape, raw) in self.tensors.items():
            message.outputs.add(name=name, datatype=datatype, shape=shape)
            message.raw_output_contents.append(raw)
        return message


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """What the server saw, and how it answers."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.ready: dict[str, bool] = {"quorum": True}
        self.ready_delay_s = 0.0
        self.asked_if_ready = 0
        self.faults: list[tuple[grpc.StatusCode, str]] = []
        self.always: tuple[grpc.StatusCode, str] | None = None
        self.refuse: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.delay_s: Callable[[Any], float] = lambda request: 0.0
        self.bend: Callable[[Response], None] = lambda response: None
        self.released = threading.Event()
        self._lock = threading.Lock()
        self.url = ""

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            self.requests.append(request)
            self.headers.append({k: str(v) for k, v in context.invocation_metadata()})
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            fault = self.faults.pop(0) if self.faults else self.refuse.get(request.model_name, self.always)
        try:
            self.released.wait(self.delay_s(request))
            if fault:
                context.abort(*fault)
            response = Response(request)
            self.bend(response)
            return response.message()
        finally:
            with self._lock:
                self.in_flight -= 1

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            self.asked_if_ready += 1
        self.released.wait(self.ready_delay_s)
        if self.always:
            context.abort(*self.always)
        return pb.ModelReadyResponse(ready=self.ready.get(request.name, False))

    def serve(self, port: int = 0) -> grpc.Server:
        server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)
        self.url = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
        server.start()
        return server


@pytest.fixture(autouse=True)
def first_server_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of servers that were never asked, the one named first is."""
    monkeypatch.setattr("quorum_client._servers._first_turns", range)


@pytest.fixture
def triton() -> Iterator[Triton]:
    servicer = Triton()
    server = servicer.serve()
    yield servicer
    servicer.released.set()
    server.stop(0).wait()


@pytest.fixture
def others() -> Iterator[list[Triton]]:
    """Two servers more."""
    servicers = [Triton(), Triton()]
    servers = [servicer.serve() for servicer in servicers]
    yield servicers
    for servicer, server in zip(servicers, servers, strict=True):
        servicer.released.set()
        server.stop(0).wait()


@pytest.fixture
def kept_port() -> Iterator[socket.socket]:
    """A socket that keeps its port from others, and does not listen."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept


@pytest.fixture
def nowhere(kept_port: socket.socket) -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{kept_port.getsockname()[1]}"


@pytest.fixture
def come(kept_port: socket.socket, nowhere: str) -> Iterator[Callable[[], None]]:
    """Starts a server at :func:`nowhere`; only its first call does so."""
    servers: list[grpc.Server] = []

    def start() -> None:
        if not servers:
            kept_port.close()
            servers.append(Triton().serve(int(nowhere.rpartition(":")[2])))

    yield start
    for server in servers:
        server.stop(0).wait()


@pytest.fixture(params=[Blocking, Asyncio], ids=["sync", "aio"])
def make(request: pytest.FixtureRequest) -> Any:
    """A client of either kind."""
    return request.param


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses."""
    monkeypatch.setattr("quorum_client._attempts._PAUSES_S", (0.02, 0.05))
    monkeypatch.setattr("quorum_client._attempts._LONGEST_PAUSE_S", 0.1)
