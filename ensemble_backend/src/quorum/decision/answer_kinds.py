# SPDX-License-Identifier: Apache-2.0
"""Name the kinds of answer of attributes, as the catalogue has them and weights record them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from quorum.decision.forms import Form

AnswerKind = Literal["value", "label", "spans", "values", "text"]
"""One value; one of a closed list; spans of the text; several values; a text that is written anew."""
AnswerKinds = Mapping[str, AnswerKind]
"""Attribute -> kind; one that is absent has the kind "value"."""
FORMS: tuple[Form, ...] = ("one", "spans", "values", "text")
SETTING = "kinds"
"""Setting of weights with the kinds that they were learned for, other than "value"."""
SET_KINDS: tuple[AnswerKind, ...] = ("spans", "values")
"""Kinds whose answers name any number of things, each of which is voted on."""


def kind_in(kinds: AnswerKinds, attribute: str) -> AnswerKind:
    """The kind of an attribute."""
    return kinds.get(attribute, "value")


def form_of(kind: AnswerKind) -> Form:
    """How votes of a kind combine."""
    if kind == "value" or kind == "label":
        return "one"
    return kind


def recorded_kinds(settings: Mapping[str, Any]) -> AnswerKinds:
    """The kinds that settings of weights record; what this quorum does not know is left out."""
    stated = settings.get(SETTING)
    if not isinstance(stated, Mapping):
        return {}
    known = get_args(AnswerKind)
    return {str(name): kind for name, kind in stated.items() if kind in known}
