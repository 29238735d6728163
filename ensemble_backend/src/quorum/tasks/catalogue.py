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
from quorum.tasks.default import Default
from quorum.tasks.examples import check_examples

CATALOGUE_FILE = "catalogue.json"
PLAIN_SCHEMA, KINDS_SCHEMA, SCHEMA_VERSION = 1, 2, 3
"""A catalogue that needs nothing newer is written as version 1, and one without a default question as version
2, which earlier releases read too."""
_PLAIN = Attribute("plain")
_NEWER = ("kind", "many", "allow_na", "only", "fields", "instructions", "examples", "max_chars")
_CHANGE_MEANING = ("kind", "many", "allow_na")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All attributes of a deployment.

    Attributes:
        attributes: Name -> attribute.
        default_normaliser: Of attributes outside the catalogue, which are open.
        default: What attributes outside the catalogue are asked instead, with a closed list of answers.
    """

    attributes: Mapping[str, Attribute]
    default_normaliser: str = "text"
    default: Default | None = None

    @classmethod
    def of(
        cls,
        attributes: Sequence[Attribute],
        default_normaliser: str = "text",
        default: Default | None = None,
    ) -> Catalogue:
        """A catalogue of these attributes, by name; raises CatalogueError for an example that is none."""
        for attribute in attributes:
            check_examples(attribute)
        return cls({attribute.name: attribute for attribute in attributes}, default_normaliser, default)

    def get(self, name: str) -> Attribute:
        """The attribute of that name; by the default question, else open, when the catalogue lists none."""
        if listed := self.attributes.get(name):
            return listed
        if self.default is not None:
            return self.default.named(name)
        return Attribute(name, normaliser=self.default_normaliser)

    def is_by_default(self, name: str) -> bool:
        """Whether the default question is what an attribute of this name is asked."""
        return self.default is not None and name not in self.attributes

    def value_counts(self) -> dict[str, int]:
        """Number of possible answers of each closed attribute, ``"n/a"`` included; open ones are absent.

        That of the default question stands under ``OUTSIDE``.
        """
        outside = {OUTSIDE: len(self.default.values)} if self.default else {}
        return outside | {
            name: len(a.values) + bool(a.allow_na) for name, a in self.attributes.items() if a.is_closed
        }

    def answer_kinds(self) -> dict[str, AnswerKind]:
        """Kind of the answer of each attribute that has another than a single value, ``OUTSIDE`` included."""
        outside: dict[str, AnswerKind] = {OUTSIDE: "label"} if self.default else {}
        kinds = {name: attribute.answer_kind for name, attribute in self.attributes.items()}
        return outside | {name: kind for name, kind in kinds.items() if kind != "value"}

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
        needed = KINDS_SCHEMA if any(map(_newer, self.attributes.values())) else PLAIN_SCHEMA
        return {
            "schema_version": SCHEMA_VERSION if self.default else needed,
            "default_normaliser": self.default_normaliser,
            "attributes": attributes,
            **({"default": self.default.to_json()} if self.default else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Catalogue:
        """Inverse of :meth:`to_json`; raises CatalogueError for another schema or a contradiction."""
        version = data.get("schema_version")
        if version not in (PLAIN_SCHEMA, KINDS_SCHEMA, SCHEMA_VERSION):
            raise CatalogueError(f"catalogue schema_version {version!r}, expected up to {SCHEMA_VERSION}")
        attributes = [_attribute(name, a) for name, a in data["attributes"].items()]
        default = Default.from_json(data["default"]) if version == SCHEMA_VERSION else None
        return cls.of(attributes, data["default_normaliser"], default)

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
        outside = self.default.meaning() if self.default else self.default_normaliser
        return _hash([outside, {a.name: _meaning(a) for a in self.attributes.values()}])

    @property
    def hashes(self) -> dict[str, str]:
        """Attribute -> its hash; ``OUTSIDE`` for attributes that the catalogue does not list."""
        outside = self.default.meaning() if self.default else _meaning(self.get(OUTSIDE))
        return {OUTSIDE: _hash(outside)} | {name: _hash(_meaning(a)) for name, a in self.attributes.items()}


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
