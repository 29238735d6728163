# SPDX-License-Identifier: Apache-2.0
"""Start and stop a tritonserver process, and remove its shared memory and scratch files."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.files import make_scratch
from quorum.processes import (
    GONE,
    SERVER_FOLDER,
    STOPPED,
    collect_zombies,
    end_processes,
    session_of,
    signal_name,
    state_of,
)
from quorum.repository.loaded import channels_in, models_in, steps_in
from quorum.repository.state import RepositoryError, RetrieverState
from quorum.repository.store import Store
from quorum.server import log_file, traces
from quorum.server.endpoint import ADMIN_KEY_VARIABLE, Endpoint, check_port, resolve_endpoint
from quorum.server.endpoint import ServerProcessError as ServerProcessError
from quorum.server.exposure import INFERENCE_KEY_VARIABLE
from quorum.server.install import Install, find_install
from quorum.server.launch import launch_command
from quorum.server.leftovers import PID_FILE, SCRATCH, processes_of, sweep_killed
from quorum.server.life import Life
from quorum.server.steps import StepWatch, find_steps
from quorum.serving.admission import Admission, Recovery
from quorum.serving.log import LOG_FORMAT
from quorum.serving.shared_file import ADMISSION, MARK, shared_path, traces_of
from quorum_contract import RETRIEVER

ADMIN_HEADER = "quorum-admin-key"
# gRPC metadata keys of restricted protocols carry this prefix.
GRPC_ADMIN_HEADER = f"triton-grpc-protocol-{ADMIN_HEADER}"
_CLOSED = "model-repository,model-config,shared-memory,statistics,trace,logging"
_PRIVATE = 0o700
_LAST_ANSWERS_S = 0.2
_LONE_S = 2.0
# Longer than any request may take: none ends with its connection.
_GRACE_S = 15.0
_STARTS = 3
_KEEPALIVE_S, _KEEPALIVE_TIMEOUT_S = 60, 20


class TritonServer:
    """Starts and stops one tritonserver for a deployment; its output goes to ``log_path``.

    By default it is the installed one, and serves the deployment's own repository. It is killed when this
    process dies. The files of a ``temporary`` one are in the folder of the log, for
    :func:`quorum.server.leftovers.remove_traces`. After :meth:`end` it can start again.
    ``behind_gateway``: where the deployment has no section ``gateway``, it listens on loopback, and the
    gateway at the addresses of ``server``.

    Attributes:
        life: When its channels answered last, as far as somebody asks them.
        ready_after_s: How long its last start took until every channel answered; 0 before.

    Raises:
        ExposedError: Other machines would reach it, and nothing allows that.
    """

    def __init__(
        self,
        spec: Deployment,
        *,
        repository: Path | None = None,
        log_path: Path,
        install: Install | None = None,
        temporary: bool = False,
        behind_gateway: bool = False,
    ) -> None:
        self.spec = spec
        self.repository = repository or spec.repository_path
        self.log_path = log_path
        self._temporary = temporary
        self._install = install or find_install()
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._claims: list[socket.socket] = []
        self._recovery = Recovery.NONE
        self.life = Life()
        self.ready_after_s = 0.0
        self.endpoint = resolve_endpoint(spec, self._claims, behind_gateway)

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def scratch(self) -> Path | None:
        """The folder of the server that runs; its name marks the files that its steps share."""
        return self._scratch

    @property
    def has_retriever(self) -> bool:
        """Whether a version of the retriever is published in the repository now."""
        return self._retriever() is not None

    def _retriever(self) -> RetrieverState | None:
        try:
            state = Store(self.repository).state_if_any()
        except RepositoryError:
            # Who starts a server has checked it; a stop must not fail for it.
            return None
        return state.retriever if state else None

    @property
    def steps(self) -> set[str]:
        """The models that have a process."""
        return steps_in(self.repository) - (set() if self.has_retriever else {RETRIEVER})

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels for attributes, also once `quorum apply` has changed them."""
        return channels_in(self.repository) or self.spec.channels

    @property
    def ended(self) -> str:
        """How the process ended."""
        code = self._process.poll() if self._process else None
        if code is None:
            return "does not run"
        return f"was killed ({signal_name(-code)})" if code < 0 else f"ended with exit code {code}"

    def start(self) -> None:
        """Start the process and return at once; raises ServerProcessError if a port is taken."""
        traces.check(self.spec.server.traces)
        for key, port in self.endpoint.ports().items():
            check_port(key, self.endpoint.host, port)
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
            SERVER_FOLDER: str(self._scratch.resolve()),
            LOG_FORMAT: self.spec.server.log,
            **traces.variables(self.spec),
        }
        for key in (ADMIN_KEY_VARIABLE, INFERENCE_KEY_VARIABLE):
            environment.pop(key, None)
        if self.spec.engines():
            # With workers that the backend starts itself, one server can hold two engines.
            environment |= {"TRTLLM_ORCHESTRATOR": "1", "TRTLLM_ORCHESTRATOR_SPAWN_PROCESSES": "1"}
        with open(self.log_path, "ab", opener=log_file.open_private) as log:
            if shutil.which("nvidia-smi") is None:
                log.write(log_file.WITHOUT_GPU)
                log.flush()
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
        self.life.starts += 1
        (self._scratch / PID_FILE).write_text(f"{self._process.pid}", encoding="ascii")

    def set_recovery(self, recovery: Recovery) -> None:
        """Say what the server comes back from to the steps that load from now on."""
        self._recovery = recovery
        if self._scratch is not None:
            Admission(shared_path(self._scratch.name, ADMISSION)).recovery = recovery

    def wait_ready(self, probe: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``probe`` is true; raises ServerProcessError if the process or the time ends before.

        On a machine that is busy, Triton may end itself while it starts; it is started again, twice at most.
        """
        deadline, starts = time.monotonic() + timeout_s, 1
        while time.monotonic() < deadline:
            if self.pid is None:
                if starts == _STARTS or not log_file.lost_lock(self.log_tail()):
                    raise self.failure("stopped while starting")
                starts += 1
                self.end()
                self.start_again()
                if self._recovery is not Recovery.NONE:
                    self.set_recovery(self._recovery)
            if probe():
                return
            time.sleep(0.1)
        raise self.failure(f"not ready after {timeout_s:.0f} s")

    def stop(self, drain_s: float = 30.0) -> None:
        """Refuse new requests, wait for those in flight, stop the process and remove its files.

        SIGTERM alone loses ensemble requests in flight, so the gate closes first and tickets must drain.
        Callers get UNAVAILABLE or NOT_FOUND meanwhile: take the server out of the load balancer before. With
        a step that is dead, and not replaced, nothing in flight can be answered, and nothing is waited for.

        Args:
            drain_s: How long requests in flight may take, and then the process itself; 0 kills it at once.
        """
        while self._claims:
            self._claims.pop().close()
        process = self._process
        if process and drain_s > 0 and process.poll() is None and self._wait_idle(process.pid, drain_s):
            process.send_signal(signal.SIGTERM)
            self._wait_exit(process.pid, drain_s)
        self.end()

    def _wait_idle(self, pid: int, timeout_s: float) -> bool:
        """Wait until no request holds a ticket; the vote frees it just before the answer leaves.

        For items inside the retriever Triton waits itself: their channels have one step.

        Returns:
            Whether the server can stop in order: False once a step is dead, whose requests never end.
        """
        assert self._scratch is not None
        deadline = time.monotonic() + timeout_s
        admission, steps = Admission(shared_path(self._scratch.name, ADMISSION)), StepWatch(pid)
        admission.close_gate()
        while admission.inside(time.monotonic_ns()) and time.monotonic() < deadline:
            if self._lacks_step(steps):
                return False
            time.sleep(0.05)
        time.sleep(_LAST_ANSWERS_S)
        return not self._lacks_step(steps)

    def _lacks_step(self, steps: StepWatch) -> bool:
        """Whether a step is stopped or has no process; a reload leaves the dead one as a zombie."""
        dead = steps.look()
        return any(step.state == STOPPED for step in dead) or (
            bool(dead) and not self.steps <= steps.models()
        )

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
        if process := self._process:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            # Also what has left the session, as daemons do.
            strays = set(processes_of(self._scratch.name) if self._scratch else ())
            # Once it is collected and its session is gone, another process may have its id.
            if state_of(process.pid) == GONE:
                strays |= {*session_of(process.pid)}
            end_processes(strays)
            collect_zombies(process.pid)
            for trace in self.leftovers():
                Path(trace).unlink(missing_ok=True)
        # A start that failed has made a folder, and no process.
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._process = None

    def leftovers(self) -> list[str]:
        """Files of this server in shared memory; empty after :meth:`stop`."""
        return sorted(map(str, traces_of(self._scratch.name))) if self._scratch else []

    def log_tail(self) -> str:
        """The last lines of the server's log."""
        return log_file.tail(self.log_path)

    def failure(self, what: str) -> ServerProcessError:
        """The error that the server did ``what``: settings that members refused, else the last log lines."""
        if refused := log_file.refused_settings(self.log_tail()):
            return ServerProcessError(f"tritonserver {what}: {'; '.join(refused)} (log: {self.log_path})")
        return ServerProcessError(f"tritonserver {what}; last log lines:\n{self.log_tail()}")

    def _command(self, backends: Path) -> list[str]:
        key = f"{ADMIN_HEADER}={self.endpoint.admin_key}"
        models = models_in(self.repository, with_retriever=self.has_retriever)
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
            *_grpc_options(self.spec, self.endpoint, key),
            *_http_options(self.endpoint, key),
            f"--metrics-address={self.endpoint.host}",
            f"--metrics-port={self.endpoint.metrics_port}",
            f"--log-verbose={self.spec.server.log_verbose}",
            *traces.options(self.spec.server.traces),
        ]

    @property
    def _shm_prefix(self) -> str:
        assert self._scratch is not None
        return f"{self._scratch.name}_"


