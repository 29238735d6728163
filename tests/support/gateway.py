# SPDX-License-Identifier: Apache-2.0
"""A deployment behind its gateway, and callers below the client library."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from support.deployment import Live, running

from quorum.deployment.gateway import GatewaySpec
from quorum.server.endpoint import with_gateway
from quorum.server.gateway_process import GatewayProcess, open_gateway
from quorum.server.gateway_settings import check_gateway
from quorum.server.launch import raise_open_files
from quorum_client import Client

KEY = "a key that only some know".replace(" ", "-")
SERVICE = "/inference.GRPCInferenceService/"
# What a client sends first on a connection: the preface and empty settings.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@dataclass
class Guarded:
    """A running deployment, the gateway in front of it, and what the gateway's process reported."""

    live: Live
    gateway: GatewayProcess
    url: str
    reports: list[str]
    http: str = ""

    def client(self, key: str | None = KEY, **how: Any) -> Client:
        """A caller from outside."""
        return Client(self.url, key=key, **how)

    def call(
        self,
        method: str,
        message: bytes,
        *,
        key: str | None = KEY,
        headers: Sequence[tuple[str, str]] = (),
        compression: grpc.Compression = grpc.Compression.NoCompression,
        times: int = 1,
    ) -> list[bytes | grpc.RpcError]:
        """Send bytes through one connection, all at once; the answers or errors."""
        sent = [*headers, *([("authorization", f"Bearer {key}")] if key else [])]
        with grpc.insecure_channel(self.url, [("grpc.max_send_message_length", -1)]) as channel:
            send = channel.unary_unary(f"{SERVICE}{method}")
            calls = [
                send.future(message, timeout=60, metadata=sent, compression=compression) for _ in range(times)
            ]
            return [call.exception() or call.result() for call in calls]

    def memory(self) -> dict[str, int]:
        """The most resident memory that Triton and the gateway have had so far, MiB."""
        assert self.live.server.pid is not None
        pids = {"triton": self.live.server.pid, "gateway": self.gateway.pid}
        status = {name: Path(f"/proc/{pid}/status").read_text("ascii") for name, pid in pids.items()}
        return {name: int(text.split("VmHWM:")[1].split()[0]) >> 10 for name, text in status.items()}


@contextmanager
def guarded(deploy: Path) -> Iterator[Guarded]:
    """Serve a deployment behind a gateway that knows :data:`KEY`."""
    reports: list[str] = []
    with running(deploy, behind_gateway=True) as live:
        log = deploy.parent / "gateway.log"
        with open_gateway(live.spec, live.endpoint, KEY, log, reports.append) as process:
            assert process is not None
            assert live.endpoint.gateway is not None
            yield Guarded(live, process, live.endpoint.gateway, reports)


@contextmanager
def gated(live: Live, folder: Path, key: str | None = None, **section: Any) -> Iterator[Guarded]:
    """One more gateway in front of a server that runs, with a section ``gateway`` and a folder of its own."""
    reports, claims = list[str](), list[socket.socket]()
    own = GatewaySpec(**{"grpc_port": 0} | section)
    spec = live.spec.model_copy(update={"gateway": own, "path": folder / "deploy.yaml"})
    endpoint = with_gateway(live.endpoint, own, claims)
    try:
        check_gateway(spec, endpoint, key)
        with open_gateway(spec, endpoint, key, folder / "gateway.log", reports.append) as process:
            assert process is not None
            yield Guarded(live, process, endpoint.gateway or "", reports, endpoint.gateway_http or "")
    finally:
        for claim in claims:
            claim.close()


def other_address() -> str | None:
    """An address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for found in addresses:
            if found.family == socket.AF_INET and not found.address.startswith("127."):
                return str(found.address)
    return None


def idle_connections(
    host: str, port: int, count: int, first_bytes: bytes = HTTP2_PREFACE
) -> list[socket.socket]:
    """Connections whose peer says nothing more."""
    raise_open_files()
    found = []
    for _ in range(count):
        sock = socket.create_connection((host, port), timeout=30)
        sock.sendall(first_bytes)
        sock.setblocking(False)
        found.append(sock)
    return found


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side has closed a connection; reads what it sent."""
    try:
        while sock.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.05)
