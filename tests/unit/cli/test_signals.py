# SPDX-License-Identifier: Apache-2.0
"""Signals that end a command: the first one counts, whenever it arrives."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from quorum.cli.signals import interrupt_once

pytestmark = pytest.mark.usefixtures("own_stack")
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_interrupts_and_later_ones_do_not(number: signal.Signals) -> None:
    interrupted = interrupt_once()
    assert not interrupted()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    signal.raise_signal(number)
    assert interrupted()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_arrives_in_a_finaliser_is_not_lost() -> None:
    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):
                pass

    interrupted = interrupt_once()
    closing = Closing()
    del closing
    assert interrupted()