def _grpc_options(spec: Deployment, endpoint: Endpoint, key: str) -> list[str]:
    """Triton's endpoint for gRPC; connections of peers that are gone, idle or old are closed in order."""
    return [
        f"--grpc-address={endpoint.host}",
        f"--grpc-port={endpoint.grpc_port}",
        f"--grpc-restricted-protocol={_CLOSED}:{key}",
        f"--grpc-keepalive-time={_KEEPALIVE_S * 1000}",
        f"--grpc-keepalive-timeout={_KEEPALIVE_TIMEOUT_S * 1000}",
        "--grpc-keepalive-permit-without-calls=1",
        "--grpc-http2-max-pings-without-data=0",
        f"--grpc-max-connection-age={int(spec.server.connection_age_s * 1e3)}",
        f"--grpc-max-connection-age-grace={int((spec.gate.max_timeout_s + _GRACE_S) * 1e3)}",
    ]


def _http_options(endpoint: Endpoint, key: str) -> list[str]:
    """Triton's endpoint for HTTP, off unless asked for: 130 kB of nested JSON end the server."""
    if endpoint.http_port is None:
        return ["--allow-http=false"]
    return [
        "--allow-http=true",
        f"--http-address={endpoint.host}",
        f"--http-port={endpoint.http_port}",
        f"--http-restricted-api={_CLOSED}:{key}",
    ]
