# SPDX-License-Identifier: Apache-2.0
"""``quorum extract`` in a process that is killed, against a deployment whose calls of an LLM are counted."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.deployment import table, title, write_deployment, write_jsonl
from support.fault_server import MODEL, FaultServer, fault_server
from support.forking import context, run_quorum

PRODUCTS = 24
"""Different texts; rows repeat them."""
COMMAND_S = 600.0


class Paid:
    """A deployment with a replayed member and one whose every call an endpoint counts."""

    def __init__(self, folder: Path, endpoint: FaultServer) -> None:
        self.folder, self._endpoint = folder, endpoint

    def when_asked(self, text: str, act: Callable[[], object]) -> None:
        """Do something whenever the paid LLM is asked about this text, before it answers."""
        note = self._endpoint.note

        def noted(request: dict[str, Any]) -> str:
            if text in str(request["messages"]):
                act()
            return note(request)

        self._endpoint.note = noted  # type: ignore[method-assign]

    @property
    def calls(self) -> int:
        """Calls of the paid LLM so far."""
        return len(self._endpoint.requests)


@contextmanager
def paid_deployment(folder: Path, latency_ms: float) -> Iterator[Paid]:
    """Write the deployment; ``latency_ms``: of the replayed member."""
    with fault_server() as (endpoint, url):
        endpoint.streams = endpoint.gives_scores = False
        endpoint.values = {"brand": "acme", "color": "red", "size": "42"}
        # Of a test's calls each costs a look at all before else.
        endpoint.window_s = 0.0
        options = {"base_url": url, "model": MODEL}
        members: dict[str, Any] = {
            "alpha": {
                "options": {"latency_ms": latency_ms, "latency_shape": "constant"},
                "price": {"per_call": 0.0},
            },
            "paid": {
                "runtime": "openai",
                "options": options,
                "timeout_s": 60.0,
                "price": {"per_call": 0.001},
            },
        }
        write_deployment(folder, members, rows=table(["alpha"], PRODUCTS))
        yield Paid(folder, endpoint)


def write_rows(path: Path, rows: int) -> Path:
    """Listings, each with an id of its own."""
    return write_jsonl(
        path,
        [
            {"sku": f"s{n}", "category": "shoes" if n % PRODUCTS % 2 else "", "title": title(n % PRODUCTS)}
            for n in range(rows)
        ],
    )


class Command:
    """``quorum extract`` with arguments, in a process of its own, again and again."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._arguments = ["extract", *arguments]
        self._process: Any = None
        self._number = 0
        self._name = uuid.uuid4().hex

    @property
    def said(self) -> str:
        """What the last process wrote on standard error."""
        return self._file("err").read_text("utf-8")

    @property
    def printed(self) -> str:
        """What the last process wrote on standard output."""
        return self._file("out").read_text("utf-8")

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and bool(self._process.is_alive())

    def start(self) -> None:
        """Type the command."""
        self._number += 1
        out, err = self._file("out"), self._file("err")
        err.touch()
        environment = dict(os.environ) | {"COLUMNS": "200"}
        arguments = (self._folder, self._arguments, environment, out, err)
        self._process = context.Process(target=run_quorum, args=arguments)
        self._process.start()

    def _file(self, stream: str) -> Path:
        return self._folder / f"run-{self._name}-{self._number}.{stream}"

    def kill(self) -> None:
        """As ``kill -9``."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join(60)

    def interrupt(self) -> None:
        """As Ctrl-C."""
        os.kill(self._process.pid, signal.SIGINT)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        self._process.join(COMMAND_S)
        code = self._process.exitcode
        self.close()
        assert code is not None, f"did not end within {COMMAND_S:g} s: {self.said}"
        return int(code)

    def close(self) -> None:
        """End what runs."""
        if self.is_alive:
            self.kill()
