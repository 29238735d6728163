# SPDX-License-Identifier: Apache-2.0
"""Start and stop a tritonserver process, and remove its shared memory and scratch files."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.files import make_scratch
from quorum.server import log_file
from quorum.server.install import Install, find_install
from quorum.server.launch import launch_command
from quorum.server.leftovers import (
    MARK,
    PID_FILE,
    SCRATCH,
    collect_zombies,
    end_processes,
    session_of,
    sweep_killed,
)
from quorum.server.life import Life
from quorum.server.steps import StepWatch, find_steps
from quorum.serving.admission import SHARED_MEMORY, Admission, path_of
from quorum_contract import CHANNELS, GATE, VOTE
from quorum_contract.errors import QuorumError

ADMIN_KEY_VARIABLE = "QUORUM_ADMIN_KEY"
ADMIN_HEADER = "quorum-admin-key"
# gRPC metadata keys of restricted protocols carry this prefix.
GRPC_ADMIN_HEADER = f"triton-grpc-protocol-{ADMIN_HEADER}"
_CLOSED = "model-repository,model-config,shared-memory,statistics,trace,logging"
# Below the kernel's ephemeral ports: an outgoing connection could take one before the server does.
_FREE_PORTS = range(20_000, 32_000)
_PRIVATE = 0o700
_LAST_ANSWERS_S = 0.2
_LONE_S = 2.0


class ServerProcessError(QuorumError, RuntimeError):
    """The server process did not start or ended by itself; the message holds its last log lines."""

    code = "SERVER_PROCESS_FAILED"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens, and the admin key for load, configuration, statistics, logging and trace."""

    host: str
    grpc_port: int
    http_port: int
    metrics_port: int
    admin_key: str

    @property
    def grpc_url(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.grpc_port}"


