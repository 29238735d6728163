# SPDX-License-Identifier: Apache-2.0
"""Serve members: ask the LLM and always respond, with votes or with a status that says why there are none.

A step that raises fails the whole ensemble request, so errors are data here: a crash of the runtime, a
missed deadline, a full queue and unreadable text all become statuses. A step that blocks or dies takes the
whole server down, so a runtime that can do that has a worker process (:mod:`quorum.serving.isolation`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from quorum.runtimes.cancellation import Cancellation
from quorum.serving import inner, progress
from quorum.serving.admission import Recovery, own_admission
from quorum.serving.answering import Answering, Done, options_of, packed, start_runtimes
from quorum.serving.budget import Budget, Hold
from quorum.serving.cancels import Cancels
from quorum.serving.deadlines import Deadlines
from quorum.serving.isolation.frames import Start
from quorum.serving.isolation.worker import Worker
from quorum.serving.log import limit_repeats, log_as
from quorum.serving.open_question import Open, reduced, unpack_open
from quorum.serving.packing import (
    Admitted,
    pack_left_out,
    pack_question,
    spread_votes,
    take_ticket,
    unpack_answer,
    unpack_question,
)
from quorum.serving.places import Places
from quorum.serving.regions import make_private
from quorum.serving.reply import Reply
from quorum.serving.spans import traced_member
from quorum.serving.substitute import Substitute
from quorum.serving.tensors import catalogue_path, packed_inputs, root_of, settings_of
from quorum.serving.tracing import open_tracing
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import abstain
from quorum_contract import OPEN, QUESTION, Price, Status
from quorum_contract.usage import CALLED

logger = logging.getLogger(__name__)


class TritonPythonModel:
    """``quorum_member``: the gate's question in, one vote and status per attribute out.

    A model holds one member, or several that share one LLM in memory: adapters on one base.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Start the runtimes, here or in a worker; one that cannot fails the load, except in a recovery."""
        make_private()
        limit_repeats()
        settings = settings_of(args)
        members: list[dict[str, Any]] = settings["members"]
        self._name = args["model_name"]
        self._direct = bool(settings["allow_direct"])
        self._names: list[str] = [member["name"] for member in members]
        log_as(self._name, self._names)
        self._tracing = open_tracing()
        self._prefixes = [f"{name}_" for name in self._names] if len(members) > 1 else [""]
        self._admission = own_admission()
        answering, self._close_runtimes = _start(self._name, members, args, self._admission.recovery)
        self._deadlines, self._cancels = Deadlines(), Cancels(self._admission)
        # A repository that an earlier release rendered has no such setting.
        grace, path = settings.get("grace"), progress.default_path()
        self._grace = progress.Grace(grace, self._deadlines, path) if grace else None
        self._members = [
            Member(member, own, self._deadlines, _budget(member, args))
            for member, own in zip(members, answering, strict=True)
        ]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Submit every request to the runtimes, and return the responses whose votes are all in.

        Others are ``None``, and follow through a response sender, which wakes two more processes.
        """
        replies = [self._reply(request) for request in requests]
        for request, reply in zip(requests, replies, strict=True):
            attributes = 1
            try:
                inputs = packed_inputs(request)
                ticket, body = take_ticket(inputs[QUESTION])
                question = unpack_question(body)
                attributes = len(question.attributes)
                asked = unpack_open(inputs[OPEN], attributes) if OPEN in inputs else None
                self._ask(question, ticket, body, reply, asked)
            except Exception:
                logger.exception("%s: request failed", self._name)
                reply.fill(packed(abstain(Status.ERROR, attributes)))
        return [reply.now_or_later(request) for request, reply in zip(requests, replies, strict=True)]

    def finalize(self) -> None:
        """Stop the runtimes and the threads that watch deadlines and cancellations."""
        self._close_runtimes()
        self._cancels.close()
        if self._grace is not None:
            self._grace.close()
        self._deadlines.close()
        if self._tracing is not None:
            self._tracing.close()

    def _reply(self, request: Any) -> Reply:
        if self._tracing is None:
            return Reply(self._prefixes)
        return Reply(self._prefixes, traced_member(self._tracing, request, self._names))

    def _ask(
        self, question: Admitted, ticket: int, body: bytes, reply: Reply, asked: Open | None = None
    ) -> None:
        """Ask all members about the question, or what of it ``asked`` says; the rest is ``NOT_ASKED``."""
        gate, count = self._admission, len(question.attributes)
        if not (self._direct or gate.is_valid(ticket, time.monotonic_ns(), gate.seal(body))):
            reply.fill(packed(abstain(Status.REFUSED, count)))
            return
        if asked is not None and not asked.positions:
            reply.fill(pack_left_out(count))
            return
        gate.use(ticket)
        part = asked if asked is not None and len(asked.positions) < count and not asked.whole else None
        if part is not None:
            question = reduced(question, part)
            body = pack_question(question)
        for position, (name, member) in enumerate(zip(self._names, self._members, strict=True)):
            send: Done = partial(reply, position=position) if position else reply
            if part is not None:
                send = _spreading(send, part, count)
            at_deadline: progress.Add = self._deadlines.add
            if self._grace is not None:
                send = self._grace.reporting(send, ticket, name)
                at_deadline = self._grace.hurrying(ticket, asked.asked_ns if asked else 0)
            at_deadline = self._cancels.hurrying(ticket, at_deadline)
            member.ask(question, body, send, at_deadline, asked.deadline_ns if asked else None)


def _spreading(send: Done, asked: Open, attributes: int) -> Done:
    """``send`` for votes on the open attributes alone."""
    return lambda votes: send(spread_votes(votes, asked.positions, attributes))


