# SPDX-License-Identifier: Apache-2.0
"""Run a server from start to stop: check the repository, wait for every channel, record the process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.repository.render import difference
from quorum.repository.state import RepositoryError
from quorum.server.control import Control
from quorum.server.exposure import gateway_key
from quorum.server.gateway_process import open_gateway
from quorum.server.gateway_settings import check_gateway
from quorum.server.log_file import GATEWAY_LOG, SERVER_LOG
from quorum.server.prepare import prepare
from quorum.server.probe import probe_channel, take_recommend_pulse
from quorum.server.runfile import (
    Running,
    find_running,
    gateway_section,
    last_attempt,
    leave_attempt,
    leave_note,
    remove_attempt,
    remove_note,
    start_of,
    state_folder,
)
from quorum.server.triton import ServerProcessError, TritonServer
from quorum_contract import RECOMMEND_CHANNELS


def running_of(server: TritonServer, pid: int) -> Running:
    """The record of a server for other commands."""
    settings, gateway = server.spec.server.model_dump(mode="json"), gateway_section(server.spec)
    return Running(pid, start_of(pid), server.repository, server.endpoint, settings, gateway)


@contextmanager
def serve(
    spec: Deployment,
    *,
    repository: Path | None = None,
    start_timeout_s: float = 120.0,
    report: Callable[[str], None] = lambda _: None,
    on_started: Callable[[TritonServer], None] = lambda _: None,
) -> Iterator[TritonServer]:
    """Run a server for the time of a ``with`` block.

    Args:
        spec: The deployment.
        repository: Model repository; the spec's own by default.
        start_timeout_s: How long every channel may take to answer for the first time.
        report: Called with a line for each thing to know: what was undone or left out before the start, which
            version a channel answers with, a gateway that was opened again.
        on_started: Called with the server once its process runs, long before a channel answers.

    Raises:
        ExposedError: Other machines would reach Triton, and neither a key nor the deployment allows that.
        RepositoryError: The repository differs from the spec, or has weights that no server can load.
        KeysError: The gateway has no callers, or their file cannot be used.
        CertificateError: The gateway's certificate cannot be used.
        ServerProcessError: A server of this deployment runs already, or this one does not start.
    """
    _begin_alone(spec, repository)
    try:
        prepare(spec, repository or spec.repository_path, report)
        check_repository(spec, repository)
        key, logs = gateway_key(), state_folder(spec)
        server = TritonServer(
            spec, repository=repository, log_path=logs / SERVER_LOG, behind_gateway=key is not None
        )
        try:
            check_gateway(spec, server.endpoint, key)
            server.start()
            on_started(server)
            wait_channels(server, start_timeout_s, report)
            if server.pid is None:
                raise server.failure("stopped after its start")
            with open_gateway(spec, server.endpoint, key, logs / GATEWAY_LOG, report, server.repository):
                leave_note(spec, running_of(server, server.pid))
                yield server
        finally:
            try:
                remove_note(spec)
            finally:
                server.stop()
    except Exception as error:
        leave_attempt(spec, str(error))
        raise
    except BaseException:
        remove_attempt(spec)
        raise
    remove_attempt(spec)


def _begin_alone(spec: Deployment, repository: Path | None) -> None:
    """Record that this process serves, unless another does; of two that begin at once, one is refused."""
    folder = state_folder(spec)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Held for no longer than it takes to read and write the records.
        fcntl.flock(handle, fcntl.LOCK_EX)
        _refuse_second(spec)
        # A killed process left it.
        remove_note(spec)
        leave_attempt(spec, repository=repository)
    finally:
        os.close(handle)


_ELSE = "for a second server use a folder of its own, with a deploy.yaml of other ports"


def _refuse_second(spec: Deployment) -> None:
    running = find_running(spec)
    attempt = last_attempt(spec)
    if running:
        served = f"this deployment is served already, at {running.endpoint.grpc_url}"
        if attempt and attempt.is_alive:
            raise ServerProcessError(
                f"{served}, by `quorum up` (pid {attempt.pid}), which restarts a killed tritonserver; "
                f"stop it with `kill {attempt.pid}`; {_ELSE}"
            )
        raise ServerProcessError(f"{served}, by tritonserver (pid {running.pid}); stop it; {_ELSE}")
    if attempt and attempt.is_alive and attempt.pid != os.getpid():
        raise ServerProcessError(
            f"another `quorum up` of this deployment is starting or stopping (pid {attempt.pid}); "
            "wait for it with `quorum status --wait 120`, or stop it"
        )


def wait_channels(
    server: TritonServer, timeout_s: float, report: Callable[[str], None] = lambda _: None
) -> None:
    """Wait until every channel for attributes answers; ServerProcessError has the last log lines.

    The others are asked, too, and ``report`` says what they answer.
    """
    spec, endpoint, began = server.spec, server.endpoint, time.monotonic()
    with Control(endpoint.grpc_url, endpoint.admin_key) as control:
        server.wait_ready(lambda: all(control.is_ready(channel) for channel in server.channels), timeout_s)
    for channel in server.channels:
        version = probe_channel(spec, endpoint.grpc_url, channel, timeout_s)
        report(f"channel {channel} answers with weights version {version}")
    for channel in RECOMMEND_CHANNELS if server.has_retriever else ():
        # Without keyphrases a server still answers for attributes.
        pulse = take_recommend_pulse(endpoint.grpc_url, channel, timeout_s)
        answers = f"answers with retriever version {pulse.version}"
        report(f"channel {channel} {answers if pulse.ready else f'does not answer: {pulse.reason}'}")
    server.ready_after_s = time.monotonic() - began


def check_repository(spec: Deployment, repository: Path | None = None) -> None:
    """Raise RepositoryError, with the first files, unless the repository is as the spec says."""
    path = repository or spec.repository_path
    if not path.exists():
        raise RepositoryError(f"{path} does not exist; write it with `quorum render`")
    changes = difference(spec, path)
    if changes.misfits:
        listed = "; ".join(f"version {v}: {why}" for v, why in changes.misfits.items())
        raise RepositoryError(
            f"{path}: these weights would stop the server: {listed}; "
            "put the file back, or start again from equal weights: `quorum render --reset-weights`"
        )
    if not changes.is_clean:
        names = ", ".join(changes.names[:4])
        raise RepositoryError(f"{path} differs from {spec.path} ({names}, ...); run `quorum render`")
