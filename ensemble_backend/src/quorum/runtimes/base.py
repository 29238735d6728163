# SPDX-License-Identifier: Apache-2.0
"""The seam between a member and whatever produces its text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

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
    """The member's settings do not fit its runtime; the message names the setting and the mend."""

    code = "RUNTIME_SETTINGS_INVALID"


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """What a member's configuration says to its runtime.

    Attributes:
        member: The member's name.
        root: Folder that relative paths of ``options`` start from.
        options: The runtime's own options, as in ``deploy.yaml``.
        beside: Options of the other members in the same process.
        infer: Asks other models of the server; ``None`` outside of one.
    """

    member: str
    root: Path
    options: Mapping[str, Any]
    beside: tuple[Mapping[str, Any], ...] = ()
    infer: Infer | None = None

    def path(self, key: str) -> Path:
        """The existing file or folder that option ``key`` names.

        Raises:
            RuntimeConfigError: The option is absent or the path does not exist.
        """
        if key not in self.options:
            raise RuntimeConfigError(f"member {self.member!r}: option {key!r} is missing")
        path = self.root / str(self.options[key])
        if not path.exists():
            raise RuntimeConfigError(f"member {self.member!r}: {key} {str(path)!r} does not exist")
        return path
