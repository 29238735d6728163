# SPDX-License-Identifier: Apache-2.0
"""Name the kinds of answer of attributes, as the catalogue has them and weights record them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from quorum.decision.cell import Parameters
from quorum.decision.forms import SET_FORMS, Form

if TYPE_CHECKING:
    from quorum.decision.weights import Weights

AnswerKind = Literal["value", "label", "spans", "values", "text"]
"""One value; one of a closed list; spans of the text; several values; a text that is written anew."""
AnswerKinds = Mapping[str, AnswerKind]
"""Attribute -> kind; one that is absent has the kind "value"."""
SETTING = "kinds"
"""Setting of weights with the kinds that they were learned for, other than "value"."""
FORM_OF: Mapping[AnswerKind, Form] = MappingProxyType(
    {"value": "one", "label": "one", "spans": "spans", "values": "values", "text": "text"}
)
"""How votes of each kind combine."""
KINDS: tuple[AnswerKind, ...] = tuple(FORM_OF)
SET_KINDS: tuple[AnswerKind, ...] = tuple(kind for kind in KINDS if FORM_OF[kind] in SET_FORMS)
"""Kinds whose answers name any number of things, each of which is voted on."""


def kind_in(kinds: AnswerKinds, attribute: str) -> AnswerKind:
    """The kind of an attribute."""
    return kinds.get(attribute, "value")


def form_of(kind: AnswerKind) -> Form:
    """How votes of a kind combine."""
    return FORM_OF[kind]


def has_one_value(kind: AnswerKind) -> bool:
    """Whether one value or label answers it: votes on it agree, or do not."""
    return form_of(kind) == "one"


def is_stated(kind: AnswerKind) -> bool:
    """Whether the product's text states the answer, so that what it says of a value is evidence for it."""
    return kind == "value"


def recorded_kinds(settings: Mapping[str, Any]) -> AnswerKinds:
    """The kinds that settings of weights record; what this quorum does not know is left out."""
    stated = settings.get(SETTING)
    if not isinstance(stated, Mapping):
        return {}
    return {str(name): kind for name, kind in stated.items() if kind in KINDS}


def parameters_for(weights: Weights, attribute: str, category: str, kind: AnswerKind) -> Parameters:
    """Parameters of a cell whose answer is of a kind.

    The default of weights is that of single values: its bias of "n/a" would say how few votes keep a span,
    and its evidence what a text says. So an attribute of another form, or of another one than it was learned
    as, has equal weights without biases, and its confidence is agreement.
    """
    if is_learned(weights, attribute, category, kind):
        return weights.parameters(attribute, category)
    return Parameters((1.0,) * len(weights.members), text=False)


def is_learned(weights: Weights, attribute: str, category: str, kind: AnswerKind) -> bool:
    """Whether parameters of the weights, also their default, are for answers of this form."""
    stated = weights.settings.get(SETTING)
    learned: Any = stated.get(attribute, "value") if isinstance(stated, Mapping) else "value"
    if learned not in KINDS or form_of(learned) != form_of(kind):
        return False
    return has_one_value(kind) or weights.has_own(attribute, category)
