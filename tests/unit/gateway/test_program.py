# SPDX-License-Identifier: Apache-2.0
"""How the process of a gateway ends. What it lets through is in ``tests/e2e/test_gateway_grpc.py``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import msgspec
import pytest
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.settings import READY, Settings
from quorum.gateway.upstream import SERVICE
from quorum.processes import stat_of
from quorum.server.endpoint import ServerProcessError
from quorum.server.exposure import INFERENCE_KEY_VARIABLE
from quorum.server.gateway_process import GatewayProcess
from quorum.server.json_log import wrapped
from quorum_contract.key import KEY_HEADER, key_value

KEY = "k" * 32
_TICKS = os.sysconf("SC_CLK_TCK")


def free_address() -> str:
    """On an address of loopback that nobody else takes ports of."""
    with socket.socket() as one:
        one.bind(("127.0.0.5", 0))
        return f"127.0.0.5:{one.getsockname()[1]}"


def cpu_ticks(pid: int) -> int:
    stat = stat_of(pid)
    assert stat is not None
    return stat.cpu


def is_quiet(pid: int) -> bool:
    """Whether a process hardly computes for a while."""
    before = cpu_ticks(pid)
    time.sleep(1.5)
    return cpu_ticks(pid) - before < 0.1 * _TICKS


def settings_at(address: str, target: str) -> Settings:
    return Settings(
        root=".", grpc=address, http=None, keys=None, tls=None, request_log=None, max_message_bytes=1024,
        timeout_s=60.0, wait_s=0.0, route_canary=False, target=target, max_calls=8, max_timeout_s=60.0,
        max_age_s=600.0, drain_s=60.0,
    )  # fmt: skip


def test_what_ends_a_gateway_is_one_line_of_json_where_the_server_logs_so(tmp_path: Path) -> None:
    settings, reports = settings_at(free_address(), "127.0.0.1:1"), list[str]()
    log = tmp_path / "log"
    # Without a caller it does not open.
    with pytest.raises(ServerProcessError, match=r"did not open: a gateway needs callers"):
        GatewayProcess(settings, None, log, reports.append, "json")
    (line,) = log.read_text("utf-8").splitlines()
    found = json.loads(wrapped(line, "gateway"))
    assert (found["level"], found["logger"], found["step"]) == ("error", "quorum.gateway", "gateway")
    assert "KeysError" in found["traceback"]


def test_a_gateway_that_waits_for_the_last_answers_takes_no_cpu() -> None:
    """One whose parent is gone, as it knows from the end of its standard input."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = free_address()
        settings = settings_at(address, f"127.0.0.1:{silent.getsockname()[1]}")
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "quorum.gateway", msgspec.json.encode(settings).decode()],
            env=os.environ | {INFERENCE_KEY_VARIABLE: KEY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline().strip() == READY.encode()
            with grpc.insecure_channel(address) as channel:
                send = channel.unary_unary(f"{SERVICE}ServerLive")
                request = pb.ServerLiveRequest().SerializeToString()
                call = send.future(request, timeout=60, metadata=[(KEY_HEADER, key_value(KEY))])
                with silent.accept()[0]:
                    process.stdin.close()
                    # What it does at once at the end, on a busy machine for longer, is not looked at.
                    assert any(is_quiet(process.pid) for _ in range(10))
                    assert not call.done()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
