# SPDX-License-Identifier: Apache-2.0
"""End a member's wait for an answer whose caller has gone: watch the gate's list of cancelled tickets."""

from __future__ import annotations

import logging
import threading
import time

from quorum.serving.admission import Admission
from quorum.serving.progress import Add, Call

logger = logging.getLogger(__name__)

LOOK_S = 0.02
_LINGER_LOOKS = 50
"""Looks without any question before the thread sleeps: waking it costs the next question a thread switch."""


class Cancels:
    """Makes the calls of pending questions early when their ticket is cancelled.

    The gate is another process. One thread compares a number in shared memory fifty times a second while
    questions are pending; without any, it sleeps.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._pending: dict[int, list[Call]] = {}
        self._lock = threading.Lock()
        self._seen = admission.cancels
        self._asleep = self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quorum-cancels", daemon=True)
        self._thread.start()

    def hurrying(self, ticket: int, add: Add) -> Add:
        """A substitute for ``add`` whose call comes earlier, perhaps twice, when ``ticket`` is cancelled."""

        def add_both(deadline_ns: int, call: Call) -> Call:
            take_back = add(deadline_ns, call)
            with self._lock:
                self._pending.setdefault(ticket, []).append(call)
            if self._asleep:
                self._wake.set()
            # One that the thread passed by before it was pending.
            if self._admission.is_cancelled(ticket):
                call()

            def cancel() -> None:
                take_back()
                self._forget(ticket, call)

            return cancel

        return add_both

    def close(self) -> None:
        """Stop the thread; deadlines that still wait are left to their own."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _forget(self, ticket: int, call: Call) -> None:
        with self._lock:
            calls = self._pending.get(ticket)
            if calls and call in calls:
                calls.remove(call)
            if not calls:
                self._pending.pop(ticket, None)

    def _run(self) -> None:
        quiet = 0
        while not self._closed:
            quiet = 0 if self._pending else quiet + 1
            if quiet > _LINGER_LOOKS:
                self._sleep()
                quiet = 0
            time.sleep(LOOK_S)
            if self._admission.cancels != self._seen:
                self._look()

    def _sleep(self) -> None:
        self._asleep = True
        # A question that came before it saw that the thread sleeps does not wake it.
        if not self._pending:
            self._wake.wait()
        self._asleep = False
        if not self._closed:
            self._wake.clear()

    def _look(self) -> None:
        # First the number: a ticket that comes after it is seen at the next look.
        since, self._seen = self._seen, self._admission.cancels
        for ticket in self._admission.cancelled_since(since):
            with self._lock:
                calls = self._pending.pop(ticket, [])
            for call in calls:
                try:
                    call()
                except Exception:
                    logger.exception("a cancelled question could not be ended")
