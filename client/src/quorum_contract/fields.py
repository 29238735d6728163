# SPDX-License-Identifier: Apache-2.0
"""Join named fields, such as query and title, to one TEXT, and split such a TEXT again."""

from __future__ import annotations

import re
from collections.abc import Mapping

from quorum_contract.errors import InvalidRequest
from quorum_contract.tensors import TEXT

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LINE = re.compile(r"([a-z][a-z0-9_]{0,31}): (.*)")


def one_line(text: str) -> str:
    """Join the text's words by single spaces: a text of others must not add lines to what it is put into."""
    return " ".join(text.split())


def join_fields(fields: Mapping[str, str]) -> str:
    """Return a TEXT of one line ``name: value`` per field, in their order; empty fields are left out.

    Raises:
        InvalidRequest: A name that is not a-z, 0-9 and "_", a value that is no str, or no field with text.
    """
    lines = []
    for name, value in fields.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidRequest(f"{TEXT}: field {name!r}; name fields by up to 32 of a-z, 0-9 and _")
        if not isinstance(value, str):
            raise InvalidRequest(f"{TEXT}: field {name!r} is a {type(value).__name__}; give a str")
        if line := one_line(value):
            lines.append(f"{name}: {line}")
    if not lines:
        raise InvalidRequest(f"{TEXT}: no field has text; give at least one of {', '.join(fields) or 'some'}")
    return "\n".join(lines)


def split_fields(text: str) -> dict[str, str]:
    """Inverse of :func:`join_fields`; empty for a text with a line of another form, or a repeated name."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or found[1] in fields:
            return {}
        fields[found[1]] = found[2]
    return fields
