# SPDX-License-Identifier: Apache-2.0
"""Split a question by the adapters that answer its attributes, and join the votes of the parts.

An adapter was trained on prompts about its own attributes, so each part is a question of its own: its prompt
and its schema name those attributes only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from quorum.runtimes.option_base import Options
from quorum.tasks.parse import Vote, abstain
from quorum_contract import Status


class Part(NamedTuple):
    """The attributes of a question that one adapter answers.

    Attributes:
        adapter: Folder of the adapter, as the options name it; None: the LLM without one.
        attributes: (k,) attributes, in the order of the question.
        positions: (k,) their positions in the question, from 0.
    """

    adapter: str | None
    attributes: tuple[str, ...]
    positions: tuple[int, ...]


OTHERS = "*"
"""Stands for all attributes that no adapter is named for."""


def adapters_in_use(options: Options) -> dict[str, str]:
    """Attribute, or :data:`OTHERS`, -> folder of the adapter that answers it; those without are left out."""
    usual = {OTHERS: options.usual_adapter} if options.usual_adapter else {}
    return {**options.adapter_by_attribute, **usual}


def split(options: Options, attributes: Sequence[str]) -> tuple[Part, ...]:
    """Parts of a question about ``A`` attributes: one per adapter, in the order of first attributes."""
    found: dict[str | None, list[int]] = {} if attributes else {options.usual_adapter: []}
    for position, attribute in enumerate(attributes):
        adapter = options.adapter_by_attribute.get(attribute, options.usual_adapter)
        found.setdefault(adapter, []).append(position)
    return tuple(
        Part(adapter, tuple(attributes[position] for position in positions), tuple(positions))
        for adapter, positions in found.items()
    )


class Joined:
    """Collects the votes of a question's parts, from any thread, and passes them on once all are in."""

    def __init__(self, parts: Sequence[Part], done: Callable[[Sequence[Vote]], None]) -> None:
        """``done`` gets ``A`` votes, in the order of the question, from the thread of the last part."""
        self._votes = abstain(Status.ERROR, sum(len(part.positions) for part in parts))
        self._pending, self._done = list(parts), done
        self._lock = threading.Lock()

    def add(self, part: Part, votes: Sequence[Vote]) -> None:
        """Take the votes of a part, ERROR if there are too many or too few; later ones are ignored."""
        with self._lock:
            if part not in self._pending:
                return
            self._pending.remove(part)
            if len(votes) != len(part.positions):
                votes = abstain(Status.ERROR, len(part.positions))
            if len(votes) == len(self._votes):
                self._votes = list(votes)
            else:
                for position, vote in zip(part.positions, votes, strict=True):
                    self._votes[position] = vote
            if self._pending:
                return
        self._done(self._votes)
