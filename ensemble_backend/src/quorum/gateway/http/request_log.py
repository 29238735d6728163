# SPDX-License-Identifier: Apache-2.0
"""The log of requests over HTTP: a line of JSON each, without keys and, as a rule, without texts."""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import random
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from quorum.gateway.http.exchange import Exchange
from quorum.gateway.settings import RequestLog as LogSettings

logger = logging.getLogger(__name__)

_STRANGERS_PER_S = 10
_METHOD = 16


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the log.

    Attributes:
        time: When the answer was ready, UTC.
        request_id: Also in the answer's header ``x-request-id``.
        caller: Its name; "": it is not known.
        method: Of HTTP, its first 16 characters.
        path: As the route has it; "": there is none.
        status: Of the answer; 499: the caller went before.
        ms: From request to answer.
        outcome: ``OK``, or the code of the error.
        channel: That answered, or was asked.
        products: How many were asked about.
        product: The first 16 hexadecimal digits of SHA-256 of the id of the only one.
        characters: Of the texts.
        cost: Of the answers.
        trace_id: Of its trace.
        texts: Where the log keeps them.
        dropped: Requests of strangers since the line before that were not written, as there were too many.
    """

    time: str
    request_id: str
    caller: str
    method: str
    path: str
    status: int
    ms: float
    outcome: str
    channel: str = ""
    products: int = 0
    product: str = ""
    characters: int = 0
    cost: float | None = None
    trace_id: str = ""
    texts: list[Any] | None = None
    dropped: int = 0


class RequestLog:
    """Writes the log; the file is opened again once it was renamed or removed, as logrotate does.

    A line that cannot be written is lost, and no request with it.

    Args:
        settings: None: nothing is written.
    """

    def __init__(self, settings: LogSettings | None) -> None:
        self._settings = settings
        self._file = _File(settings.path, encoding="utf-8", delay=True) if settings else None
        self._second, self._strangers, self._dropped = 0, 0, 0

    def write(self, exchange: Exchange, status: int) -> None:
        """Write a line, if the request is among those that are."""
        settings = self._settings
        if settings is None or self._file is None or not self._is_written(exchange, status, settings.share):
            return
        route = exchange.request.scope.get("route")
        line = Line(
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            exchange.request_id,
            exchange.caller.name if exchange.caller else "",
            exchange.request.method[:_METHOD],
            getattr(route, "path", ""),
            status,
            round((time.perf_counter() - exchange.began) * 1e3, 1),
            exchange.code or ("OK" if status < 400 else "GONE"),
            exchange.channel,
            exchange.products,
            exchange.product,
            sum(map(_characters, exchange.texts)),
            exchange.cost,
            exchange.trace_id,
            exchange.texts if settings.texts else None,
            self._dropped,
        )
        self._dropped = 0
        text = msgspec.json.encode(line).decode()
        self._file.handle(logging.makeLogRecord({"msg": text}))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _is_written(self, exchange: Exchange, status: int, share: float) -> bool:
        """Whether a request is written: strangers must not fill the disk, and probes say nothing."""
        if exchange.caller is None:
            if status < 400:
                return False
            second = int(time.monotonic())
            if second != self._second:
                self._second, self._strangers = second, 0
            self._strangers += 1
            if self._strangers > _STRANGERS_PER_S:
                self._dropped += 1
                return False
        return status >= 400 or random.random() < share


class _File(logging.handlers.WatchedFileHandler):
    """A file that only its owner reads."""

    _warned = False

    def _open(self) -> io.TextIOWrapper:
        handle = _open_private(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return io.TextIOWrapper(io.FileIO(handle, "w"), encoding=self.encoding, write_through=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; one whose file cannot be opened is lost."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is logging's)
        """Say once that lines are lost."""
        if not self._warned:
            self._warned = True
            logger.error("the log of requests cannot be written; lines are lost: %s", sys.exc_info()[1])


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _characters(text: Any) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text.values()))