class TritonServer:
    """Starts and stops one tritonserver for a deployment; its output goes to ``log_path``.

    By default it is the installed one, and serves the deployment's own repository. It is killed when this
    process dies. The files of a ``temporary`` one are in the folder of the log, for
    :func:`quorum.server.leftovers.remove_traces`. After :meth:`end` it can start again.

    Attributes:
        life: When its channels answered last, as far as somebody asks them.
        ready_after_s: How long its last start took until every channel answered; 0 before.
    """

    def __init__(
        self,
        spec: Deployment,
        *,
        repository: Path | None = None,
        log_path: Path,
        install: Install | None = None,
        temporary: bool = False,
    ) -> None:
        self.spec = spec
        self.repository = repository or spec.repository_path
        self.log_path = log_path
        self._temporary = temporary
        self._install = install or find_install()
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._started_pid: int | None = None
        self._claims: list[socket.socket] = []
        self.life = Life()
        self.ready_after_s = 0.0
        self.endpoint = _resolve_endpoint(spec, self._claims)

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def ended(self) -> str:
        """How the process ended."""
        code = self._process.poll() if self._process else None
        if code is None:
            return "does not run"
        return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"

    def start(self) -> None:
        """Start the process and return at once; raises ServerProcessError if a port is taken."""
        _check_ports(self.endpoint)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        log_file.set_aside(self.log_path)
        self.start_again()

    def start_again(self) -> None:
        """Start another process, once the last one was ended, with the same addresses, key and log."""
        folder = self.log_path.parent if self._temporary else None
        sweep_killed()
        self._scratch, lock = make_scratch(SCRATCH, folder)
        try:
            self._launch(lock)
        finally:
            os.close(lock)

    def _launch(self, lock: int) -> None:
        """Start the process, which keeps its scratch folder locked until its last step has ended."""
        assert self._scratch is not None
        backends = self._install.prepare_backends(self._scratch)
        # Copying the backends gave the folder the permissions of theirs.
        self._scratch.chmod(_PRIVATE)
        environment = self._install.environment() | {
            "QUORUM_ROOT": str(self.spec.root),
            MARK: self._scratch.name,
        }
        environment.pop(ADMIN_KEY_VARIABLE, None)
        if self.spec.engines():
            # With workers that the backend starts itself, one server can hold two engines.
            environment |= {"TRTLLM_ORCHESTRATOR": "1", "TRTLLM_ORCHESTRATOR_SPAWN_PROCESSES": "1"}
        with open(self.log_path, "ab", opener=log_file.open_private) as log:
            self._process = subprocess.Popen(
                launch_command(self._command(backends), aslr=self.spec.server.aslr),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                # Engine paths are relative to deploy.yaml, and the backend does not resolve them.
                cwd=self.spec.root,
                start_new_session=True,
                pass_fds=(lock,),
                # Regions of shared memory, and what steps write, may hold texts of products.
                umask=0o077,
            )
        self._started_pid = self._process.pid
        (self._scratch / PID_FILE).write_text(f"{self._started_pid}", encoding="ascii")

    def wait_ready(self, probe: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``probe`` is true; raises ServerProcessError if the process or the time ends before."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.pid is None:
                raise self.failure("stopped while starting")
            if probe():
                return
            time.sleep(0.1)
        raise self.failure(f"not ready after {timeout_s:.0f} s")

    def stop(self, drain_s: float = 30.0) -> None:
        """Refuse new requests, wait for those in flight, stop the process and remove its files.

        SIGTERM alone loses ensemble requests in flight, so the gate closes first and tickets must drain.
        Callers get UNAVAILABLE or NOT_FOUND meanwhile: take the server out of the load balancer before. With
        a dead step nothing in flight can be answered, and nothing is waited for.

        Args:
            drain_s: How long requests in flight may take, and then the process itself; 0 kills it at once.
        """
        while self._claims:
            self._claims.pop().close()
        process = self._process
        if process and drain_s > 0 and process.poll() is None and _wait_idle(process.pid, drain_s):
            process.send_signal(signal.SIGTERM)
            self._wait_exit(process.pid, drain_s)
        self.end()

    def _wait_exit(self, pid: int, timeout_s: float) -> None:
        """Wait for a process that got SIGTERM; one without steps has nothing left to stop in order."""
        deadline = lone = time.monotonic() + timeout_s
        while self.pid is not None and time.monotonic() < min(deadline, lone):
            # Zombies have no model: a reload leaves one, for whose requests Triton waits.
            if any(find_steps(pid).values()):
                lone = deadline
            elif lone == deadline:
                lone = time.monotonic() + _LONE_S
            time.sleep(0.05)

    def end(self) -> None:
        """Kill the process and all that it started, and remove its files; its addresses stay claimed."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        end_processes(session_of(process.pid))
        collect_zombies(process.pid)
        for trace in self.leftovers():
            Path(trace).unlink(missing_ok=True)
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._process = None

    def leftovers(self) -> list[str]:
        """Files of this server in shared memory; empty after :meth:`stop`."""
        if self._started_pid is None:
            return []
        traces = [*SHARED_MEMORY.glob(f"{self._shm_prefix}*"), path_of(self._started_pid)]
        return sorted(str(trace) for trace in traces if trace.exists())

    def log_tail(self) -> str:
        """The last lines of the server's log."""
        return log_file.tail(self.log_path)

    def failure(self, what: str) -> ServerProcessError:
        """The error that the server did ``what``, with the last log lines."""
        return ServerProcessError(f"tritonserver {what}; last log lines:\n{self.log_tail()}")

    def _command(self, backends: Path) -> list[str]:
        key = f"{ADMIN_HEADER}={self.endpoint.admin_key}"
        models = [GATE, *self.spec.engines(), *self.spec.models(), VOTE, *CHANNELS]
        return [
            str(self._install.binary),
            f"--model-repository={self.repository.resolve()}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            "--backend-config=python,shm-default-byte-size=4194304",
            "--backend-config=python,stub-timeout-seconds=120",
            "--model-control-mode=explicit",
            *[f"--load-model={model}" for model in models],
            "--disable-auto-complete-config",
            "--exit-timeout-secs=20",
            f"--grpc-address={self.endpoint.host}",
            f"--grpc-port={self.endpoint.grpc_port}",
            f"--http-address={self.endpoint.host}",
            f"--http-port={self.endpoint.http_port}",
            f"--metrics-port={self.endpoint.metrics_port}",
            f"--grpc-restricted-protocol={_CLOSED}:{key}",
            f"--http-restricted-api={_CLOSED}:{key}",
            f"--log-verbose={self.spec.server.log_verbose}",
        ]

    @property
    def _shm_prefix(self) -> str:
        assert self._scratch is not None
        return f"{self._scratch.name}_"


def _wait_idle(pid: int, timeout_s: float) -> bool:
    """Wait until no request holds a ticket; the vote frees it just before the answer leaves.

    Returns:
        Whether the server can stop in order: False once a step is dead, whose requests never end.
    """
    deadline = time.monotonic() + timeout_s
    admission, steps = Admission(path_of(pid)), StepWatch(pid)
    admission.close_gate()
    while admission.inside(time.monotonic_ns()) and time.monotonic() < deadline:
        if steps.look():
            return False
        time.sleep(0.05)
    time.sleep(_LAST_ANSWERS_S)
    return not steps.look()


def _resolve_endpoint(spec: Deployment, claims: list[socket.socket]) -> Endpoint:
    s = spec.server
    grpc, http, metrics = (
        p or _free_port(s.host, claims) for p in (s.grpc_port, s.http_port, s.metrics_port)
    )
    key = os.environ.get(ADMIN_KEY_VARIABLE) or secrets.token_urlsafe(24)
    return Endpoint(s.host, grpc, http, metrics, key)


def _free_port(host: str, claims: list[socket.socket]) -> int:
    """Choose a free port that no other server has claimed for its start.

    A claim, appended to ``claims``, is an abstract socket: the kernel gives a name to one process at a time.
    """
    for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0quorum-port-{port}")
            with socket.socket() as listener:
                listener.bind((host, port))
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            claims.append(claim)
            return port
    raise ServerProcessError(f"no port of {host} is free; name the ports of `server` in deploy.yaml")


def _check_ports(endpoint: Endpoint) -> None:
    for key in ("grpc_port", "http_port", "metrics_port"):
        port = getattr(endpoint, key)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((endpoint.host, port))
            except OSError as error:
                raise ServerProcessError(
                    f"server.{key} {port} on {endpoint.host}: {error.strerror}; stop the program there, "
                    f"choose another port in deploy.yaml, or 0 for a free one"
                ) from error
