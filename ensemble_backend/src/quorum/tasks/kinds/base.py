# SPDX-License-Identifier: Apache-2.0
"""What a kind of answer must say of itself."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from quorum.tasks.attribute import Attribute

MAX_TEXT_CHARS = 1000
"""Longest answer of kind ``text`` unless the attribute has a limit of its own."""


class AnswerKind(Protocol):
    """One kind of answer.

    Attributes:
        allows_na: Whether "n/a" is an answer, unless the attribute says otherwise.
        has_listed_answers: Whether ``values`` of an attribute are its answers, not parts of them.
        is_shared: Whether products share most answers, which are read without the product's text.
        has_pairs: Whether gold of it is pairs [words, type].
        refusal: Ends the sentence "<answer> ..." about a recorded vote that :meth:`read` refuses.
    """

    allows_na: ClassVar[bool]
    has_listed_answers: ClassVar[bool]
    is_shared: ClassVar[bool]
    has_pairs: ClassVar[bool]
    refusal: ClassVar[str]

    def problem(self, attribute: Attribute) -> str:
        """Why no attribute can have this kind and these fields; "" if it can."""

    def schema(self, attribute: Attribute) -> dict[str, Any]:
        """JSON schema of the answer to one attribute."""

    def describe(self, attribute: Attribute) -> str:
        """What the prompt says of the attribute, behind its name."""

    def wanted(self, attribute: Attribute) -> str:
        """Ends the sentence "<answer> ..." about a worked example that :meth:`read` refuses."""

    def read(self, attribute: Attribute, raw: object, text: str) -> str | None:
        """Read decoded JSON.

        Args:
            attribute: With that kind.
            raw: As JSON was decoded; whole numbers are text.
            text: The product's text.

        Returns:
            The answer in the one spelling that VALUES carries and votes compare; None: it is not allowed.
        """

    def raw(self, value: str) -> object:
        """An answer as the JSON that an LLM writes: the inverse of :meth:`read`."""

    def gold(self, attribute: Attribute, given: Sequence[object], text: str) -> list[str]:
        """The acceptable answers in the gold of a listing, spelled like votes.

        What :meth:`read` refuses stays as it is.
        """

    def gold_problem(self, attribute: Attribute, given: Sequence[object], text: str) -> str:
        """Why the gold of a listing cannot be learned, with what is allowed; "" if it can."""


def sentence(question: str) -> str:
    """A question that another sentence may follow."""
    return question if question.rstrip().endswith((".", "?", "!", ":")) else f"{question.rstrip()}."


def single(raw: object) -> str | None:
    """One text of decoded JSON: a text or number, also alone in a list; None for anything else."""
    if isinstance(raw, list) and len(raw) == 1:
        raw = raw[0]
    if not isinstance(raw, str) and not (isinstance(raw, float) and math.isfinite(raw)):
        return None
    return str(raw)


def answer_text(answer: object) -> str:
    """JSON of an answer as the grammar of guided decoding, examples and tuning spell it."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def without_limit(attribute: Attribute) -> str:
    """Why an attribute of another kind than ``text`` cannot have ``max_chars``; "" if it has none."""
    if attribute.max_chars == MAX_TEXT_CHARS:
        return ""
    return f"`max_chars` is for kind 'text', not {attribute.kind!r}; leave it out"


def no_text(attribute: Attribute, value: object) -> str:
    """Why a part of gold is no text; "" if it is one."""
    if not isinstance(value, str):
        return f"{value!r:.80} is a pair; kind {attribute.kind!r} has texts as gold"
    return "" if value.strip() else "an answer is empty"
