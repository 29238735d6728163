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
from functools import lru_cache, partial
from itertools import count
from typing import Any

import triton_python_backend_utils as pb_utils

from quorum.contract import QUESTION, VOTES, Status
from quorum.runtimes import create
from quorum.runtimes.base import Question, Reply, Runtime, RuntimeSettings
from quorum.serving import inner
from quorum.serving.admission import Admission, default_path
from quorum.serving.packing import Admitted, pack_votes, unpack_question
from quorum.serving.tensors import answer, catalogue_path, packed, packed_tensor, root_of, settings_of
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote, abstain, parse_answer
from quorum.tasks.prompt import build_prompt

logger = logging.getLogger(__name__)


class TritonPythonModel:
    """``quorum_member``: the gate's question in, one vote and status per attribute out.

    A model holds one member, or several whose LLMs are one in memory: adapters on one base.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the catalogue and start the runtimes.

        Raises:
            RuntimeConfigError: A runtime cannot start with these settings; the load fails with it.
        """
        settings = settings_of(args)
        said: list[dict[str, Any]] = settings["members"]
        self._name = args["model_name"]
        self._direct = bool(settings["allow_direct"])
        self._prefixes = [f"{one['name']}_" for one in said] if len(said) > 1 else [""]
        self._admission = Admission(default_path())
        self._deadlines = Deadlines()
        catalogue, root = Catalogue.load(catalogue_path(args)), root_of(args)
        self._members: list[_Member] = []
        try:
            for one in said:
                beside = tuple(other["options"] for other in said if other is not one)
                its = RuntimeSettings(one["name"], root, one["options"], beside, inner.call)
                runtime = create(one["runtime"], its)
                self._members.append(_Member(one, catalogue, runtime, self._deadlines))
        except BaseException:
            self.finalize()
            raise

    def execute(self, requests: Sequence[Any]) -> None:
        """Put every request to the runtimes; the answers follow through the response senders."""
        for request in requests:
            reply = _Reply(request.get_response_sender(), self._prefixes)
            attributes = 1
            try:
                question = unpack_question(packed(request, QUESTION))
                attributes = len(question.attributes)
                self._ask(question, reply)
            except Exception:
                logger.exception("%s: request failed", self._name)
                reply.fill(abstain(Status.ERROR, attributes))

    def finalize(self) -> None:
        """Stop the runtimes and the deadline thread."""
        for member in self._members:
            member.close()
        self._deadlines.close()

    def _ask(self, question: Admitted, reply: _Reply) -> None:
        text, category, attributes, given_ns, ticket = question
        if not self._direct:
            seal = self._admission.seal(text, category, attributes, given_ns)
            if not self._admission.is_valid(ticket, time.monotonic_ns(), seal):
                reply.fill(abstain(Status.REFUSED, len(attributes)))
                return
        for at, member in enumerate(self._members):
            member.ask(text, category, attributes, given_ns, partial(reply, at=at))


Send = Callable[[Sequence[Vote]], None]


class _Member:
    """One member: its prompt, its limits and its runtime."""

    def __init__(
        self, settings: Mapping[str, Any], catalogue: Catalogue, runtime: Runtime, deadlines: Deadlines
    ) -> None:
        self._name = settings["name"]
        self._style = settings["prompt"]
        self._timeout_ns = int(settings["timeout_s"] * 1e9)
        self._reserve_ns = int(settings["reserve_ms"] * 1e6)
        self._limit = int(settings["max_in_flight"])
        self._catalogue, self._runtime, self._deadlines = catalogue, runtime, deadlines
        self._pending = _Counter()
        # Callers ask for the same few sets of attributes again and again.
        self._schema = lru_cache(maxsize=256)(self._schema_of)

    def ask(self, text: str, category: str, attributes: list[str], given_ns: int, send: Send) -> None:
        """Put one question to the runtime; ``send`` gets the votes, by the deadline at the latest."""
        try:
            self._ask(text, category, attributes, given_ns, send)
        except Exception:
            logger.exception("member %s: question failed", self._name)
            send(abstain(Status.ERROR, len(attributes)))

    def close(self) -> None:
        """Stop the runtime."""
        self._runtime.close()

    def _ask(self, text: str, category: str, attributes: list[str], given_ns: int, send: Send) -> None:
        now = time.monotonic_ns()
        deadline = min(given_ns - self._reserve_ns, now + self._timeout_ns)
        if deadline <= now:
            return send(abstain(Status.TIMEOUT, len(attributes)))
        question = self._question(text, category, attributes, deadline)
        leave = self._pending.enter(self._limit)
        if leave is None:
            return send(abstain(Status.OVERLOADED, len(attributes)))
        cancel = self._deadlines.add(deadline, lambda: send(abstain(Status.TIMEOUT, len(attributes))))

        def done(reply: Reply) -> None:
            cancel()
            leave()
            send(self._votes(question, reply))

        try:
            self._runtime.submit(question, done)
        except Exception:
            logger.exception("member %s: the runtime refused a question", self._name)
            done(Status.ERROR)

    def _question(self, text: str, category: str, attributes: list[str], deadline_ns: int) -> Question:
        return Question(
            prompt=build_prompt(self._catalogue, self._style, text, category, attributes),
            schema=self._schema(tuple(attributes)),
            text=text,
            category=category,
            attributes=tuple(attributes),
            deadline_ns=deadline_ns,
        )

    def _schema_of(self, attributes: tuple[str, ...]) -> str:
        return json.dumps(self._catalogue.json_schema(attributes), ensure_ascii=False)

    def _votes(self, question: Question, reply: Reply) -> Sequence[Vote]:
        if isinstance(reply, Status):
            return abstain(reply, len(question.attributes))
        try:
            return parse_answer(self._catalogue, question.attributes, reply)
        except Exception:
            logger.exception("member %s: could not parse an answer", self._name)
            return abstain(Status.UNPARSABLE, len(question.attributes))


