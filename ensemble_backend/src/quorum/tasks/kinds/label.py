# SPDX-License-Identifier: Apache-2.0
"""A label of a closed list, which the text need not state: the class of a product, or of a pair of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from quorum.tasks.kinds.base import without_limit
from quorum.tasks.kinds.value import Value

if TYPE_CHECKING:
    from quorum.tasks.attribute import Attribute


class Label(Value):
    """Kind ``label``: as a closed value, but "n/a" is an answer only where the attribute allows it."""

    name: ClassVar = "label"
    allows_na: ClassVar = False
    refusal: ClassVar = "is no label of the catalogue"

    def problem(self, attribute: Attribute) -> str:
        """A label is one of a list."""
        return without_limit(attribute) if attribute.values else "kind 'label' needs its labels as `values`"

    def describe(self, attribute: Attribute) -> str:
        """The question and the labels."""
        if attribute.question:
            return super().describe(attribute)
        return f"the label of the product. One of: {', '.join(self.schema(attribute)['enum'])}"
