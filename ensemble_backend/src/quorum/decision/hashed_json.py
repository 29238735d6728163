# SPDX-License-Identifier: Apache-2.0
"""JSON files that carry the hash of their content, laid out for people to read and compare."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

_OWN_REMEDIES = ("upgrade quorum", "keep one of them")
_NONE: Mapping[str, Collection[str]] = MappingProxyType({})
_HEAD, _TAIL = 240, 80
_flat = partial(json.dumps, ensure_ascii=False)


def with_hash(content: Mapping[str, Any], without: Mapping[str, Collection[str]] = _NONE) -> dict[str, Any]:
    """Add ``content_hash``, ``sha256:`` of the canonical JSON of the content, as the last field.

    Args:
        content: The fields.
        without: Field -> entries of it that the hash leaves out.

    Raises:
        ValueError: A value is no JSON: another type, a number that is not finite, half a surrogate pair.
    """
    hashed = {
        name: {key: entry for key, entry in value.items() if key not in without[name]}
        if name in without
        else value
        for name, value in content.items()
    }
    try:
        text = json.dumps(hashed, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # What the hash leaves out must be text too.
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        return {**content, "content_hash": "sha256:" + hashlib.sha256(text.encode()).hexdigest()}
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error


def lay_out(content: Mapping[str, Any], by_line: Collection[str]) -> str:
    """Write one field per line; those in ``by_line`` one entry per line, objects sorted by name."""
    lines = []
    for name, value in content.items():
        if name not in by_line or not value:
            text = _flat(value)
        elif isinstance(value, Mapping):
            text = _block("{}", (f"{_flat(key)}: {_flat(value[key])}" for key in sorted(value)))
        else:
            text = _block("[]", map(_flat, value))
        lines.append(f"  {_flat(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse(text: str, newest: int) -> dict[str, Any]:
    """Read the JSON object of a file with a ``schema_version`` of 1 to ``newest``.

    Raises:
        ValueError: Not JSON or too deep, a number too long, a name that stands twice, no object, or another
            version.
    """
    try:
        content = msgspec.convert(json.loads(text, object_pairs_hook=unique), dict[str, Any])
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error}); the file may be cut off") from error
    except (RecursionError, OverflowError) as error:
        raise ValueError("the JSON is nested too deeply, or a number is too large") from error
    version = content.get("schema_version")
    known = f"1 to {newest}" if newest > 1 else "1"
    if type(version) is int and version > newest:
        raise ValueError(f"schema_version is {version}, this quorum reads {known}; upgrade quorum")
    if type(version) is not int or version < 1:
        raise ValueError(f"schema_version is {version!r}, this quorum reads {known}")
    return content


def check_hash(stated: str, actual: str) -> None:
    """Raise ValueError if the hash that a file states is not that of its content."""
    if stated != actual:
        raise ValueError(f"content_hash is {stated!r}, the content's is {actual!r}: edited or damaged")


def advise(error: Exception, remedy: str) -> str:
    """Words of an error, with what to do where they do not say it themselves; short, and always text.

    What a file holds may be long, or half a surrogate pair that no terminal can print.
    """
    words = str(error).encode("utf-8", "backslashreplace").decode("utf-8")
    if len(words) > _HEAD + _TAIL:
        words = f"{words[:_HEAD]} ... {words[-_TAIL:]}"
    return words if words.endswith(_OWN_REMEDIES) else f"{words}; {remedy}"


def _block(brackets: str, entries: Iterable[str]) -> str:
    return brackets[0] + "\n    " + ",\n    ".join(entries) + "\n  " + brackets[1]


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, as ``object_pairs_hook`` of a JSON decoder; raises ValueError if a name repeats."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice!r} stands twice in one object; keep one of them")
    return found
