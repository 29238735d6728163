# SPDX-License-Identifier: Apache-2.0
"""Answer questions by a runtime: build the prompt, ask, and parse what the LLM wrote.

It runs in the worker process of a member whose runtime is isolated, and in the step of any other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from quorum.runtimes import create
from quorum.runtimes.base import (
    Generated,
    Infer,
    Question,
    Reply,
    Runtime,
    RuntimeConfigError,
    RuntimeSettings,
    Unsent,
)
from quorum.runtimes.by_adapter import Joined, Part, split
from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.option_base import OptionError, Options
from quorum.runtimes.options import read_options
from quorum.serving.meter import Meter
from quorum.serving.packing import Admitted, pack_votes
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import answer_schema
from quorum.tasks.parse import Vote, abstain, parse_answer
from quorum.tasks.prompt import fields_of, fill_prompt, instructions_for
from quorum_contract import NOT_APPLICABLE, Spent, Status
from quorum_contract.usage import CALLED, NOTHING, add_up

logger = logging.getLogger(__name__)

Done = Callable[[bytes], None]
"""Takes a member's packed votes; called once for each question."""
_MOST_TOKENS = 2**53
"""Above it a float holds not every whole number; servers may send any."""
_NOT_CALLED = frozenset({Status.NOT_ASKED, Status.OVERLOADED, Status.REFUSED, Status.BUDGET})


class _Task(NamedTuple):
    """A part of a question with its prompt's prefix, its schema, and the fields of its texts."""

    part: Part
    instructions: str
    schema: str
    fields: frozenset[str]


