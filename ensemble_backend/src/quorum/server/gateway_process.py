# SPDX-License-Identifier: Apache-2.0
"""Run the gateway in a process of its own: start it, start it again when it dies or is stopped, end it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from quorum.deployment.schema import Deployment
from quorum.gateway.settings import INFERENCE_KEY_VARIABLE, READY, Settings
from quorum.processes import STOPPED, resident_bytes, state_of
from quorum.repository.history import utc
from quorum.server import log_file
from quorum.server.endpoint import ADMIN_KEY_VARIABLE, Endpoint, ServerProcessError
from quorum.server.following import FollowedSettings
from quorum.server.gateway_settings import settings_of
from quorum.serving.log import LOG_FORMAT, TEXT

_PROGRAM = "quorum.gateway"
_PAUSES_S = (0.1, 0.5, 2.0, 5.0)
_DYING_S = 5.0
_LOOK_S = 0.1
_STOPPED_S = 1.0
_FOLLOW_S = 1.0
_OPENING_S = 60.0
# Far more than callers within the limits need: headers that no caller may send fill it.
_MOST_MEMORY = 1 << 30


class GatewayProcess:
    """Keeps one gateway open; ``report`` gets a line when it had to be opened again.

    A report that cannot be written keeps no gateway shut. ``changed`` is asked every second, and gives
    settings that the gateway is to take over, if there are any.
    """

    def __init__(
        self,
        settings: Settings,
        key: str | None,
        log_path: Path,
        report: Callable[[str], None],
        log_format: str = TEXT,
        changed: Callable[[], Settings | None] = lambda: None,
    ) -> None:
        self._settings, self._changed = settings, changed
        self._environment = os.environ | {"GRPC_VERBOSITY": "NONE", LOG_FORMAT: log_format}
        for variable in (ADMIN_KEY_VARIABLE, INFERENCE_KEY_VARIABLE):
            self._environment.pop(variable, None)
        if key is not None:
            self._environment[INFERENCE_KEY_VARIABLE] = key
        self._log_path = log_path
        self._report_to = report
        self._over = threading.Event()
        self._process = self._open()
        self._keeper = threading.Thread(target=self._keep, name="quorum-gateway", daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """Process id of the gateway that was opened last."""
        return self._process.pid

    def close(self) -> None:
        """Refuse new calls, wait for those in flight, end the process."""
        self._over.set()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._settings.drain_s + _DYING_S)
        self._process.kill()
        self._keeper.join()
        self._discard()

    def _open(self) -> subprocess.Popen[bytes]:
        """Start a process and wait until it listens; raises ServerProcessError with its last words."""
        with open(self._log_path, "ab", opener=log_file.open_private) as log:
            began = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _PROGRAM, msgspec.json.encode(self._settings).decode()],
                # It ends when this pipe does, so also with a process that is killed.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        if not self._listens(process):
            process.kill()
            process.wait()
            why = _last_words(self._log_path.read_bytes()[began:].decode("utf-8", "replace"))
            raise ServerProcessError(
                f"the gateway at {self._settings.addresses} did not open: {why}; see {self._log_path}"
            )
        return process

    def _listens(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until a process says that it listens; False if it ends, takes too long, or is not wanted."""
        assert process.stdout is not None
        poll, end = select.poll(), time.monotonic() + _OPENING_S
        poll.register(process.stdout, select.POLLIN)
        while not self._over.is_set() and time.monotonic() < end:
            if poll.poll(_LOOK_S * 1e3):
                return process.stdout.readline().strip() == READY.encode()
        return False

    def _keep(self) -> None:
        failures = 0
        while True:
            code = self._wait()
            if self._over.is_set():
                return
            self._report(
                f"the gateway at {self._settings.addresses} ended with code {code}; opening it again"
            )
            self._discard()
            while not self._over.wait(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)]):
                try:
                    self._process = self._open()
                except Exception as error:
                    # Whatever it is (no memory, no file handles), the next attempt may open it.
                    self._report(str(error))
                    failures += 1
                else:
                    failures = 0
                    if self._over.is_set():
                        self._process.terminate()
                    break

    def _wait(self) -> int:
        """Wait until the gateway has ended, and return its exit code; kill one that is stopped or large."""
        runs_at = followed_at = time.monotonic()
        while (code := self._process.poll()) is None:
            # A look can fail for want of a file handle, and says nothing then.
            with contextlib.suppress(OSError):
                if state_of(self._process.pid) != STOPPED:
                    runs_at = time.monotonic()
                elif time.monotonic() - runs_at > _STOPPED_S:
                    self._end("is stopped")
                if resident_bytes(self._process.pid) > _MOST_MEMORY:
                    self._end(f"has more than {_MOST_MEMORY >> 20} MiB of memory")
                log_file.bound(self._log_path)
            if time.monotonic() - followed_at > _FOLLOW_S:
                self._follow()
                followed_at = time.monotonic()
            time.sleep(_LOOK_S)
        return code

    def _follow(self) -> None:
        """Send the gateway what `quorum apply` changed; one that does not take it is opened again."""
        try:
            settings = self._changed()
        except Exception as error:
            # The gateway serves on; the next look may do better.
            self._report(f"the gateway cannot follow the deployment now: {type(error).__name__}: {error}")
            return
        if settings is None:
            return
        self._settings = settings
        line = msgspec.json.encode(settings) + b"\n"
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        os.set_blocking(pipe, False)
        try:
            is_sent = os.write(pipe, line) == len(line)
        except OSError:
            is_sent = False
        if is_sent:
            self._report(f"the gateway at {self._settings.addresses} follows what was applied")
        else:
            self._process.terminate()

    def _end(self, found: str) -> None:
        self._report(f"the gateway at {self._settings.addresses} {found}; it is killed")
        self._process.kill()
        self._process.wait()

    def _report(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._report_to(f"{utc(time.time())} {text}")

    def _discard(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


def _last_words(log: str) -> str:
    """The last line of a log, or the message that it has as JSON."""
    last = next((line for line in reversed(log.split("\n")) if line.strip()), "it wrote nothing")
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(msgspec.json.decode(last)["message"])
    return last


@contextmanager
def open_gateway(
    spec: Deployment,
    endpoint: Endpoint,
    key: str | None,
    log_path: Path,
    report: Callable[[str], None],
    repository: Path | None = None,
) -> Iterator[GatewayProcess | None]:
    """Keep a gateway open in front of a server for the time of a block, if the endpoint has one.

    It follows what `quorum apply` changes in the repository, by default the deployment's own.

    Raises:
        ServerProcessError: It does not open; the message has its last words.
    """
    settings = settings_of(spec, endpoint)
    if settings is None:
        yield None
        return
    followed = FollowedSettings(spec, endpoint, repository or spec.repository_path, settings)
    process = GatewayProcess(settings, key, log_path, report, spec.server.log, followed.changed)
    try:
        yield process
    finally:
        process.close()