class Deadlines:
    """Calls functions when their time has come, on one thread: a runtime that hangs cannot hang a request."""

    def __init__(self) -> None:
        self._heap: list[_Deadline] = []
        self._numbers = count()
        self._wake = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="quorum-deadlines", daemon=True)
        self._thread.start()

    def add(self, deadline_ns: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call ``call`` at ``deadline_ns`` on the monotonic clock, or a little later, unless it is cancelled.

        Returns:
            What cancels it, at any time and however often.
        """
        entry = _Deadline(deadline_ns, next(self._numbers), call)
        with self._wake:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._wake.notify()
        return entry.cancel

    def close(self) -> None:
        """Stop the thread; what is still waiting is called at once."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._thread.join()
        for entry in self._heap:
            entry.fire()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._open:
                    return
                # Nearly all are cancelled long before their time: dropped together, not woken for one by one.
                while self._heap and self._heap[0].call is None:
                    heapq.heappop(self._heap)
                wait_ns = self._heap[0].at_ns - time.monotonic_ns() if self._heap else None
                if wait_ns is None or wait_ns > 0:
                    self._wake.wait(None if wait_ns is None else wait_ns / 1e9)
                    continue
                entry = heapq.heappop(self._heap)
            entry.fire()


class _Deadline:
    """A call that is waiting for its time; earlier ones are smaller."""

    __slots__ = ("at_ns", "call", "number")

    def __init__(self, at_ns: int, number: int, call: Callable[[], None]) -> None:
        self.at_ns, self.number = at_ns, number
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: _Deadline) -> bool:
        return (self.at_ns, self.number) < (other.at_ns, other.number)

    def cancel(self) -> None:
        self.call = None

    def fire(self) -> None:
        call, self.call = self.call, None
        if call is not None:
            call()


class _Reply:
    """The answer to one request: sent when every member of the model has given its votes; never raises.

    Only the first votes of each member count.
    """

    def __init__(self, sender: Any, prefixes: Sequence[str] = ("",)) -> None:
        self._sender = sender
        self._prefixes = prefixes
        self._votes: dict[int, Sequence[Vote]] = {}
        self._lock = threading.Lock()

    def __call__(self, votes: Sequence[Vote], at: int = 0) -> None:
        """Votes of the member at that position."""
        with self._lock:
            self._votes.setdefault(at, votes)
            if len(self._votes) < len(self._prefixes):
                return
            sender, self._sender = self._sender, None
        if sender is None:
            return
        try:
            _send(sender, self._prefixes, self._votes)
        except Exception:
            # A request without any answer would hang to the caller's deadline.
            logger.exception("an answer could not be sent; abstaining instead")
            lost = {at: abstain(Status.ERROR, len(votes)) for at, votes in self._votes.items()}
            with contextlib.suppress(Exception):
                _send(sender, self._prefixes, lost)

    def fill(self, votes: Sequence[Vote]) -> None:
        """The same votes for every member that has given none yet."""
        for at in range(len(self._prefixes)):
            self(votes, at)


def _send(sender: Any, prefixes: Sequence[str], votes: Mapping[int, Sequence[Vote]]) -> None:
    tensors = [packed_tensor(f"{prefix}{VOTES}", pack_votes(votes[at])) for at, prefix in enumerate(prefixes)]
    sender.send(answer(*tensors), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


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
