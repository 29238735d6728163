# SPDX-License-Identifier: Apache-2.0
"""A deployment to break: replayed members in workers, served by ``quorum up`` in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

from quorum.decision import weights as weights_file
from quorum.decision.cell import Parameters, decide_one
from quorum.decision.weights import Weights
from quorum.deployment import load_deployment
from quorum.operations.describe import render
from quorum.server.runfile import find_running
from quorum.serving.admission import admission_of
from quorum.serving.shared_file import SHARED_MEMORY
from quorum_bench.chaos.errors import ChaosError, ProcessNotFound
from quorum_bench.chaos.processes import (
    doubled_workers,
    files_of,
    marked,
    server_of,
    stale,
)
from quorum_bench.workload import Product, Workload
from quorum_client import Client, Extraction, QuorumError, Status
from quorum_contract import VOTE

MEMBERS = ("alpha", "beta", "gamma")
WEIGHTS = (0.9, 1.3, 1.1)
_MEMBER_TIMEOUT_S = 1.0
_START_S = 60.0
_STOP_S = 60.0
_MEMORY_GIB = 0.5
_ENTRY = "import sys; sys.argv[0] = 'quorum'; from quorum.cli import main; main()"


class World:
    """Serves members that answer from a votes table, and knows what each must say.

    Attributes:
        faults: Folder with one file per member; its text is the fault that the member rehearses now.
    """

    def __init__(self, folder: Path, latency_ms: float = 5.0, products: int = 32) -> None:
        self.folder, self.faults = folder, folder / "faults"
        self.workload = Workload.made(3, products=products)
        self._rows = self.workload.votes_table(MEMBERS)
        self._said = {
            (row["title"], row["attribute"]): {name: str(v) for name, v in row["votes"].items()}
            for row in self._rows
        }
        self._write(latency_ms)
        self.spec = load_deployment(folder / "deploy.yaml")
        self.weights = Weights(
            "majority", MEMBERS, Parameters(WEIGHTS), catalogue=self.spec.catalogue().hashes
        )
        self._up: subprocess.Popen[bytes] | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """``host:port`` of the server, the same after a restart."""
        running = find_running(self.spec)
        if running:
            self._url = running.endpoint.grpc_url
        return self._url

    def __enter__(self) -> Self:
        render(self.spec)
        path = self.spec.repository_path / VOTE / "1" / "weights.json"
        path.write_text(weights_file.dumps(self.weights), encoding="utf-8")
        log = (self.folder / "up.log").open("wb")
        with log:
            self._up = subprocess.Popen(
                [sys.executable, "-c", _ENTRY, "up", "--probe-port", "0"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"COLUMNS": "200"},
                start_new_session=True,
            )
        end = time.monotonic() + _START_S
        while find_running(self.spec) is None:
            if self._up.poll() is not None or time.monotonic() > end:
                self._up.kill()
                self._up.wait()
                raise ChaosError(f"`quorum up` does not serve:\n{self.words()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._up is None:
            return
        for file in self.faults.iterdir():
            file.write_text("", encoding="ascii")
        self._up.send_signal(signal.SIGTERM)
        try:
            self._up.wait(_STOP_S)
        except subprocess.TimeoutExpired as error:
            self._up.kill()
            self._up.wait()
            raise ChaosError(f"`quorum up` does not stop within {_STOP_S:g} s:\n{self.words()}") from error

    def words(self) -> str:
        """What ``quorum up`` printed."""
        return (self.folder / "up.log").read_text("utf-8", "replace")

    def left(self) -> list[str]:
        """What the world left that its present server, if one runs, does not need."""
        assert self._up is not None
        server = None
        if self._up.poll() is None:
            with contextlib.suppress(ProcessNotFound, psutil.Error):
                server = server_of(self.spec)
        needed, doubled = set[int](), list[int]()
        if server is not None:
            needed = {server.pid, *(process.pid for process in server.children(recursive=True))}
            doubled = doubled_workers(server)
        marks = marked(self._up.pid)
        mark = marks.get(server.pid, "") if server else ""
        files = stale(files_of(self._up.pid), mark)
        return [
            *(f"process {pid} ({_name_of(pid)})" for pid in sorted({*marks} - needed)),
            *(f"process {pid} (a second worker of its step)" for pid in doubled),
            *sorted(files),
        ]

    def shared_bytes(self) -> int:
        """Size of this world's files in shared memory."""
        assert self._up is not None
        total = 0
        for name in files_of(self._up.pid):
            with contextlib.suppress(OSError):
                total += (SHARED_MEMORY / name).stat().st_blocks * 512
        return total

    def slots(self) -> int:
        """Requests that hold a ticket now."""
        with contextlib.suppress(Exception):
            return admission_of(server_of(self.spec).pid).inside(time.monotonic_ns())
        return -1

    def incidents(self) -> list[dict[str, Any]]:
        """The incidents that the supervisor noted."""
        path = self.folder / ".quorum" / "incidents.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def is_whole(self) -> bool:
        """Whether every member answers a request now."""
        product = self.workload.products[0]
        with contextlib.suppress(QuorumError), Client(self.url, timeout_s=2.0, retries=False) as client:
            answer = client.extract(product.text, product.attributes, category=product.category)
            return all(vote.status is Status.ANSWERED for one in answer.answers for vote in one.votes)
        return False

    def wait_whole(self, patience_s: float) -> bool:
        """Wait until every member answers; whether they did within the time."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if self.is_whole():
                return True
            time.sleep(0.1)
        return False

    def mistakes(self, product: Product, answer: Extraction) -> list[str]:
        """Differences between an answer and the offline vote of the members that answered.

        A member that answered must have said what was recorded for it, whatever its fault.
        """
        found = []
        for one in answer.answers:
            said = self._said[product.text, one.attribute]
            found += [
                f"{vote.member} on {one.attribute}: {vote.value!r}"
                for vote in one.votes
                if vote.status is Status.ANSWERED and vote.value != said[vote.member]
            ]
            ballots = [(vote.value or "", int(vote.status)) for vote in one.votes]
            value = decide_one(self.weights.parameters(one.attribute, product.category), ballots)[0]
            if (one.value or "") != value:
                found.append(f"{one.attribute}: {one.value!r} for {value!r}")
        return found

    def _write(self, latency_ms: float) -> None:
        self.faults.mkdir(parents=True, exist_ok=True)
        _jsonl(self.folder / "votes.jsonl", self._rows)
        for name in MEMBERS:
            (self.faults / name).write_text("", encoding="ascii")
        names = dict.fromkeys(name for product in self.workload.products for name in product.attributes)
        spec = {
            "members": [
                {
                    "name": name,
                    "runtime": "replay",
                    "timeout_s": _MEMBER_TIMEOUT_S,
                    "options": {
                        "votes": "votes.jsonl",
                        "latency_ms": latency_ms,
                        "isolated": True,
                        "faults": f"faults/{name}",
                        "memory_limit_gib": _MEMORY_GIB,
                    },
                }
                for name in MEMBERS
            ],
            "attributes": {name: {} for name in names},
            "server": {"grpc_port": 0, "metrics_port": 0},
        }
        (self.folder / "deploy.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def _jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _name_of(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline()[:3])[-60:]
    return "ended meanwhile"
