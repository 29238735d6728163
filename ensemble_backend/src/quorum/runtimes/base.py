# SPDX-License-Identifier: Apache-2.0
"""Define the interface between a member and the runtime that produces its text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from quorum.runtimes.cancellation import Cancellation
from quorum.runtimes.option_base import Options, find_missing
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.parse import Vote
from quorum.tasks.prompt import Style
from quorum_contract import Status
from quorum_contract.errors import QuorumError


@dataclass(frozen=True, slots=True)
class Question:
    """One question to one member, about one product.

    Attributes:
        prompt: Built by :func:`quorum.tasks.prompt.build_prompt`. It may contain control tokens, which a
            runtime with an LLM removes (:class:`quorum.runtimes.control_tokens.ControlTokens`).
        schema: JSON schema of the answer (:func:`quorum.tasks.kinds.answer_schema`), as text.
        text: The product text, for runtimes that look answers up.
        attributes: ``A`` names, in the order of the answer.
        deadline_ns: ``time.monotonic_ns()`` after which the answer is discarded.
        cancellation: Says, before the deadline, that the answer is no longer waited for.
        adapter: Folder of the adapter that answers, as the member's options name it; None: the LLM without
            one. It is one of ``options.adapters_used``.
    """

    prompt: str
    schema: str
    text: str
    category: str
    attributes: tuple[str, ...]
    deadline_ns: int
    cancellation: Cancellation = field(default_factory=Cancellation, repr=False, compare=False)
    adapter: str | None = None

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed, or the answer is no longer waited for."""
        return self.cancellation.is_cancelled or time.monotonic_ns() >= self.deadline_ns

    @property
    def left_s(self) -> float:
        """Seconds to the deadline; negative after it."""
        return (self.deadline_ns - time.monotonic_ns()) / 1e9


class Usage(NamedTuple):
    """Tokens that an LLM read and wrote for one question.

    Attributes:
        prompt_tokens: Tokens of the prompt, cached ones included.
        answer_tokens: Tokens generated.
        cached_tokens: Tokens of the prompt that a prefix cache held, where the server says so.
    """

    prompt_tokens: int = 0
    answer_tokens: int = 0
    cached_tokens: int = 0


class Generated(NamedTuple):
    """A text that an LLM generated, with the log-probability of each token where the runtime knows them.

    Attributes:
        text: The text.
        ends: (t,) characters of ``text`` up to and with each token, never falling.
        log_probs: (t,) log-probability of each token given all before, in nats; nan: not known.
        usage: Tokens read and written; None: not known.
    """

    text: str
    ends: Sequence[int] = ()
    log_probs: Sequence[float] = ()
    usage: Usage | None = None


class Unsent(NamedTuple):
    """An abstention of a runtime that did not reach its LLM, so that it was no call.

    Attributes:
        status: Of the abstention.
    """

    status: Status


Reply = Generated | list[Vote] | Status | Unsent
"""The generated text; a vote per attribute, of a runtime without an LLM; or the status of an abstention."""
Done = Callable[[Reply], None]


class Runtime(Protocol):
    """Turns questions into text or votes. ``submit`` is called while earlier questions are in flight."""

    def submit(self, question: Question, done: Done) -> None:
        """Start answering and return at once; after any exception the member abstains.

        Args:
            question: The question. Work on it stops soon after it has ``expired``.
            done: Called exactly once, from any thread, and never after ``close`` has returned.
        """

    def close(self) -> None:
        """Release everything; questions in flight are dropped."""


class InnerError(QuorumError, RuntimeError):
    """Another model of the server answered with an error."""

    code = "ENGINE_FAILED"


Array = np.ndarray[Any, np.dtype[Any]]
Infer = Callable[[str, Mapping[str, Array], Sequence[str], str], dict[str, Array]]
"""Calls another model of the server by name, inputs, wanted outputs and request id; waits for the outputs."""


class RuntimeConfigError(QuorumError, ValueError):
    """The member's settings do not fit its runtime; the message names the setting and the fix."""

    code = "RUNTIME_SETTINGS_INVALID"


O_co = TypeVar("O_co", bound=Options, covariant=True)


@dataclass(frozen=True, slots=True)
class RuntimeSettings(Generic[O_co]):
    """Settings of a member's runtime.

    Attributes:
        root: Folder that relative paths of ``options`` start from.
        peers: Options of the other members in the same process.
        infer: Calls other models of the server; ``None`` outside of one.
        catalogue: Of the deployment.
        style: Of the member's prompts; None: not known, and a tuned model's prompts are not compared.
    """

    member: str
    root: Path
    options: O_co
    peers: tuple[O_co, ...] = ()
    infer: Infer | None = None
    catalogue: Catalogue = field(default_factory=lambda: Catalogue({}))
    style: Style | None = None

    def check_files(self) -> None:
        """Raise RuntimeConfigError if a file or folder that the options name is missing or incomplete."""
        for key, problem in find_missing(self.options, self.root):
            raise self.error(f"{key}: {problem}")

    def error(self, problem: str) -> RuntimeConfigError:
        """An error that names the member."""
        return RuntimeConfigError(f"member {self.member!r}: {problem}")
