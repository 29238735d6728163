# SPDX-License-Identifier: Apache-2.0
"""The benchmark's callers end with the process that started them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil

PARENT = """
import multiprocessing, time
from quorum_bench.clients import Callers, calling
from quorum_bench.workload import Product, Workload

workload = Workload((Product("a shoe", "", ("brand",)),))
with calling(Callers("127.0.0.1:1", workload, threads=1, coroutines=1, timeout_s=20.0)):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


def test_callers_end_when_their_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while (alive := [child for child in children if child.is_running()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in alive:
        child.kill()
    assert not alive