class Asked(Protocol):
    """Answers a member's questions: a runtime in this process, or in a worker."""

    def ask(
        self, admitted: Admitted, body: bytes, deadline_ns: int, done: Done, cancellation: Cancellation
    ) -> None:
        """Take a question, also packed, and return at once; ``done`` gets the votes, from any thread.

        Once ``cancellation`` says that they are not waited for, it works on the question no longer.
        """


class Member:
    """One member's limits: how many questions it holds, how long each may take, and what it may spend."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        answering: Asked,
        deadlines: Deadlines,
        budget: Budget | None = None,
    ) -> None:
        self._name = settings["name"]
        self._timeout_ns = int(settings["timeout_s"] * 1e9)
        self._reserve_ns = int(settings["reserve_ms"] * 1e6)
        self._limit = int(settings["max_in_flight"])
        self._answering, self._add = answering, deadlines.add
        self._pending, self._budget = Places(), budget

    def ask(
        self,
        admitted: Admitted,
        body: bytes,
        send: Done,
        at_deadline: progress.Add | None = None,
        row_ends_ns: int | None = None,
    ) -> None:
        """Ask one question; ``send`` gets the packed votes, by the deadline at the latest, or more than once.

        ``at_deadline``, if given, makes its call then or before: once the answer is not waited for. A row of
        members may end before the question's own deadline.
        """
        try:
            self._ask(admitted, body, send, at_deadline or self._add, row_ends_ns)
        except Exception:
            logger.exception("member %s: question failed", self._name)
            send(packed(abstain(Status.ERROR, len(admitted.attributes))))

    def _ask(
        self, admitted: Admitted, body: bytes, send: Done, at_deadline: progress.Add, row_ends_ns: int | None
    ) -> None:
        now = time.monotonic_ns()
        deadline = min(admitted.deadline_ns - self._reserve_ns, now + self._timeout_ns)
        if row_ends_ns is not None:
            deadline = min(deadline, row_ends_ns)
        count = len(admitted.attributes)
        if deadline <= now:
            send(packed(abstain(Status.TIMEOUT, count)))
            return
        leave = self._pending.enter(self._limit)
        if leave is None:
            send(packed(abstain(Status.OVERLOADED, count)))
            return
        hold = self._take_budget()
        if isinstance(hold, Status):
            leave()
            send(packed(abstain(hold, count)))
            return
        holds = [hold] if hold else []
        cancellation = Cancellation()
        answered: list[bool] = []
        take_backs: list[Callable[[], None]] = []

        def give_up() -> None:
            send(packed(abstain(Status.TIMEOUT, count), CALLED))
            cancellation.cancel()

        def done(votes: bytes) -> None:
            answered.append(True)
            for take_back in take_backs:
                take_back()
            leave()
            # A runtime may answer twice.
            while holds:
                self._settle(holds.pop(), votes)
            send(votes)

        try:
            self._answering.ask(admitted, body, deadline, done, cancellation)
        except Exception:
            logger.exception("member %s: question failed", self._name)
            done(packed(abstain(Status.ERROR, count)))
        # A question that is answered by now, as by a cache or an abstention, needs no deadline.
        if not answered:
            take_backs.append(at_deadline(deadline, give_up))
            # Another thread may have answered since: it or this one takes the deadline back, or both.
            if answered:
                take_backs[0]()

    def _take_budget(self) -> Hold | Status | None:
        """Set aside what a question may cost; or why it may not be asked; None: there is no budget."""
        if self._budget is None:
            return None
        try:
            return self._budget.take() or Status.BUDGET
        except Exception as error:
            # Without counts its calls would have no limit, and the other members can answer.
            logger.warning("member %s: its budget cannot be read: %s; it abstains", self._name, error)
            return Status.ERROR

    def _settle(self, hold: Hold, votes: bytes) -> None:
        """Count what an answer took, in the budget; where that fails, what was set aside stays counted."""
        try:
            spent = unpack_answer(votes).spent
        except ValueError:
            spent = CALLED
        try:
            if self._budget:
                self._budget.settle(hold, spent)
        except Exception:
            # The answer is there, and may have been paid for.
            logger.exception("member %s: its budget could not count an answer", self._name)


def _budget(member: Mapping[str, Any], args: Mapping[str, str]) -> Budget | None:
    """The budget in a member's rendered settings."""
    limits, price = member.get("budget"), member.get("price")
    return Budget(member["name"], limits, price and Price(**price), root_of(args)) if limits else None


def _start(
    model: str, members: list[dict[str, Any]], args: Mapping[str, str], recovery: Recovery
) -> tuple[Sequence[Asked], Callable[[], None]]:
    """What answers each member's questions, and a function that stops it all."""
    root, path = root_of(args), catalogue_path(args)
    options = [options_of(member) for member in members]
    if any(own.isolated for own in options):
        start = Start(members, str(root), str(path), options[0].memory_limit_gib)
        worker = Worker(model, start, recovery)
        return [worker.member(position) for position in range(len(members))], worker.close

    def start_here() -> Sequence[Answering]:
        return start_runtimes(members, root, Catalogue.load(path), inner.call)

    try:
        started = start_here()
    except Exception:
        if recovery is Recovery.NONE:
            raise
        # A server that comes back must not stay away for one member.
        logger.exception("%s: cannot start; it abstains until it can", model)
        substitute = Substitute(model, start_here)
        return [substitute.member(position) for position in range(len(members))], substitute.close

    def close() -> None:
        for answering in started:
            answering.close()

    return started, close
