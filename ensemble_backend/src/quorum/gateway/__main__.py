# SPDX-License-Identifier: Apache-2.0
"""A gateway as a program of its own, with its settings in the first argument."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys

import msgspec

from quorum.gateway.run import serve
from quorum.gateway.settings import INFERENCE_KEY_VARIABLE, READY, Settings


def main() -> None:
    """Serve until the process that started this one is gone; a line on standard output says ready."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    asyncio.run(serve(settings, os.environ.get(INFERENCE_KEY_VARIABLE), _say_ready, sys.stdin.fileno()))


def _say_ready() -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
