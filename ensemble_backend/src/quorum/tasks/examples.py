# SPDX-License-Identifier: Apache-2.0
"""Check the worked examples of an attribute: a prompt must not show an answer that would not be read."""

from __future__ import annotations

from quorum.tasks.attribute import Attribute, CatalogueError
from quorum.tasks.kinds import kind_of, read
from quorum_contract.fields import split_fields


def check_examples(attribute: Attribute) -> None:
    """Read each example as a vote is read.

    Raises:
        CatalogueError: An answer is not allowed, is no part of its text, or is too long; or a text is made of
            fields that the attribute does not have.
    """
    for number, (text, answer) in enumerate(attribute.examples, 1):
        place = f"attribute {attribute.name!r}: examples[{number - 1}]"
        found = split_fields(text) if attribute.fields or "\n" in text else {}
        if attribute.fields and (unknown := [name for name in found if name not in attribute.fields]):
            raise CatalogueError(
                f"{place}: {unknown[0]!r} is no field of it; its fields are {', '.join(attribute.fields)}"
            )
        if found and not attribute.fields:
            raise CatalogueError(f"{place}: the text is made of fields; name them as `fields`")
        # An LLM may write a whole number without quotes.
        plain = str(answer) if isinstance(answer, int) and not isinstance(answer, bool) else answer
        if read(attribute, plain, text) is None:
            raise CatalogueError(f"{place}: {answer!r:.80} {kind_of(attribute).wanted(attribute)}")
