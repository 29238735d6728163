# SPDX-License-Identifier: Apache-2.0
"""A real ``quorum up`` whose server is broken on purpose, and what its journal says about that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.command import quorum, start, wait_for_note
from support.traces import session_processes, stub_in

from quorum.deployment import Deployment, load_deployment
from quorum.server.incidents import Incident, recent_incidents
from quorum.server.runfile import Running, find_running


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for something; what it was."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)
    return found


class Supervised:
    """A deployment that ``quorum up`` serves."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], probe_port: int) -> None:
        self.folder, self.process, self.probe_port = folder, process, probe_port
        self.spec: Deployment = load_deployment(folder / "deploy.yaml")

    @property
    def running(self) -> Running:
        """The server as other commands find it."""
        found: Running = until(lambda: find_running(self.spec))
        return found

    def strike(self, what: str, number: signal.Signals) -> float:
        """Send a signal to the server or to the steps of models ("alpha+beta"); when, monotonic."""
        leader = self.running.pid
        pids = [leader] if what == "server" else [stub_in(leader, model) for model in what.split("+")]
        at = time.monotonic()
        for pid in pids:
            os.kill(pid, number)
        return at

    def incidents(self) -> list[Incident]:
        """The journal."""
        return recent_incidents(self.spec)

    def wait_over(self, before: int, seconds: float = 30.0) -> Incident:
        """Wait until an incident after the first ``before`` is over; that of a worker may go on meanwhile."""
        over: list[Incident] = until(lambda: [i for i in self.incidents()[before:] if i.is_over], seconds)
        return over[-1]

    def live(self) -> int:
        """Status of ``/live``."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.probe_port}/live", timeout=30) as answer:
                json.load(answer)
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def processes(self) -> set[int]:
        """Processes of the server that runs now."""
        return session_processes(self.running.pid)


@contextmanager
def supervised(folder: Path, *options: str) -> Iterator[Supervised]:
    """``quorum up`` with probes in a folder with a deployment; killed at the end if it still runs."""
    quorum(folder, "render")
    process = start(folder, "up", "--probe-port", "0", *options)
    try:
        assert process.stderr is not None
        # What a damaged journal, or damaged weights, are reported as comes before.
        line = next(line for line in process.stderr if "probes:" in line)
        wait_for_note(folder, process)
        yield Supervised(folder, process, int(line.split("127.0.0.1:")[1].split("/")[0]))
    finally:
        process.kill()
        process.communicate()
