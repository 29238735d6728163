# SPDX-License-Identifier: Apache-2.0
"""Stop on the signals of a terminal, a service manager or CI."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt_once() -> Callable[[], bool]:
    """Raise KeyboardInterrupt on the first SIGINT, SIGTERM or SIGHUP; ignore later ones.

    Returns:
        Whether there was one: what a handler raises while a finaliser runs is lost, so loops ask this too.
    """
    seen: list[int] = []

    def handle(received: int, _frame: FrameType | None) -> None:
        seen.append(received)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in _SIGNALS:
        signal.signal(number, handle)
    return lambda: bool(seen)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: files are closed, and the command says how to go on.

    SIGHUP stays ignored where it is, as under nohup.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # Shells start background jobs with SIGINT ignored.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    ends = (signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in ends if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
