# SPDX-License-Identifier: Apache-2.0
"""Serve members: ask the LLM and always respond, with votes or with a status that says why there are none.

A step that raises fails the whole ensemble request, so errors are data here: a crash of the runtime, a
missed deadline, a full queue and unreadable text all become statuses.
"""

from __future__ import annotations

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

from quorum.runtimes import create
from quorum.runtimes.base import Generated, Question, Reply, Runtime, RuntimeConfigError, RuntimeSettings
from quorum.runtimes.option_base import OptionError, Options
from quorum.runtimes.options import read_options
from quorum.serving import inner, progress
from quorum.serving.admission import Admission, default_path
from quorum.serving.log import limit_repeats
from quorum.serving.packing import Admitted, pack_votes, take_ticket, unpack_question
from quorum.serving.regions import make_private
from quorum.serving.tensors import answer, catalogue_path, packed_inputs, packed_tensor, root_of, settings_of
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote, abstain, parse_answer
from quorum.tasks.prompt import fill_prompt, instructions_for
from quorum_contract import QUESTION, VOTES, Status

logger = logging.getLogger(__name__)


class TritonPythonModel:
    """``quorum_member``: the gate's question in, one vote and status per attribute out.

    A model holds one member, or several that share one LLM in memory: adapters on one base.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the catalogue and start the runtimes; a RuntimeConfigError of one fails the load."""
        make_private()
        limit_repeats()
        settings = settings_of(args)
        members: list[dict[str, Any]] = settings["members"]
        self._name = args["model_name"]
        self._direct = bool(settings["allow_direct"])
        self._names: list[str] = [member["name"] for member in members]
        self._prefixes = [f"{name}_" for name in self._names] if len(members) > 1 else [""]
        self._admission = Admission(default_path())
        self._deadlines = Deadlines()
        grace, path = settings.get("grace"), progress.default_path()
        self._grace = progress.Grace(grace, self._deadlines, path) if grace else None
        catalogue, root = Catalogue.load(catalogue_path(args)), root_of(args)
        self._members: list[_Member] = []
        try:
            options = [_options_of(member) for member in members]
            for member, own in zip(members, options, strict=True):
                peers = tuple(other for other in options if other is not own)
                runtime = create(RuntimeSettings(member["name"], root, own, peers, inner.call, catalogue))
                self._members.append(_Member(member, catalogue, runtime, self._deadlines))
        except BaseException:
            self.finalize()
            raise

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Submit every request to the runtimes, and return the responses whose votes are all in.

        Others are ``None``, and follow through a response sender, which wakes two more processes.
        """
        replies = [_Reply(self._prefixes) for _ in requests]
        for request, reply in zip(requests, replies, strict=True):
            attributes = 1
            try:
                ticket, body = take_ticket(packed_inputs(request)[QUESTION])
                question = unpack_question(body)
                attributes = len(question.attributes)
                self._ask(question, ticket, body, reply)
            except Exception:
                logger.exception("%s: request failed", self._name)
                reply.fill(abstain(Status.ERROR, attributes))
        return [reply.now_or_later(request) for request, reply in zip(requests, replies, strict=True)]

    def finalize(self) -> None:
        """Stop the runtimes and the deadline thread."""
        for member in self._members:
            member.runtime.close()
        if self._grace is not None:
            self._grace.close()
        self._deadlines.close()

    def _ask(self, question: Admitted, ticket: int, body: bytes, reply: _Reply) -> None:
        gate = self._admission
        if not (self._direct or gate.is_valid(ticket, time.monotonic_ns(), gate.seal(body))):
            reply.fill(abstain(Status.REFUSED, len(question.attributes)))
            return
        gate.use(ticket)
        for position, (name, member) in enumerate(zip(self._names, self._members, strict=True)):
            send: Send = partial(reply, position=position) if position else reply
            if self._grace is None:
                member.ask(question, send)
            else:
                report = self._grace.reporting(send, ticket, name)
                member.ask(question, report, self._grace.hurrying(ticket))


def _options_of(member: Mapping[str, Any]) -> Options:
    try:
        return read_options(member["runtime"], member["options"])
    except OptionError as error:
        raise RuntimeConfigError(
            f"member {member['name']!r}: options.{error.key}: {error}; fix it in deploy.yaml and run"
            " `quorum render`"
        ) from error


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
        self._catalogue, self.runtime, self._deadlines = catalogue, runtime, deadlines
        self._pending = _Counter()
        # Callers use few distinct sets of attributes.
        self._task = lru_cache(maxsize=256)(self._task_of)

    def ask(self, admitted: Admitted, send: Send, at_deadline: progress.Add | None = None) -> None:
        """Submit one question to the runtime; ``send`` gets the votes, by the deadline at the latest.

        ``at_deadline``, if given, makes its call then or before: once the answer is no longer waited for.
        """
        try:
            self._ask(admitted, send, at_deadline or self._deadlines.add)
        except Exception:
            logger.exception("member %s: question failed", self._name)
            send(abstain(Status.ERROR, len(admitted.attributes)))

    def _ask(self, admitted: Admitted, send: Send, at_deadline: progress.Add) -> None:
        now = time.monotonic_ns()
        deadline = min(admitted.deadline_ns - self._reserve_ns, now + self._timeout_ns)
        count = len(admitted.attributes)
        if deadline <= now:
            return send(abstain(Status.TIMEOUT, count))
        instructions, schema = self._task(admitted.attributes)
        prompt = fill_prompt(self._style, instructions, admitted.text, admitted.category)
        question = Question(prompt, schema, admitted.text, admitted.category, admitted.attributes, deadline)
        leave = self._pending.enter(self._limit)
        if leave is None:
            return send(abstain(Status.OVERLOADED, count))

        def expire() -> None:
            send(abstain(Status.TIMEOUT, count))
            question.abandon()

        cancel = at_deadline(deadline, expire)

        def done(reply: Reply) -> None:
            cancel()
            leave()
            send(self._votes(question, reply))

        try:
            self.runtime.submit(question, done)
        except Exception:
            logger.exception("member %s: the runtime refused a question", self._name)
            done(Status.ERROR)

    def _task_of(self, attributes: tuple[str, ...]) -> tuple[str, str]:
        schema = json.dumps(self._catalogue.json_schema(attributes), ensure_ascii=False)
        return instructions_for(self._catalogue, self._style, attributes), schema

    def _votes(self, question: Question, reply: Reply) -> Sequence[Vote]:
        if isinstance(reply, Status):
            return abstain(reply, len(question.attributes))
        if not isinstance(reply, Generated):
            return reply
        # No vote is lost for its score.
        for generated in (reply, Generated(reply.text)):
            try:
                return parse_answer(self._catalogue, question.attributes, *generated)
            except Exception:
                logger.exception("member %s: could not parse an answer", self._name)
        return abstain(Status.UNPARSABLE, len(question.attributes))


_NEVER_NS = 1 << 62


class Deadlines:
    """Calls functions at their deadlines, on one thread, so that a hanging runtime cannot hang a request."""

    def __init__(self) -> None:
        # (deadline, unique number, entry): the number keeps the heap from comparing entries.
        self._heap: list[tuple[int, int, _Deadline]] = []
        self._numbers = count()
        self._wake = threading.Condition(threading.Lock())
        self._open = True
        self._wakes_ns = _NEVER_NS
        self._thread = threading.Thread(target=self._run, name="quorum-deadlines", daemon=True)
        self._thread.start()

    def add(self, deadline_ns: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call ``call`` at ``deadline_ns`` on the monotonic clock, or a little later.

        Returns:
            A function that cancels the call, at any time and more than once.
        """
        entry = _Deadline(call)
        with self._wake:
            self._drop_cancelled()
            heapq.heappush(self._heap, (deadline_ns, next(self._numbers), entry))
            if deadline_ns < self._wakes_ns:
                self._wakes_ns = deadline_ns
                self._wake.notify()
        return entry.cancel

    def close(self) -> None:
        """Stop the thread and make all pending calls at once."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._thread.join()
        for _, _, entry in self._heap:
            entry.fire()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._open:
                    return
                self._drop_cancelled()
                # Nearly all deadlines are cancelled. The thread sleeps until the cancelled time anyway: a
                # wake-up by the next question would cost that question a thread switch.
                now = time.monotonic_ns()
                if self._heap:
                    self._wakes_ns = self._heap[0][0]
                elif self._wakes_ns <= now:
                    self._wakes_ns = _NEVER_NS
                wait_ns = self._wakes_ns - now
                if wait_ns > 0:
                    self._wake.wait(min(wait_ns / 1e9, threading.TIMEOUT_MAX))
                    continue
                _, _, entry = heapq.heappop(self._heap)
            entry.fire()

    def _drop_cancelled(self) -> None:
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)


class _Deadline:
    """A pending call; fires at most once."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None

    def fire(self) -> None:
        call, self.call = self.call, None
        if call is not None:
            call()


