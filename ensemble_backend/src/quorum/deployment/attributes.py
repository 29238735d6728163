# SPDX-License-Identifier: Apache-2.0
"""The schema of the catalogue in ``deploy.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from quorum.deployment.strict import Strict, error_at, one_of
from quorum.tasks.attribute import Attribute, CatalogueError, Example, Kind
from quorum.tasks.default import Default
from quorum.tasks.examples import check_examples
from quorum.tasks.kinds import MAX_TEXT_CHARS, MOST_TEXT_CHARS
from quorum.tasks.normalise import NORMALISERS
from quorum_contract import MAX_ATTRIBUTE_BYTES, InvalidRequest
from quorum_contract.checks import check_name
from quorum_contract.fields import join_fields

Normaliser = Annotated[str, one_of("normaliser", [*NORMALISERS])]


class ExampleSpec(Strict):
    """A worked example for prompts.

    Attributes:
        text: Of a product; of an attribute with ``fields`` a mapping of them.
        answer: As the attribute's kind has it: a value, a list of values, of spans, or a text.
    """

    text: str | dict[str, str]
    answer: Any


class AttributeSpec(Strict):
    """One attribute of the catalogue, as in :class:`quorum.tasks.attribute.Attribute`.

    ``allow_na`` is false by default for kind ``label``, and true for the others.
    """

    kind: Kind = "value"
    question: str = ""
    values: list[str] = Field(default_factory=list)
    synonyms: dict[str, str] = Field(default_factory=dict)
    normaliser: Normaliser = "text"
    many: bool = False
    allow_na: bool | None = None
    only: list[str] = Field(default_factory=list)
    fields: list[str] = Field(default_factory=list)
    instructions: str = ""
    examples: list[ExampleSpec] = Field(default_factory=list)
    max_chars: Annotated[int, Field(ge=1, le=MOST_TEXT_CHARS)] = MAX_TEXT_CHARS

    def named(self, name: str) -> Attribute:
        """The attribute in the form that the serving code uses."""
        given = {field for e in self.examples if not isinstance(e.text, str) for field in e.text}
        if unknown := sorted(given.difference(self.fields)):
            raise CatalogueError(
                f"attribute {name!r}: examples have the field {unknown[0]!r}, which `fields` does not name"
            )
        return Attribute(
            name,
            self.question,
            tuple(self.values),
            self.synonyms,
            self.normaliser,
            self.kind,
            self.many,
            self.allow_na,
            tuple(self.only),
            tuple(self.fields),
            self.instructions,
            tuple(
                Example(e.text if isinstance(e.text, str) else join_fields(e.text), e.answer)
                for e in self.examples
            ),
            self.max_chars,
        )


class DefaultSpec(Strict):
    """What attributes outside the catalogue are asked, as in :class:`quorum.tasks.default.Default`.

    Attributes:
        kind: Of the answer.
    """

    kind: Literal["label"] = "label"
    question: str
    values: list[str]
    synonyms: dict[str, str] = Field(default_factory=dict)
    normaliser: Normaliser = "text"
    instructions: str = ""
    grades: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _usable(self) -> DefaultSpec:
        self.made()
        return self

    def made(self) -> Default:
        """The question in the form that the serving code uses."""
        return Default(
            self.question, tuple(self.values), self.synonyms, self.normaliser, self.instructions, self.grades
        )


def check_attribute_names(attributes: Mapping[str, AttributeSpec]) -> None:
    """Raise an error at the first attribute that cannot be used, or whose name another one has."""
    folded: dict[str, str] = {}
    for name, spec in attributes.items():
        if not name.strip() or len(name.encode()) > MAX_ATTRIBUTE_BYTES:
            raise error_at(name, f"{name!r} cannot name an attribute: 1 to {MAX_ATTRIBUTE_BYTES} bytes")
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise error_at(name, f"{name!r} and {other!r} differ only in case; keep one")
        try:
            check_name(name, "attributes")
            check_examples(spec.named(name))
        except (CatalogueError, InvalidRequest) as error:
            raise error_at(name, str(error)) from error
