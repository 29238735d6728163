# SPDX-License-Identifier: Apache-2.0
"""The seam between a member and whatever produces its text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from quorum.runtimes.option_base import Options, find_missing
from quorum_contract import Status
from quorum_contract.errors import QuorumError


@dataclass(frozen=True, slots=True)
class Question:
    """One product, put to one member.

    Attributes:
        prompt: Built by :func:`quorum.tasks.prompt.build_prompt`.
        schema: JSON schema of the answer (:meth:`quorum.tasks.catalogue.Catalogue.json_schema`), as text.
        text: The product text itself, for runtimes that look answers up.
        category: As asked; may be empty.
        attributes: ``A`` names, in the order of the answer.
        deadline_ns: ``time.monotonic_ns()`` after which nobody waits for the answer.
    """

    prompt: str
    schema: str
    text: str
    category: str
    attributes: tuple[str, ...]
    deadline_ns: int

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic_ns() >= self.deadline_ns


Reply = str | Status
"""The generated text, or why there is none."""


class Runtime(Protocol):
    """Turns questions into text. Thread-safe: ``submit`` is called while earlier questions are in flight."""

    def submit(self, question: Question, done: Callable[[Reply], None]) -> None:
        """Start answering and return at once.

        Args:
            question: What is asked. Work on it may stop once it is ``expired``.
            done: To be called exactly once, from any thread. Must not be called after ``close`` returned.

        Raises:
            Exception: Anything; the member turns it into an abstention.
        """

    def close(self) -> None:
        """Release everything; questions in flight are dropped."""


class InnerError(QuorumError, RuntimeError):
    """Another model of the server answered with an error."""

    code = "ENGINE_FAILED"


Array = np.ndarray[Any, np.dtype[Any]]
Infer = Callable[[str, Mapping[str, Array], Sequence[str], str], dict[str, Array]]
"""Asks another model of the server: its name, inputs, outputs wanted, request id; waits for the answer."""


class RuntimeConfigError(QuorumError, ValueError):
    """The member's settings do not fit its runtime; the message names the setting and the fix."""

    code = "RUNTIME_SETTINGS_INVALID"


O_co = TypeVar("O_co", bound=Options, covariant=True)


@dataclass(frozen=True, slots=True)
class RuntimeSettings(Generic[O_co]):
    """What a runtime starts with.

    Attributes:
        member: The member's name.
        root: Folder that relative paths of ``options`` start from.
        options: The runtime's own options.
        peers: Options of the other members in the same process.
        infer: Asks other models of the server; ``None`` outside of one.
    """

    member: str
    root: Path
    options: O_co
    peers: tuple[O_co, ...] = ()
    infer: Infer | None = None

    def check_files(self) -> None:
        """Check the files and folders that the options name.

        Raises:
            RuntimeConfigError: One of them does not exist, or lacks a file.
        """
        for key, problem in find_missing(self.options, self.root):
            raise RuntimeConfigError(f"member {self.member!r}: {key}: {problem}")
