# SPDX-License-Identifier: Apache-2.0
"""Write what `quorum up`, Triton, its steps and the gateway log as lines of JSON to one stream.

The files stay as they are: Triton writes to its own, so that nothing that reads lines can hold it up, and a
thread follows them. Lines of the steps are JSON already; others are wrapped.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from quorum.deployment.schema import Deployment
from quorum.safe_text import safe_json
from quorum.server.log_file import GATEWAY_LOG, SERVER_LOG, older
from quorum.server.runfile import state_folder
from quorum.serving.log import json_line

_LOOK_S = 0.1
_LONGEST = 64 << 10
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "fatal"}
# I1201 02:40:44.185658 16148 grpc_server.cc:2558] "Started GRPCInferenceService at 127.0.0.1:24664"
_TIME = re.compile(r"\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC ")
_TRITON = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) \d+ (\S+:\d+)\] (.*)", re.DOTALL)


class _OwnLine(msgspec.Struct):
    """The fields that each line of :func:`json_line` has."""

    time: Annotated[str, msgspec.Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")]
    level: str
    logger: str
    message: str


class JsonLog:
    """Writes lines of JSON, from any thread; ``write`` takes each with its end."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._lock = write, threading.Lock()

    def note(self, message: str, level: str = "info") -> None:
        """Write a line of this process; it has a field for the time that a message for people begins with."""
        self.line(json_line(time.time(), level, "quorum", _TIME.sub("", message)))

    def following(self, spec: Deployment) -> Follower:
        """Write what server and gateway of a deployment log from now on, during a ``with`` block."""
        folder = state_folder(spec)
        return Follower(self, [folder / SERVER_LOG, folder / GATEWAY_LOG])

    def line(self, line: str) -> None:
        """Write a line that is JSON; one that has no reader is lost."""
        with self._lock, suppress(OSError, ValueError):
            self._write(safe_json(line) + "\n")


class Follower:
    """Copies what is added to logs to a :class:`JsonLog`, on a thread, until :meth:`close`."""

    def __init__(self, log: JsonLog, paths: Sequence[Path]) -> None:
        self._log = log
        self._files = [_Followed(path) for path in paths]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="quorum-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copy the rest."""
        self._over.set()
        self._thread.join()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._over.wait(_LOOK_S)
            for file in self._files:
                for line in file.lines(is_over):
                    self._log.line(wrapped(line, file.path.stem))


class _Followed:
    """One log, and how much of it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # What an earlier server wrote is not copied.
        self._file, self._read = _file_of(path)
        self._begun = b""

    def lines(self, is_over: bool) -> list[str]:
        """The lines that were added; at the end also one that has no end."""
        added = b""
        with suppress(OSError):
            file, size = _file_of(self.path)
            if self._file and (file != self._file or size < self._read):
                # It was moved aside, or its content and it was emptied.
                added = _from(older(self.path), self._read)
                self._read = 0
            self._file = file
            fresh = _from(self.path, self._read)
            self._read += len(fresh)
            added += fresh
        *lines, self._begun = (self._begun + added).split(b"\n")
        if self._begun and (is_over or len(self._begun) > _LONGEST):
            lines.append(self._begun)
            self._begun = b""
        return [text for line in lines if (text := line.decode("utf-8", "replace").rstrip())]


def wrapped(line: str, source: str) -> str:
    """A line of a log as JSON: as it is where it was written so, else with what Triton wrote before its text.

    Args:
        line: Without its end.
        source: Name of the log, for a line whose writer is not known.
    """
    if line.startswith('{"time":'):
        with suppress(ValueError, RecursionError):
            msgspec.json.decode(line, type=_OwnLine)
            return line
    if match := _TRITON.fullmatch(line):
        letter, *digits, place, text = match.groups()
        with suppress(ValueError):
            text = json.loads(text) if text.startswith('"') and text.endswith('"') else text
        return json_line(_time_of(*map(int, digits)), _LEVELS[letter], "triton", text, {"place": place})
    return json_line(time.time(), "info", source, line)


def _time_of(month: int, day: int, hour: int, minute: int, second: int, micro: int) -> float:
    """When a line of Triton was written, which names no year, in seconds since the epoch; else now."""
    now = datetime.now(UTC)
    try:
        at = datetime(now.year, month, day, hour, minute, second, micro, UTC)
        # Of the night of the new year.
        return (at if (at - now).days < 1 else at.replace(year=now.year - 1)).timestamp()
    except ValueError:
        return now.timestamp()


def _file_of(path: Path) -> tuple[int, int]:
    """The number of a file, 0 where there is none, and its size in bytes."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_size


def _from(path: Path, at: int) -> bytes:
    with path.open("rb") as log:
        log.seek(at)
        return log.read()