class Answering:
    """One member's prompt and runtime: questions in, packed votes out."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        catalogue: Catalogue,
        runtime: Runtime,
        options: Options | None = None,
        meter: Meter | None = None,
    ) -> None:
        """``options`` say which adapter answers which attribute; None: one answers all.

        ``meter`` is that of the LLM; None: no other member has it.
        """
        self._name, self._style = settings["name"], settings["prompt"]
        self._catalogue, self._runtime, self._options = catalogue, runtime, options or Options()
        self._meter = meter or Meter()
        self._has_only = any(attribute.only for attribute in catalogue.attributes.values())
        # Callers use few distinct sets of attributes.
        self._tasks = lru_cache(maxsize=256)(self._tasks_of)

    def ask(
        self, admitted: Admitted, body: bytes, deadline_ns: int, done: Done, cancellation: Cancellation
    ) -> None:
        """Submit a question; what fails becomes an abstention.

        Args:
            admitted: The question.
            body: The same, packed; a runtime in this process does not need it.
            deadline_ns: ``time.monotonic_ns()`` after which the votes are not wanted.
            done: Gets the votes; also called from the runtime's threads.
            cancellation: Says, before or at the deadline, that the votes are not wanted.
        """
        try:
            asked = self._asked(admitted)
            tasks = self._tasks(asked) if asked or not admitted.attributes else []
        except Exception:
            logger.exception("member %s: the runtime refused a question", self._name)
            done(packed(abstain(Status.ERROR, len(admitted.attributes))))
            return

        spent: list[Spent] = []

        def settle(votes: Sequence[Vote]) -> None:
            done(packed(self._spread(admitted, asked, votes), spent[0] if len(spent) == 1 else add_up(spent)))

        if not tasks:
            settle([])
            return
        joined = Joined([task.part for task in tasks], settle)
        for task in tasks:
            self._submit(admitted, task, deadline_ns, joined, cancellation, spent)

    def close(self) -> None:
        """Stop the runtime; questions in flight are dropped."""
        self._runtime.close()

    def _asked(self, admitted: Admitted) -> tuple[str, ...]:
        """The attributes that products of this category have."""
        if not self._has_only:
            return admitted.attributes
        get, category = self._catalogue.get, admitted.category
        return tuple(name for name in admitted.attributes if get(name).is_asked_for(category))

    def _spread(self, admitted: Admitted, asked: tuple[str, ...], votes: Sequence[Vote]) -> Sequence[Vote]:
        """A vote per attribute: "n/a" on those that were not asked."""
        if asked == admitted.attributes:
            return votes
        given = dict(zip(asked, votes, strict=True))
        none = Vote(NOT_APPLICABLE, Status.ANSWERED)
        return [given.get(name, none) for name in admitted.attributes]

    def _submit(
        self,
        admitted: Admitted,
        task: _Task,
        deadline_ns: int,
        joined: Joined,
        cancellation: Cancellation,
        spent: list[Spent],
    ) -> None:
        part, turn = task.part, self._meter.start()

        def take(reply: Reply) -> None:
            # Before the votes: with those of the last part the answer is sent.
            spent.append(_spent(reply, turn.end()))
            joined.add(part, self._votes(question, reply))

        try:
            text, category = admitted.text, admitted.category
            prompt = fill_prompt(self._style, task.instructions, text, category, task.fields)
            question = Question(
                prompt, task.schema, text, category, part.attributes, deadline_ns, cancellation, part.adapter
            )
            self._runtime.submit(question, take)
        except Exception:
            logger.exception("member %s: the runtime refused a question", self._name)
            spent.append(_spent(Status.ERROR, turn.end()))
            joined.add(part, abstain(Status.ERROR, len(part.attributes)))

    def _tasks_of(self, attributes: tuple[str, ...]) -> list[_Task]:
        return [self._task(part) for part in split(self._options, attributes)]

    def _task(self, part: Part) -> _Task:
        schema = json.dumps(answer_schema(self._catalogue, part.attributes), ensure_ascii=False)
        instructions = instructions_for(self._catalogue, self._style, part.attributes)
        return _Task(part, instructions, schema, fields_of(self._catalogue, part.attributes))

    def _votes(self, question: Question, reply: Reply) -> Sequence[Vote]:
        if isinstance(reply, Unsent):
            return abstain(reply.status, len(question.attributes))
        if isinstance(reply, Status):
            return abstain(reply, len(question.attributes))
        if not isinstance(reply, Generated):
            return reply
        # No vote is lost for its score.
        for generated in (reply, Generated(reply.text)):
            try:
                return parse_answer(self._catalogue, question.attributes, *generated[:3], text=question.text)
            except Exception:
                logger.exception("member %s: could not parse an answer", self._name)
        return abstain(Status.UNPARSABLE, len(question.attributes))


def _spent(reply: Reply, seconds: float) -> Spent:
    """What one call of a runtime took."""
    if isinstance(reply, Generated):
        usage = reply.usage
        if usage is None:
            return Spent(1, None, None, None, seconds)
        prompt, answer, cached = (min(max(count, 0), _MOST_TOKENS) for count in usage)
        return Spent(1, prompt, answer, cached, seconds)
    if isinstance(reply, Unsent):
        return NOTHING
    if isinstance(reply, Status):
        return NOTHING if reply in _NOT_CALLED else Spent(1, None, None, None, seconds)
    return Spent(1, seconds=seconds)


def packed(votes: Sequence[Vote], spent: Spent = NOTHING) -> bytes:
    """Pack votes and what they took; those that cannot be packed become abstentions."""
    try:
        return pack_votes(votes, spent)
    except Exception:
        logger.exception("votes could not be packed; abstaining instead")
        # What cannot be packed may be `spent`.
        return pack_votes(abstain(Status.ERROR, len(votes)), CALLED)


def options_of(member: Mapping[str, Any]) -> Options:
    """The typed options in a member's rendered settings; raises RuntimeConfigError for invalid ones."""
    try:
        return read_options(member["runtime"], member["options"])
    except OptionError as error:
        raise RuntimeConfigError(
            f"member {member['name']!r}: options.{error.key}: {error}; fix it in deploy.yaml and run"
            " `quorum render`"
        ) from error


def start_runtimes(
    members: Sequence[Mapping[str, Any]], root: Path, catalogue: Catalogue, infer: Infer | None = None
) -> list[Answering]:
    """Start the runtime of every member of a model; a RuntimeConfigError of one closes the others.

    Args:
        members: Rendered settings.
        root: Folder that relative paths of options start from.
        catalogue: Of the deployment.
        infer: Calls other models of the server, where that is possible.
    """
    options = [options_of(member) for member in members]
    started: list[Answering] = []
    meter = Meter()
    try:
        for member, own in zip(members, options, strict=True):
            peers = tuple(other for other in options if other is not own)
            settings = RuntimeSettings(member["name"], root, own, peers, infer, catalogue, member["prompt"])
            runtime = create(settings)
            started.append(Answering(member, catalogue, runtime, own, meter))
    except BaseException:
        for answering in started:
            answering.close()
        raise
    return started
