# SPDX-License-Identifier: Apache-2.0
"""What a server leaves on a machine: processes, ports and shared memory that are its own."""

from __future__ import annotations

import socket
from pathlib import Path

from quorum.server.endpoint import Endpoint
from quorum.server.triton import TritonServer


def session_processes(leader: int) -> set[int]:
    """Live processes of the session that ``leader`` started: the server and all its children."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def stub_of(server: TritonServer, model: str) -> int:
    """The process that runs a model."""
    assert server.pid
    return stub_in(server.pid, model)


def stub_in(leader: int, model: str) -> int:
    """The process that runs a model of the server with this process id."""
    for pid in session_processes(leader):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
        if "triton_python_backend_stub" in line and f"\0{model}_" in line:
            return pid
    raise AssertionError(f"no process of {model}")


def shared_memory(prefix: str) -> set[str]:
    """Shared memory of the server with this prefix: regions, and what its steps share."""
    return {path.name for path in Path("/dev/shm").glob(f"{prefix}*")}


def prefix_of(server: TritonServer) -> str:
    """Prefix of the shared memory of a server that runs."""
    return server._shm_prefix


def prefix_of_process(pid: int) -> str:
    """Prefix of the shared memory of a tritonserver that somebody else started."""
    line = Path(f"/proc/{pid}/cmdline").read_text("utf-8")
    return line.split("shm-region-prefix-name=")[1].split("\0")[0]


def listening(endpoint: Endpoint) -> list[int]:
    """The ports of an endpoint on which somebody answers."""
    ports = []
    for port in endpoint.ports().values():
        with socket.socket() as sock:
            sock.settimeout(2)
            if sock.connect_ex((endpoint.host, port)) == 0:
                ports.append(port)
    return ports
