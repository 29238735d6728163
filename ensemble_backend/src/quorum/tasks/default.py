# SPDX-License-Identifier: Apache-2.0
"""The question that every attribute outside the catalogue is asked, such as each of a million keyphrases."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quorum.tasks.attribute import Attribute, CatalogueError
from quorum.tasks.normalise import visible
from quorum_contract.fields import one_line

_PLACE = re.compile(r"\{name(?:!r)?\}")


@dataclass(frozen=True, slots=True)
class Default:
    """One question with a closed list of answers; the attribute's name is what it asks about.

    Attributes:
        question: With ``{name}`` in it, which stands for the name, quoted; no other braces mean anything.
        values: The allowed answers, from the worst to the best.
        synonyms: Other spellings -> value.
        normaliser: How values are compared: as text, exactly, as numbers or as measures
            (:mod:`quorum.tasks.normalise`).
        instructions: In place of the usual first sentence of the prompt; empty: that one.
        grades: Value -> its grade in [0, 1]; empty: value i of n has the grade i / (n - 1).
    """

    question: str
    values: tuple[str, ...]
    synonyms: Mapping[str, str] = field(default_factory=dict)
    normaliser: str = "text"
    instructions: str = ""
    grades: Mapping[str, float] = field(default_factory=dict)
    _any: Attribute = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _PLACE.search(self.question):
            raise CatalogueError("question: does not say where the attribute's name goes; write {name} there")
        if len(self.values) < 2:
            raise CatalogueError(
                "values: at least two answers must be possible; list them from worst to best"
            )
        if self.grades and set(self.grades) != set(self.values):
            odd = min(set(self.grades) ^ set(self.values))
            raise CatalogueError(
                f"grades: {odd!r} is in one of grades and values only; give each value a grade"
            )
        for value, grade in self.grades.items():
            if not 0 <= grade <= 1:
                raise CatalogueError(f"grades: {value!r} has {grade}; a grade lies in [0, 1]")
        made = Attribute(
            "", self.question, self.values, self.synonyms, self.normaliser, "label",
            instructions=self.instructions,
        )  # fmt: skip
        object.__setattr__(self, "_any", made)

    def named(self, name: str) -> Attribute:
        """The attribute of that name."""
        words = quoted(name)
        # A function, as a replacement text would have escapes of its own.
        return self._any.renamed(name, _PLACE.sub(lambda _: words, self.question))

    def grade(self, value: str) -> float | None:
        """The grade of a value in [0, 1]; None for anything else, such as "n/a"."""
        if value not in self.values:
            return None
        if self.grades:
            return float(self.grades[value])
        return self.values.index(value) / (len(self.values) - 1)

    def to_json(self) -> dict[str, Any]:
        """Plain data, read back by :meth:`from_json`."""
        return {
            "question": self.question,
            "values": list(self.values),
            "synonyms": dict(self.synonyms),
            "normaliser": self.normaliser,
            "instructions": self.instructions,
            "grades": dict(self.grades),
        }

    @property
    def hash(self) -> str:
        """``sha256:...`` of question, values, grades and all else: what labels are of."""
        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Default:
        """Inverse of :meth:`to_json`."""
        return cls(**{**data, "values": tuple(data["values"])})

    def meaning(self) -> list[Any]:
        """What changes the meaning of votes; the wording of the question is all that names the task."""
        return [self.question, list(self.values), sorted(self.synonyms.items()), self.normaliser]


def quoted(name: str) -> str:
    """A name as data in a prompt: one line in double quotes, with what would end them escaped."""
    return json.dumps(one_line(visible(name)), ensure_ascii=False)
