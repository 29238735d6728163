# SPDX-License-Identifier: Apache-2.0
"""Stand in for runtimes that could not start when the server came back from a fault."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from quorum.runtimes.cancellation import Cancellation
from quorum.serving.answering import Answering, Done, packed
from quorum.serving.packing import Admitted
from quorum.tasks.parse import abstain
from quorum_contract import Status

logger = logging.getLogger(__name__)
RETRY_S = 5.0


class Substitute:
    """Abstains for the members of a model, and now and then tries to start them; then they answer.

    Args:
        model: Its name, for messages.
        start: Starts the runtimes, in the order of the members; an exception is one more failure.
    """

    def __init__(self, model: str, start: Callable[[], Sequence[Answering]]) -> None:
        self._model, self._start = model, start
        self._started: Sequence[Answering] = ()
        self._next_s = time.monotonic() + RETRY_S
        self._lock, self._closed = threading.Lock(), False

    def member(self, position: int) -> SubstituteMember:
        """What answers for the member at this position."""
        return SubstituteMember(self, position)

    def close(self) -> None:
        """Stop what was started, and start nothing more."""
        with self._lock:
            self._closed = True
            started, self._started = self._started, ()
        for answering in started:
            answering.close()

    def started(self) -> Sequence[Answering]:
        """The runtimes, if they could be started by now; else another try may begin in a thread."""
        if not self._started and time.monotonic() >= self._next_s:
            with self._lock:
                if self._closed or time.monotonic() < self._next_s:
                    return self._started
                self._next_s = float("inf")
            threading.Thread(target=self._try, name="quorum-substitute", daemon=True).start()
        return self._started

    def _try(self) -> None:
        try:
            started = self._start()
        except Exception as error:
            logger.warning("%s: still cannot start: %s", self._model, error)
            self._next_s = time.monotonic() + RETRY_S
            return
        with self._lock:
            if not self._closed:
                self._started = started
                logger.warning("%s: started after all, and answers", self._model)
                return
        for answering in started:
            answering.close()


class SubstituteMember:
    """One member of the model that a :class:`Substitute` stands for."""

    def __init__(self, substitute: Substitute, position: int) -> None:
        self._substitute, self._position = substitute, position

    def ask(
        self, admitted: Admitted, body: bytes, deadline_ns: int, done: Done, cancellation: Cancellation
    ) -> None:
        """Ask the runtime if it has started, else abstain; see :meth:`Answering.ask`."""
        started = self._substitute.started()
        if started:
            started[self._position].ask(admitted, body, deadline_ns, done, cancellation)
        else:
            done(packed(abstain(Status.ERROR, len(admitted.attributes))))
