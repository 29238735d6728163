# SPDX-License-Identifier: Apache-2.0
"""Find the kind of an attribute, and do with any attribute what its kind says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quorum.decision import answer_kinds
from quorum.tasks.kinds.base import AnswerKind
from quorum.tasks.kinds.label import Label
from quorum.tasks.kinds.many import Many
from quorum.tasks.kinds.spans import Spans
from quorum.tasks.kinds.text import Text
from quorum.tasks.kinds.value import Value

if TYPE_CHECKING:
    from quorum.tasks.attribute import Attribute
    from quorum.tasks.catalogue import Catalogue

KINDS: Mapping[answer_kinds.AnswerKind, AnswerKind] = MappingProxyType(
    {"value": Value(), "label": Label(), "spans": Spans(), "values": Many(), "text": Text()}
)


def kind_of(attribute: Attribute) -> AnswerKind:
    """The kind of an attribute's answer."""
    return KINDS[attribute.answer_kind]


def answer_schema(catalogue: Catalogue, names: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of one answer: an object with these attributes, in this order, all required."""
    attributes = [catalogue.get(name) for name in names]
    return {
        "type": "object",
        "properties": {a.name: kind_of(a).schema(a) for a in attributes},
        "required": list(names),
        "additionalProperties": False,
    }


def read(attribute: Attribute, raw: object, text: str) -> str | None:
    """Read the decoded JSON of one answer; see :meth:`quorum.tasks.kinds.base.AnswerKind.read`."""
    return kind_of(attribute).read(attribute, raw, text)
