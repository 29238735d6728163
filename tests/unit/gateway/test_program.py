# SPDX-License-Identifier: Apache-2.0
"""How the process of a gateway ends. What it lets through is in ``tests/e2e/test_gateway_grpc.py``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import grpc
import msgspec
from tritonclient.grpc import service_pb2 as pb

from quorum.gateway.settings import READY, Settings
from quorum.gateway.upstream import SERVICE
from quorum.processes import stat_of
from quorum.server.exposure import INFERENCE_KEY_VARIABLE
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


def test_a_gateway_that_waits_for_the_last_answers_takes_no_cpu() -> None:
    """One whose parent is gone, as it knows from the end of its standard input."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = free_address()
        settings = Settings(
            root=".",
            grpc=address,
            http=None,
            keys=None,
            tls=None,
            request_log=None,
            max_message_bytes=1024,
            timeout_s=60.0,
            wait_s=0.0,
            route_canary=False,
            target=f"127.0.0.1:{silent.getsockname()[1]}",
            max_calls=8,
            max_timeout_s=60.0,
            max_age_s=600.0,
            drain_s=60.0,
        )
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
