# SPDX-License-Identifier: Apache-2.0
"""The attribute catalogue of a deployment: its attributes, and the hashes that say what votes mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum.decision.answer_kinds import AnswerKind
from quorum.decision.catalogue_change import OUTSIDE
from quorum.tasks.attribute import Attribute, CatalogueError, Example
from quorum.tasks.examples import check_examples

CATALOGUE_FILE = "catalogue.json"
PLAIN_SCHEMA, SCHEMA_VERSION = 1, 2
"""A catalogue that needs nothing newer is written as version 1, which earlier releases read too."""
_PLAIN = Attribute("plain")
_NEWER = ("kind", "many", "allow_na", "only", "fields", "instructions", "examples", "max_chars")
_CHANGE_MEANING = ("kind", "many", "allow_na")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All attributes of a deployment; attributes outside it are open."""

    attributes: Mapping[str, Attribute]
    default_normaliser: str = "text"

    @classmethod
    def of(cls, attributes: Sequence[Attribute], default_normaliser: str = "text") -> Catalogue:
        """A catalogue of these attributes, by name; raises CatalogueError for an example that is none."""
        for attribute in attributes:
            check_examples(attribute)
        return cls({attribute.name: attribute for attribute in attributes}, default_normaliser)

    def get(self, name: str) -> Attribute:
        """The attribute of that name; an open one when the catalogue does not list it."""
        return self.attributes.get(name) or Attribute(name, normaliser=self.default_normaliser)

    def value_counts(self) -> dict[str, int]:
        """Number of possible answers of each closed attribute, ``"n/a"`` included; open ones are absent."""
        return {name: len(a.values) + bool(a.allow_na) for name, a in self.attributes.items() if a.is_closed}

    def answer_kinds(self) -> dict[str, AnswerKind]:
        """Kind of the answer of each attribute that has another than a single value."""
        kinds = {name: attribute.answer_kind for name, attribute in self.attributes.items()}
        return {name: kind for name, kind in kinds.items() if kind != "value"}

    def to_json(self) -> dict[str, Any]:
        """Plain data, read back by :meth:`from_json`."""
        attributes = {
            a.name: {
                "question": a.question,
                "values": list(a.values),
                "synonyms": dict(a.synonyms),
                "normaliser": a.normaliser,
                **_newer(a),
            }
            for a in self.attributes.values()
        }
        plain = not any(map(_newer, self.attributes.values()))
        return {
            "schema_version": PLAIN_SCHEMA if plain else SCHEMA_VERSION,
            "default_normaliser": self.default_normaliser,
            "attributes": attributes,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Catalogue:
        """Inverse of :meth:`to_json`; raises CatalogueError for another schema or a contradiction."""
        version = data.get("schema_version")
        if version not in (PLAIN_SCHEMA, SCHEMA_VERSION):
            raise CatalogueError(f"catalogue schema_version {version!r}, expected up to {SCHEMA_VERSION}")
        attributes = [_attribute(name, a) for name, a in data["attributes"].items()]
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
        """``sha256:...`` over what changes the meaning of votes: values, synonyms, normalisers, kinds."""
        return _hash([self.default_normaliser, {a.name: _meaning(a) for a in self.attributes.values()}])

    @property
    def hashes(self) -> dict[str, str]:
        """Attribute -> its hash; ``OUTSIDE`` for attributes that the catalogue does not list."""
        return {OUTSIDE: _hash(_meaning(self.get(OUTSIDE)))} | {
            name: _hash(_meaning(a)) for name, a in self.attributes.items()
        }


def _attribute(name: str, data: Mapping[str, Any]) -> Attribute:
    newer = {key: data[key] for key in _NEWER if key in data}
    for key in ("only", "fields"):
        newer[key] = tuple(newer.get(key, ()))
    newer["examples"] = tuple(Example(e["text"], e["answer"]) for e in newer.get("examples", ()))
    return Attribute(
        name, data["question"], tuple(data["values"]), dict(data["synonyms"]), data["normaliser"], **newer
    )


def _newer(attribute: Attribute) -> dict[str, Any]:
    """What version 1 of the schema cannot say of an attribute; empty where there is nothing."""
    given: dict[str, Any] = {}
    for key in _NEWER:
        value = getattr(attribute, key)
        if value != getattr(_PLAIN, key):
            given[key] = list(value) if isinstance(value, tuple) else value
    if "examples" in given:
        given["examples"] = [example._asdict() for example in attribute.examples]
    return given


def _meaning(attribute: Attribute) -> list[Any]:
    meaning = [sorted(attribute.values), sorted(attribute.synonyms.items()), attribute.normaliser]
    newer = _newer(attribute)
    # Left out where it says nothing, so that the hashes of earlier releases stay.
    kind = {key: newer[key] for key in _CHANGE_MEANING if key in newer}
    return [*meaning, kind] if kind else meaning


def _hash(meaning: object) -> str:
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
