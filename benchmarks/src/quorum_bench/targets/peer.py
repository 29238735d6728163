# SPDX-License-Identifier: Apache-2.0
"""Start, redeploy and stop peers on other servers: environment, settings file, processes."""

from __future__ import annotations

import abc
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from quorum.deployment import load_deployment
from quorum_bench.targets import CallerSpec, StepTimes
from quorum_bench.targets.http_caller import http_caller
from quorum_bench.workload import Workload
from quorum_contract.errors import QuorumError

_SCRIPTS = Path(__file__).parent / "peers"
_START_S = 120.0
_STOP_S = 15.0
PYTHON = "QUORUM_PEERS_PYTHON"
"""Environment variable that names the interpreter of the peers; default: ``.venv-peers/bin/python``."""


class PeerError(QuorumError, RuntimeError):
    """A peer is not installed or does not start; the message says which and holds its last words."""

    code = "PEER_FAILED"


def peers_python() -> Path:
    """Find the interpreter that has the peers installed.

    Raises:
        PeerError: It is missing.
    """
    path = Path(os.environ.get(PYTHON, ".venv-peers/bin/python")).absolute()
    if not path.exists():
        raise PeerError(f"{path} is missing; make it with `make peers-env`, or name another with {PYTHON}")
    return path


class PeerTarget(abc.ABC):
    """Members that answer from a votes table, or LLMs, served by processes of another server.

    Args:
        workload: The requests; the votes table is made from them.
        members: Names.
        think_ms: Thinking time of every member.
        deploy: Serve the LLMs of this deployment instead; the other two are then ignored.
    """

    name: str
    package: str
    redeploying: str
    """How new weights are loaded, in words."""
    answers_on_stdout = False
    """Whether :meth:`redeploy` reads its standard output; an unread pipe fills up."""

    def __init__(
        self,
        workload: Workload,
        members: Sequence[str],
        think_ms: float = 0.0,
        deploy: Path | None = None,
    ) -> None:
        self._spec = load_deployment(deploy) if deploy else None
        self.members: Sequence[str] = self._spec.member_names if self._spec else tuple(members)
        self._workload, self._think_ms = workload, think_ms
        self._scratch = tempfile.TemporaryDirectory(prefix="qb-", ignore_cleanup_errors=True)
        self._folder = Path(self._scratch.name)
        self._ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._version = 0

    @abc.abstractmethod
    def _services(self) -> Mapping[str, Sequence[str]]:
        """Service -> script with its arguments; callers ask the one called ``gateway``."""

    @abc.abstractmethod
    def redeploy(self) -> None:
        """Load the weights in the file; returns when the service decides by them."""

    def start(self) -> None:
        """Start everything and wait for an answer.

        Raises:
            PeerError: It does not start.
        """
        python = peers_python()
        services = self._services()
        self._ports = dict(zip(services, _free_ports(len(services)), strict=True))
        self._write()
        for service in services:
            self._launch(service, python)
        self._wait(self._version)

    def new_weights(self, weights: Sequence[float]) -> None:
        """Put other weights in place and redeploy."""
        self._write_weights(weights)
        self.redeploy()
        self._wait(self._version)

    def stop(self) -> None:
        """End every process that was started."""
        for service in list(self._processes):
            self._end(service)
        self._scratch.cleanup()

    def caller(self, workload: Workload) -> CallerSpec:
        """Return a caller over HTTP."""
        return http_caller(self._url, workload)

    def pids(self) -> Sequence[int]:
        """Each service's first process."""
        return [process.pid for process in self._processes.values()]

    def steps(self) -> Mapping[str, StepTimes]:
        """Return no statistics: peers keep none."""
        return {}

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._ports['gateway']}/answer"

    def _environment(self) -> Mapping[str, str]:
        return {}

    def _launch(self, service: str, python: Path) -> None:
        script, *arguments = self._services()[service]
        log = (self._folder / f"{service}.log").open("a")
        settings = {"QUORUM_PEER": str(self._folder / "settings.json")}
        self._processes[service] = subprocess.Popen(
            [str(python), str(_SCRIPTS / script), *arguments],
            cwd=self._folder,
            env={**os.environ, **settings, **self._environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if self.answers_on_stdout else log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        log.close()

    def _end(self, service: str) -> None:
        process = self._processes.pop(service)
        below = _family(process.pid)
        with contextlib.suppress(OSError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()

    def _wait(self, version: int) -> None:
        """Wait for an answer decided by these weights."""
        product = self._workload.products[0]
        body = json.dumps(
            {"text": product.text, "category": product.category, "attributes": product.attributes}
        ).encode()
        until, last = time.monotonic() + _START_S, ""
        while time.monotonic() < until:
            try:
                status, answer = _post(self._ports["gateway"], body)
                if status == 200 and json.loads(answer)["weights_version"] == version:
                    return
                last = f"HTTP {status}: {answer[:200]!r}"
                if status in (400, 422):
                    raise PeerError(f"{self.name} refuses the question: {last}\n{self._last()}")
            except OSError as error:
                last = str(error)
            for service, process in self._processes.items():
                if process.poll() is not None:
                    raise PeerError(
                        f"{self.name}: {service} ended with {process.returncode}:\n{self._last()}"
                    )
            time.sleep(0.02)
        raise PeerError(f"{self.name} does not answer after {_START_S:g} s ({last}):\n{self._last()}")

    def _last(self) -> str:
        lines = [line for log in self._folder.glob("*.log") for line in log.read_text().splitlines()[-8:]]
        return "\n".join(lines)

    def _write(self) -> None:
        rows = self._workload.votes_table(list(self.members))
        votes = self._folder / "votes.jsonl"
        votes.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self._write_weights([1.0] * len(self.members))
        settings = {
            "members": self.members,
            "think_s": self._think_ms / 1e3,
            "votes": str(votes),
            "weights": str(self._folder / "weights.json"),
            "ports": self._ports,
        }
        if self._spec:
            settings |= {
                "llms": {llm.name: llm.model_dump(mode="json") for llm in self._spec.members},
                "root": str(self._spec.root.resolve()),
                "catalogue": self._spec.catalogue().to_json(),
            }
        (self._folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")

    def _write_weights(self, weights: Sequence[float]) -> None:
        self._version += 1
        temporary = self._folder / "weights.new"
        temporary.write_text(json.dumps({"version": self._version, "weights": list(weights)}))
        temporary.replace(self._folder / "weights.json")


def _post(port: int, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("POST", "/answer", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _family(pid: int) -> list[int]:
    """All descendants of a process."""
    descendants, pending = [], [pid]
    while pending:
        parent = pending.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                children = [int(c) for c in (task / "children").read_text().split()]
                descendants += children
                pending += children
    return descendants
