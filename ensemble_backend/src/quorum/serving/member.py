# SPDX-License-Identifier: Apache-2.0
"""A member: asks its LLM and always answers, with votes or with the reason why there are none.

A step that raises takes the whole ensemble request with it, so errors are data here: a crash of the
runtime, a missed deadline, a full queue and unreadable text all become statuses.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from quorum.contract import ATTRIBUTES, CATEGORY, DEADLINE, STATUS, TEXT, TICKET, VALUES, Status
from quorum.runtimes import create
from quorum.runtimes.base import Question, Reply, RuntimeSettings
from quorum.serving.admission import Admission, default_path
from quorum.serving.tensors import (
    answer,
    catalogue_path,
    integer,
    root_of,
    settings_of,
    strings,
    tensor,
    text_tensor,
)
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote, abstain, parse_answer
from quorum.tasks.prompt import build_prompt

logger = logging.getLogger(__name__)


class TritonPythonModel:
    """``quorum_member``: checked text in, one vote and status per attribute out."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the catalogue and start the runtime.

        Raises:
            RuntimeConfigError: The runtime cannot start with these settings; the load fails with it.
        """
        settings = settings_of(args)
        self._name = args["model_name"]
        self._style = settings["prompt"]
        self._timeout_ns = int(settings["timeout_s"] * 1e9)
        self._reserve_ns = int(settings["reserve_ms"] * 1e6)
        self._limit = int(settings["max_in_flight"])
        self._direct = bool(settings["allow_direct"])
        self._catalogue = Catalogue.load(catalogue_path(args))
        self._admission = Admission(default_path())
        self._deadlines = Deadlines()
        self._pending = _Counter()
        self._runtime = create(
            settings["runtime"], RuntimeSettings(self._name, root_of(args), settings["options"])
        )

    def execute(self, requests: Sequence[Any]) -> None:
        """Put every request to the runtime; the answers follow through the response senders."""
        for request in requests:
            once = _Once(request.get_response_sender())
            attributes: list[str] = []
            try:
                attributes = strings(request, ATTRIBUTES)
                self._ask(request, attributes, once)
            except Exception:
                logger.exception("member %s: request failed", self._name)
                once(abstain(Status.ERROR, max(1, len(attributes))))

    def finalize(self) -> None:
        """Stop the runtime and the deadline thread."""
        self._runtime.close()
        self._deadlines.close()

    def _ask(self, request: Any, attributes: list[str], once: _Once) -> None:
        now, given_ns = time.monotonic_ns(), integer(request, DEADLINE)
        text, category = strings(request, TEXT)[0], strings(request, CATEGORY)[0]
        if not self._direct:
            seal = self._admission.seal(text, category, attributes, given_ns)
            if not self._admission.is_valid(integer(request, TICKET), now, seal):
                return once(abstain(Status.REFUSED, len(attributes)))
        deadline = min(given_ns - self._reserve_ns, now + self._timeout_ns)
        if deadline <= now:
            return once(abstain(Status.TIMEOUT, len(attributes)))
        question = self._question(text, category, attributes, deadline)
        leave = self._pending.enter(self._limit)
        if leave is None:
            return once(abstain(Status.OVERLOADED, len(attributes)))
        self._deadlines.add(deadline, lambda: once(abstain(Status.TIMEOUT, len(attributes))))
        try:
            self._runtime.submit(question, lambda answer: self._done(question, answer, once, leave))
        except Exception:
            logger.exception("member %s: the runtime refused a question", self._name)
            self._done(question, Status.ERROR, once, leave)

    def _question(self, text: str, category: str, attributes: list[str], deadline_ns: int) -> Question:
        return Question(
            prompt=build_prompt(self._catalogue, self._style, text, category, attributes),
            schema=json.dumps(self._catalogue.json_schema(attributes), ensure_ascii=False),
            text=text,
            category=category,
            attributes=tuple(attributes),
            deadline_ns=deadline_ns,
        )

    def _done(self, question: Question, reply: Reply, once: _Once, leave: Callable[[], None]) -> None:
        leave()
        if isinstance(reply, Status):
            once(abstain(reply, len(question.attributes)))
            return
        try:
            votes = parse_answer(self._catalogue, question.attributes, reply)
        except Exception:
            logger.exception("member %s: could not parse an answer", self._name)
            votes = abstain(Status.UNPARSABLE, len(question.attributes))
        once(votes)


class Deadlines:
    """Calls functions when their time has come, on one thread: a runtime that hangs cannot hang a request."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._wake = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="quorum-deadlines", daemon=True)
        self._thread.start()

    def add(self, deadline_ns: int, call: Callable[[], None]) -> None:
        """Call ``call`` at ``deadline_ns`` on the monotonic clock, or a little later."""
        with self._wake:
            heapq.heappush(self._heap, (deadline_ns, next(self._numbers), call))
            if self._heap[0][0] == deadline_ns:
                self._wake.notify()

    def close(self) -> None:
        """Stop the thread; what is still waiting is called at once."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._thread.join()
        for _, _, call in self._heap:
            call()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._open:
                    return
                wait_ns = self._heap[0][0] - time.monotonic_ns() if self._heap else None
                if wait_ns is None or wait_ns > 0:
                    self._wake.wait(None if wait_ns is None else wait_ns / 1e9)
                    continue
                call = heapq.heappop(self._heap)[2]
            call()


class _Once:
    """Sends only the first of several answers to a request, and never raises."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._lock = threading.Lock()

    def __call__(self, votes: Sequence[Vote]) -> None:
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is None:
            return
        try:
            _send(sender, votes)
        except Exception:
            # A request without any answer would hang to the caller's deadline.
            logger.exception("an answer could not be sent; abstaining instead")
            with contextlib.suppress(Exception):
                _send(sender, abstain(Status.ERROR, len(votes)))


def _send(sender: Any, votes: Sequence[Vote]) -> None:
    response = answer(
        text_tensor(VALUES, [vote.value for vote in votes]),
        tensor(STATUS, [vote.status for vote in votes], np.int32),
    )
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


class _Counter:
    """How many questions the runtime holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[int] = set()
        self._numbers = count()

    def enter(self, limit: int) -> Callable[[], None] | None:
        """Take a place; what gives it back, however often it is called, or ``None`` when all are taken."""
        with self._lock:
            if len(self._inside) >= limit:
                return None
            place = next(self._numbers)
            self._inside.add(place)
        return partial(self._leave, place)

    def _leave(self, place: int) -> None:
        with self._lock:
            self._inside.discard(place)
