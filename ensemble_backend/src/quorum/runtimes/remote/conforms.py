# SPDX-License-Identifier: Apache-2.0
"""See by an answer whether a server keeps to the JSON schema that it was sent."""

from __future__ import annotations

import json
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "array": list,
    "object": dict,
    "boolean": bool,
    "number": (int, float),
    "integer": int,
    "null": type(None),
}


def conforms(text: str, schema: dict[str, Any]) -> bool:
    """Whether a text is one JSON object with exactly the keys of the schema, and values of their types.

    Looks at ``required``, ``type`` and ``enum``, of lists at those of their elements: enough to tell a server
    that keeps schemas, whose answers never fail here, from one that ignores them.
    """
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(answer, dict) or answer.keys() != set(schema["required"]):
        return False
    return all(_fits(answer[name], part) for name, part in schema["properties"].items())


def begins(text: str) -> bool:
    """Whether a text that was cut off can be the beginning of a JSON object."""
    return text.lstrip()[:1] in ("", "{")


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    wanted = _TYPES.get(schema["type"]) if isinstance(schema.get("type"), str) else None
    if wanted is not None and not isinstance(value, wanted):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    items = schema.get("items")
    return not (isinstance(value, list) and isinstance(items, dict)) or all(_fits(v, items) for v in value)
