# SPDX-License-Identifier: Apache-2.0
"""A step whose server is gone ends, with the processes that it started and its shared memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorum.serving.shared_file import MARK, SHARED_MEMORY

STEP = """
import mmap, os, subprocess, sys, time
from quorum.serving.parent import end_with_server

region = sys.argv[1]
with open(region, "wb+") as file:
    file.truncate(4096)
    mapped = mmap.mmap(file.fileno(), 4096)
end_with_server()
worker = subprocess.Popen(["sleep", "60"])
print(os.getpid(), worker.pid, flush=True)
time.sleep(60)
"""
SERVER = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
input()
"""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("mark", [f"quorum-server-{os.getpid()}-parent", ""], ids=["marked", "by its id"])
def test_a_step_ends_with_its_server(mark: str) -> None:
    region = Path("/dev/shm", f"quorum-test-{os.getpid()}")
    arguments = [sys.executable, "-c", SERVER, STEP, str(region)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen(arguments, env={**os.environ, MARK: mark}, **pipes)
    tickets = SHARED_MEMORY / f"{mark or f'quorum-{server.pid}'}_admission"
    try:
        tickets.touch()
        assert server.stdout is not None
        pids = [*map(int, server.stdout.readline().split())]
        time.sleep(1.5)
        assert [lives(pid) for pid in pids] == [True, True]
        assert region.exists()
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        end = time.monotonic() + 20
        while any(map(lives, pids)):
            assert time.monotonic() < end, "it outlived its server"
            time.sleep(0.02)
        assert not region.exists()
        assert not tickets.exists()
    finally:
        server.kill()
        server.communicate()
        region.unlink(missing_ok=True)
        tickets.unlink(missing_ok=True)
