# SPDX-License-Identifier: Apache-2.0
"""Let Ctrl-C and a termination wait until a state that must be whole is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from quorum_contract.errors import QuorumError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TrainingInterrupted(QuorumError, KeyboardInterrupt):
    """Training was interrupted; its checkpoint is written.

    Attributes:
        step: Of the checkpoint; 0: there is none, as no step was done.
        total: Steps of the whole run.
    """

    code = "TRAINING_INTERRUPTED"

    def __init__(self, step: int, total: int) -> None:
        super().__init__(f"interrupted after step {step} of {total}")
        self.step, self.total = step, total


@contextmanager
def whole() -> Iterator[None]:
    """Call the handlers of signals that arrive in the block when it has ended, in the main thread.

    Signals without a handler in Python do what they did.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        seen.append(number)

    # Those of the system (default, ignored) are no functions.
    handlers = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    try:
        for number in handlers:
            signal.signal(number, remember)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for received in dict.fromkeys(seen):
        signal.raise_signal(received)
