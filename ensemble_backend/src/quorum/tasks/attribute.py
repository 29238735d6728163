# SPDX-License-Identifier: Apache-2.0
"""One attribute of the catalogue: a question, the kind of its answer, and which answers it allows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from quorum.decision.answer_kinds import AnswerKind, form_of
from quorum.decision.forms import Form
from quorum.tasks.kinds import MAX_TEXT_CHARS, kind_of
from quorum.tasks.normalise import NORMALISERS, is_not_given, visible
from quorum_contract import NOT_APPLICABLE
from quorum_contract.errors import InvalidRequest, QuorumError
from quorum_contract.fields import join_fields

Kind = Literal["value", "label", "spans", "text"]
"""``value``: a value that the text states, or "n/a". ``label``: one of a closed list. ``spans``: parts of the
text, each with a type. ``text``: a text that is written anew."""
MAX_VALUE_CHARS = 128
"""Longest value of an open attribute that is read: gold and recorded votes of AE-110K exceed 64."""


class CatalogueError(QuorumError, ValueError):
    """The catalogue contradicts itself or cannot be read; the message names the attribute and the fix."""

    code = "CATALOGUE_INVALID"


class Example(NamedTuple):
    """A worked example for prompts: a product text, and its answer as JSON has it."""

    text: str
    answer: Any


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    Attributes:
        name: As callers ask for it.
        question: The question to the LLM, in plain words.
        values: The allowed answers in their canonical spelling; of kind ``spans`` the types. Empty for an
            open attribute.
        synonyms: Other spellings -> canonical value.
        normaliser: How values are compared: as text, exactly, as numbers or as measures
            (:mod:`quorum.tasks.normalise`).
        kind: Of the answer.
        many: Whether a product may have several values; only of kind ``value``.
        allow_na: Whether "n/a" is an answer; None becomes what is usual for the kind: not for ``label``.
        only: Categories that it is asked for; empty: all.
        fields: Named fields that TEXT is made of, in their order; empty: TEXT is plain.
        instructions: What the LLM is to do, in place of the usual sentence; empty: that one.
        examples: Worked examples for the prompt.
        max_chars: Longest answer of kind ``text``, up to :data:`quorum.tasks.kinds.MOST_TEXT_CHARS`.
        answer_kind: Follows from ``kind`` and ``many``; what depends on the kind is found by it.
    """

    name: str
    question: str = ""
    # Left out of the hash, which is computed for every parsed answer: names differ, lists may be long.
    values: tuple[str, ...] = field(default=(), hash=False)
    synonyms: Mapping[str, str] = field(default_factory=dict, hash=False)
    normaliser: str = "text"
    kind: Kind = "value"
    many: bool = False
    allow_na: bool | None = None
    only: tuple[str, ...] = field(default=(), hash=False)
    fields: tuple[str, ...] = field(default=(), hash=False)
    instructions: str = field(default="", hash=False)
    examples: tuple[Example, ...] = field(default=(), hash=False)
    max_chars: int = MAX_TEXT_CHARS
    answer_kind: AnswerKind = field(init=False, repr=False, compare=False)
    _canonical: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _longest: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "answer_kind", "values" if self.many else self.kind)
        if self.allow_na is None:
            object.__setattr__(self, "allow_na", kind_of(self).allows_na)
        longest = max(map(len, [*self.values, *self.synonyms, *self.synonyms.values()]), default=0)
        object.__setattr__(self, "_longest", longest + MAX_VALUE_CHARS)
        try:
            self._check_kind()
            self._check_names()
            object.__setattr__(self, "_canonical", self._spellings())
        except CatalogueError as error:
            raise CatalogueError(f"attribute {self.name!r}: {error}") from error

    def _check_kind(self) -> None:
        if self.many and self.kind != "value":
            raise CatalogueError(f"`many` is for kind 'value', not {self.kind!r}; leave it out")
        if problem := kind_of(self).problem(self):
            raise CatalogueError(problem)

    def _check_names(self) -> None:
        if len(set(self.fields)) < len(self.fields):
            raise CatalogueError(f"fields {', '.join(self.fields)}: name each once")
        for name in self.fields:
            try:
                join_fields({name: name})
            except InvalidRequest as error:
                raise CatalogueError(f"fields: {error}") from error
        if not all(name.strip() for name in self.only):
            raise CatalogueError("`only` has an empty category; leave it out")

    def _spellings(self) -> dict[str, str]:
        """Normalised spelling -> canonical value, for every spelling that the catalogue lists."""
        if self.normaliser not in NORMALISERS:
            known = ", ".join(NORMALISERS)
            raise CatalogueError(f"unknown normaliser {self.normaliser!r}; use one of {known}")
        if NOT_APPLICABLE in self.values:
            raise CatalogueError(f"{NOT_APPLICABLE!r} is an answer to every attribute; do not list it")
        normal = self._normal
        canonical = {normal(value): value for value in self.values}
        if len(canonical) < len(self.values):
            raise CatalogueError(f"two values become the same after {self.normaliser!r}")
        for spelling, value in self.synonyms.items():
            if self.values and value not in self.values:
                raise CatalogueError(f"synonym {spelling!r} -> {value!r}, which is not a value")
        # The targets of synonyms are canonical too, or a synonym and its target would not agree.
        for spelling, value in [*((v, v) for v in self.synonyms.values()), *self.synonyms.items()]:
            known = canonical.setdefault(normal(spelling), value)
            if known != value:
                raise CatalogueError(f"synonym {spelling!r} -> {value!r}, but it means {known!r} already")
        return canonical

    @property
    def is_closed(self) -> bool:
        """Whether only listed values (and "n/a" where allowed) are answers; kinds ``value`` and ``label``."""
        return bool(self.values) and kind_of(self).has_listed_answers

    @property
    def form(self) -> Form:
        """How votes on it are combined."""
        return form_of(self.answer_kind)

    def renamed(self, name: str, question: str) -> Attribute:
        """The same attribute with another name and question; its checks are not made again."""
        other = copy.copy(self)
        object.__setattr__(other, "name", name)
        object.__setattr__(other, "question", question)
        return other

    def is_asked_for(self, category: str) -> bool:
        """Whether products of this category have the attribute."""
        return not self.only or category.strip().casefold() in {name.casefold() for name in self.only}

    def normalise(self, raw: str) -> str | None:
        """The canonical value of one answer, ``"n/a"``, or None when no such value is allowed.

        For single values, labels, and the types of spans; an answer as a whole is read by
        :func:`quorum.tasks.kinds.read`. A closed attribute allows its values, an open one ``MAX_VALUE_CHARS``
        characters. Control characters, and those that change the direction of text, are left out.
        """
        if raw == NOT_APPLICABLE:
            return NOT_APPLICABLE if self.allow_na else None
        # Unicode's normal form takes time with the square of the length of some texts.
        if len(raw) > self._longest:
            return None
        value = self._normal(raw)
        if value in self._canonical:
            return self._canonical[value]
        if is_not_given(visible(raw)):
            return NOT_APPLICABLE if self.allow_na else None
        return None if self.values or len(value) > MAX_VALUE_CHARS else value

    def _normal(self, raw: str) -> str:
        return NORMALISERS[self.normaliser](visible(raw))
