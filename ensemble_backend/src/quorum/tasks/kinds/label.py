# SPDX-License-Identifier: Apache-2.0
"""A label of a closed list, which the text need not state: the class of a product, or of a pair of texts."""

from __future__ import annotations

from quorum.tasks.attribute import Attribute
from quorum.tasks.kinds.value import Value


class Label(Value):
    """Kind ``label``: as a closed value, but "n/a" is an answer only where the attribute allows it."""

    def describe(self, attribute: Attribute) -> str:
        """The question and the labels."""
        if attribute.question:
            return super().describe(attribute)
        return f"the label of the product. One of: {', '.join(self.schema(attribute)['enum'])}"
