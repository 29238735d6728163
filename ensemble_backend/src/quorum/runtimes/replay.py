# SPDX-License-Identifier: Apache-2.0
"""Recorded answers instead of an LLM: evaluation on real votes, dry runs of weights, rehearsal of outages."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.contract import Status
from quorum.runtimes.base import Question, Reply, RuntimeConfigError, RuntimeSettings

_OPTIONS = frozenset(["votes", "recorded_as", "latency_ms", "fail_share", "hang_share", "seed"])


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    latency_ms: float
    fail_share: float
    hang_share: float


class ReplayRuntime:
    """Answers from a votes table.

    Options: ``votes``, path of a JSONL votes table; ``recorded_as``, the column to answer from (default:
    the member's name); ``latency_ms``, mean of exponentially distributed think time (default 0);
    ``fail_share`` and ``hang_share``, shares of questions in [0, 1] that raise or never get an answer
    (default 0), drawn with ``seed``.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        options = settings.options
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            raise RuntimeConfigError(f"member {settings.member!r}: replay has no option {unknown[0]!r}")
        column = str(options.get("recorded_as", settings.member))
        self._answers = _load(settings.path("votes"), column)
        self._rehearsal = _Rehearsal(
            *(float(options.get(key, 0.0)) for key in ("latency_ms", "fail_share", "hang_share"))
        )
        self._random = random.Random(int(options.get("seed", 0)))
        self._timers: set[threading.Timer] = set()

    def submit(self, question: Question, done: Callable[[Reply], None]) -> None:
        """Look the product up by category and text; cells that were never recorded are abstained from.

        Raises:
            RuntimeError: As often as ``fail_share`` says.
        """
        draw = self._random.random()
        if draw < self._rehearsal.fail_share:
            raise RuntimeError("rehearsed failure (fail_share)")
        if draw < self._rehearsal.fail_share + self._rehearsal.hang_share:
            return
        recorded = self._answers.get((question.category, question.text), {})
        asked = {name: recorded[name] for name in question.attributes if name in recorded}
        reply: Reply = json.dumps(asked, ensure_ascii=False) if asked else Status.NOT_ASKED
        if self._rehearsal.latency_ms <= 0:
            done(reply)
            return
        self._later(self._random.expovariate(1e3 / self._rehearsal.latency_ms), lambda: done(reply))

    def close(self) -> None:
        """Drop the answers still being thought about."""
        for timer in list(self._timers):
            timer.cancel()

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = threading.Timer(delay_s, run)
        timer.daemon = True
        self._timers.add(timer)
        timer.start()


def _load(path: Path, column: str) -> dict[tuple[str, str], dict[str, str]]:
    answers: dict[tuple[str, str], dict[str, str]] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            cell = _cell(path, number, line, column)
            vote = cell["votes"][column]
            if vote is not None:
                answers.setdefault((cell.get("category", ""), cell["title"]), {})[cell["attribute"]] = str(
                    vote
                )
    return answers


def _cell(path: Path, number: int, line: str, column: str) -> dict[str, Any]:
    try:
        cell: dict[str, Any] = json.loads(line)
        votes = cell["votes"]
        if column not in votes:
            known = ", ".join(votes)
            raise RuntimeConfigError(f"{path}:{number}: no votes of {column!r}; recorded are: {known}")
        cell["title"], cell["attribute"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise RuntimeConfigError(f"{path}:{number}: not a votes-table row ({error!r})") from error
    return cell
