# SPDX-License-Identifier: Apache-2.0
"""The attribute catalogue: attributes with their questions, allowed values, synonyms and normalisers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quorum.decision.catalogue_change import OUTSIDE
from quorum.tasks.normalise import NORMALISERS, is_not_given, visible
from quorum_contract import NOT_APPLICABLE
from quorum_contract.errors import QuorumError

CATALOGUE_FILE = "catalogue.json"
SCHEMA_VERSION = 1
MAX_OPEN_VALUE_CHARS = 64
"""Longest value of an open attribute that guided decoding writes."""
MAX_VALUE_CHARS = 128
"""Longest value of an open attribute that is read: gold and recorded votes of AE-110K exceed 64."""


class CatalogueError(QuorumError, ValueError):
    """The catalogue contradicts itself or cannot be read; the message names the attribute and the fix."""

    code = "CATALOGUE_INVALID"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    Attributes:
        name: As callers ask for it.
        question: The question to the LLM, in plain words.
        values: The allowed answers in their canonical spelling; empty for an open attribute.
        synonyms: Other spellings -> canonical value.
        normaliser: A key of :data:`quorum.tasks.normalise.NORMALISERS`.
    """

    name: str
    question: str = ""
    # Left out of the hash, which is computed for every parsed answer: names differ, lists may be long.
    values: tuple[str, ...] = field(default=(), hash=False)
    synonyms: Mapping[str, str] = field(default_factory=dict, hash=False)
    normaliser: str = "text"
    _canonical: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _longest: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        longest = max(map(len, [*self.values, *self.synonyms, *self.synonyms.values()]), default=0)
        object.__setattr__(self, "_longest", longest + MAX_VALUE_CHARS)
        try:
            object.__setattr__(self, "_canonical", self._spellings())
        except CatalogueError as error:
            raise CatalogueError(f"attribute {self.name!r}: {error}") from error

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
        """Whether only listed values and ``"n/a"`` are allowed."""
        return bool(self.values)

    @property
    def hash(self) -> str:
        """``sha256:...`` over what changes the meaning of votes: values, synonyms and the normaliser."""
        return _hash(_meaning(self))

    def normalise(self, raw: str) -> str | None:
        """The canonical value of an answer, ``"n/a"``, or None when no such value is allowed.

        A closed attribute allows its values, an open one ``MAX_VALUE_CHARS`` characters. Control
        characters, and those that change the direction of text, are left out.
        """
        if raw == NOT_APPLICABLE:
            return NOT_APPLICABLE
        # Unicode's normal form takes time with the square of the length of some texts.
        if len(raw) > self._longest:
            return None
        value = self._normal(raw)
        if value in self._canonical:
            return self._canonical[value]
        if is_not_given(visible(raw)):
            return NOT_APPLICABLE
        return None if self.is_closed or len(value) > MAX_VALUE_CHARS else value

    def _normal(self, raw: str) -> str:
        return NORMALISERS[self.normaliser](visible(raw))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All attributes of a deployment; attributes outside it are open."""

    attributes: Mapping[str, Attribute]
    default_normaliser: str = "text"

    @classmethod
    def of(cls, attributes: Sequence[Attribute], default_normaliser: str = "text") -> Catalogue:
        """A catalogue of these attributes, by name."""
        return cls({attribute.name: attribute for attribute in attributes}, default_normaliser)

    def get(self, name: str) -> Attribute:
        """The attribute of that name; an open one when the catalogue does not list it."""
        return self.attributes.get(name) or Attribute(name, normaliser=self.default_normaliser)

    def spelled(self, name: str, values: Iterable[str]) -> list[str]:
        """Gold of an attribute, normalised like votes; a value outside a closed set stays unchanged."""
        attribute = self.get(name)
        return [attribute.normalise(value) or value for value in values]

    def value_counts(self) -> dict[str, int]:
        """Number of possible answers of each closed attribute, ``"n/a"`` included; open ones are absent."""
        return {name: len(a.values) + 1 for name, a in self.attributes.items() if a.is_closed}

    def json_schema(self, names: Sequence[str]) -> dict[str, Any]:
        """The JSON schema of one answer: an object with these attributes, in this order, all required."""
        return {
            "type": "object",
            "properties": {name: _value_schema(self.get(name)) for name in names},
            "required": list(names),
            "additionalProperties": False,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data, read back by :meth:`from_json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "default_normaliser": self.default_normaliser,
            "attributes": {
                a.name: {
                    "question": a.question,
                    "values": list(a.values),
                    "synonyms": dict(a.synonyms),
                    "normaliser": a.normaliser,
                }
                for a in self.attributes.values()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Catalogue:
        """Inverse of :meth:`to_json`; raises CatalogueError for another schema or a contradiction."""
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise CatalogueError(f"catalogue schema_version {version!r}, expected {SCHEMA_VERSION}")
        attributes = [
            Attribute(name, a["question"], tuple(a["values"]), dict(a["synonyms"]), a["normaliser"])
            for name, a in data["attributes"].items()
        ]
        return cls.of(attributes, data["default_normaliser"])

    @classmethod
    def load(cls, path: Path) -> Catalogue:
        """Read a ``catalogue.json`` as the renderer writes it; raises CatalogueError for any other file."""
        try:
            return cls.from_json(json.loads(path.read_text("utf-8")))
        except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise CatalogueError(
                f"{path}: cannot read the catalogue ({error}); run `quorum render`"
            ) from error

    @property
    def hash(self) -> str:
        """``sha256:...`` over what changes the meaning of votes: values, synonyms and normalisers."""
        return _hash([self.default_normaliser, {a.name: _meaning(a) for a in self.attributes.values()}])

    @property
    def hashes(self) -> dict[str, str]:
        """Attribute -> its hash; ``OUTSIDE`` for attributes that the catalogue does not list."""
        return {OUTSIDE: self.get(OUTSIDE).hash} | {name: a.hash for name, a in self.attributes.items()}


def _meaning(attribute: Attribute) -> list[Any]:
    return [sorted(attribute.values), sorted(attribute.synonyms.items()), attribute.normaliser]


def _hash(meaning: object) -> str:
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _value_schema(attribute: Attribute) -> dict[str, Any]:
    if attribute.is_closed:
        return {"type": "string", "enum": [*attribute.values, NOT_APPLICABLE]}
    return {"type": "string", "minLength": 1, "maxLength": MAX_OPEN_VALUE_CHARS}
