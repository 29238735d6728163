# SPDX-License-Identifier: Apache-2.0
"""Replay recorded answers instead of an LLM: for evaluation, dry runs of weights and rehearsed outages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

from quorum.runtimes.base import (
    Done,
    Generated,
    Question,
    Reply,
    RuntimeConfigError,
    RuntimeSettings,
    Usage,
)
from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.faults import Faults
from quorum.runtimes.lookup_options import ReplayOptions
from quorum.votes import Cell, VotesError, read_rows
from quorum_contract import Spent, Status
from quorum_contract.usage import add_up

_LOOKED_AT = 100
"""Rows of a votes table that are read to see whether it can be served."""
_encoded = json.JSONEncoder(ensure_ascii=False).encode


class _Recorded(NamedTuple):
    value: str
    score: float | None
    spent: Spent | None = None


class ReplayRuntime:
    """Answers from a votes table, by :class:`quorum.runtimes.options.ReplayOptions`."""

    def __init__(self, settings: RuntimeSettings[ReplayOptions]) -> None:
        options = settings.options
        settings.check_files()
        column = options.recorded_as or settings.member
        self._answers = _load(settings.root / options.votes, column, options.scores)
        self._options, self._latency_s = options, options.latency_ms / 1e3
        self._random = random.Random(options.seed)
        self._later = _Later()
        self._faults = _faults(settings)

    def submit(self, question: Question, done: Done) -> None:
        """Look the product up by category and text; the member abstains from cells without a record.

        Raises:
            RuntimeError: For the share ``fail_share`` of questions, and for some injected faults.
        """
        late_s = self._faults.strike(done) if self._faults else 0.0
        if late_s is None:
            return
        draw, options = self._random.random(), self._options
        if draw < options.fail_share:
            raise RuntimeError("rehearsed failure (fail_share)")
        if draw < options.fail_share + options.hang_share:
            self._later.settle(question.left_s, question, done, Status.TIMEOUT)
            return
        recorded = self._answers.get((question.category, question.text), {})
        answers = {name: recorded[name] for name in question.attributes if name in recorded}
        reply: Reply = self._written(answers) if answers else Status.NOT_ASKED
        if self._latency_s + late_s <= 0:
            done(reply)
            return
        is_constant = options.latency_shape == "constant"
        think_s = self._latency_s
        if think_s and not is_constant:
            think_s = self._random.expovariate(1.0 / think_s)
        self._later.settle(think_s + late_s, question, done, reply)

    def close(self) -> None:
        """Drop delayed answers."""
        self._later.close()

    def _written(self, answers: Mapping[str, _Recorded]) -> Generated:
        given = self._options.prompt_tokens, self._options.answer_tokens
        usage = (
            _recorded_usage(answers.values()) if given == (None, None) else Usage(*(n or 0 for n in given))
        )
        return _written(answers)._replace(usage=usage)


def _faults(settings: RuntimeSettings[ReplayOptions]) -> Faults | None:
    options = settings.options
    if options.faults is None:
        return None
    return Faults(settings.root / options.faults, is_limited=options.memory_limit_gib is not None)


class _Later:
    """Settles questions after a delay, all on one thread; at once when they are cancelled."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="quorum-replay", daemon=True)
        self._thread.start()

    def settle(self, delay_s: float, question: Question, done: Done, reply: Reply) -> None:
        self._loop.call_soon_threadsafe(self._wait, delay_s, question.cancellation, done, reply)

    def _wait(self, delay_s: float, cancellation: Cancellation, done: Done, reply: Reply) -> None:
        waiting = [done]

        def settle(reply: Reply) -> None:
            while waiting:
                waiting.pop()(reply)

        self._loop.call_later(delay_s, settle, reply)
        cancellation.when_cancelled(lambda: self._soon(partial(settle, Status.TIMEOUT)))

    def _soon(self, call: Callable[[], None]) -> None:
        # After the end nothing is called.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        """Stop; no function is called after this returns."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _recorded_usage(answers: Iterable[_Recorded]) -> Usage | None:
    """The tokens of the answers that these are parts of, as far as they were recorded; None: not known."""
    parts = [recorded.spent for recorded in answers]
    total = add_up(part for part in parts if part)
    if None in parts or total.prompt_tokens is None or total.answer_tokens is None:
        return None
    return Usage(round(total.prompt_tokens), round(total.answer_tokens), round(total.cached_tokens or 0))


def _written(answers: Mapping[str, _Recorded]) -> Generated:
    """An answer as an LLM would give it, each value with its closing quote being one token."""
    text = _encoded({name: recorded.value for name, recorded in answers.items()})
    if all(recorded.score is None for recorded in answers.values()):
        return Generated(text)
    lengths: list[int] = []
    log_probs: list[float] = []
    for name, (value, score, _) in answers.items():
        # {"name": "value", "name": "value"}
        lengths += len(_encoded(name)) + len('{: "' if not lengths else ', : "'), len(_encoded(value)) - 1
        log_probs += 0.0, math.nan if score is None else score
    return Generated(text, [*accumulate(lengths), len(text)], [*log_probs, 0.0])


def _load(path: Path, column: str, scores: bool) -> dict[tuple[str, str], dict[str, _Recorded]]:
    """The recorded values of one member by (category, text) and attribute, with their scores if wanted."""
    answers: dict[tuple[str, str], dict[str, _Recorded]] = {}
    for place, cell in _rows(path, column):
        value = cell.values[place]
        score = cell.scores[place] if cell.scores and scores else None
        if value is not None:
            recorded = answers.setdefault((cell.category, cell.title), {})
            spent = cell.usage[place] if cell.usage else None
            recorded[cell.attribute] = _Recorded(value, score, spent)
    return answers


def check_votes(path: Path, column: str) -> None:
    """Read the first rows of a votes table; raises RuntimeConfigError where they cannot be replayed."""
    for _ in islice(_rows(path, column), _LOOKED_AT):
        pass


def _rows(path: Path, column: str) -> Iterator[tuple[int, Cell]]:
    """The rows of a votes table, each with the place of a member's vote in it."""
    try:
        for _, members, cell, *_ in read_rows(path, identified=False):
            if column not in members:
                have = ", ".join(members)
                raise RuntimeConfigError(f"{path}: no votes of {column!r}; recorded are: {have}")
            yield members.index(column), cell
    except VotesError as error:
        raise RuntimeConfigError(str(error)) from error