class _Reply:
    """The response to one request, complete once every member of the model has given its votes.

    A call with votes never raises, even if the caller has gone. Only the first votes of each member count.
    """

    def __init__(self, prefixes: Sequence[str] = ("",)) -> None:
        self._sender: Any = None
        self._prefixes = prefixes
        self._votes: dict[int, Sequence[Vote]] = {}
        self._lock = threading.Lock()

    def __call__(self, votes: Sequence[Vote], position: int = 0) -> None:
        """Record the votes of the member at ``position``."""
        with self._lock:
            self._votes.setdefault(position, votes)
            if self._sender is None or len(self._votes) < len(self._prefixes):
                return
            sender, self._sender = self._sender, None
        # A request without a response would hang until the caller's deadline.
        for response in (self._response, self._abstained):
            try:
                sender.send(response(), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception:
                logger.exception("a response could not be sent")
            else:
                return

    def now_or_later(self, request: Any) -> Any:
        """The response to ``request`` if all votes are in; else ``None``, and it is sent once they are."""
        with self._lock:
            if len(self._votes) < len(self._prefixes):
                self._sender = request.get_response_sender()
                return None
        return self._response()

    def fill(self, votes: Sequence[Vote]) -> None:
        """Record the same votes for every member that has given none yet."""
        for position in range(len(self._prefixes)):
            self(votes, position)

    def _response(self) -> Any:
        try:
            return self._packed(self._votes)
        except Exception:
            logger.exception("votes could not be packed; abstaining instead")
            return self._abstained()

    def _abstained(self) -> Any:
        return self._packed({at: abstain(Status.ERROR, len(given)) for at, given in self._votes.items()})

    def _packed(self, votes: Mapping[int, Sequence[Vote]]) -> Any:
        packed = [pack_votes(votes[position]) for position in range(len(self._prefixes))]
        return answer(*map(packed_tensor, [f"{prefix}{VOTES}" for prefix in self._prefixes], packed))


class _Counter:
    """Limits how many questions the runtime holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[object] = set()

    def enter(self, limit: int) -> Callable[[], None] | None:
        """Take a place and return an idempotent function that frees it; ``None`` if all are taken."""
        place = object()
        with self._lock:
            if len(self._inside) >= limit:
                return None
            self._inside.add(place)
        return partial(self._inside.discard, place)
