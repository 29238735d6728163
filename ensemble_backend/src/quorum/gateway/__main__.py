# SPDX-License-Identifier: Apache-2.0
"""A gateway as a program of its own, with its settings in the first argument."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from types import TracebackType

import msgspec

from quorum.gateway.run import serve
from quorum.gateway.settings import INFERENCE_KEY_VARIABLE, READY, Settings
from quorum.serving.log import JsonFormatter, is_json, log_as

STEP = "gateway"
"""Field `step` of its lines of JSON."""


def main() -> None:
    """Serve until the process that started this one is gone; a line on standard output says ready."""
    _log()
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    asyncio.run(serve(settings, os.environ.get(INFERENCE_KEY_VARIABLE), _say_ready, sys.stdin.fileno()))


def _log() -> None:
    """Log to standard error; as lines of JSON, if the server does, also what ends this process."""
    if not is_json():
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    log_as(STEP)
    sys.excepthook = _note_end


def _note_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("quorum.gateway").error("%s", str(error) or repr(error), exc_info=(kind, error, trace))


def _say_ready() -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
