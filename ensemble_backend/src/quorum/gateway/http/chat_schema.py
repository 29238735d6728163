# SPDX-License-Identifier: Apache-2.0
"""Answers in the form of a caller's JSON schema: its properties are attributes, with types for their values.

Members are asked by names alone, so an ``enum`` or a ``description`` says nothing to them: their answers are
fitted to the schema afterwards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quorum_client.errors import InvalidRequest
from quorum_contract import MAX_ATTRIBUTES, NOT_APPLICABLE
from quorum_contract.errors import QuorumError

_MOST_REFERENCES, _MOST_VARIANTS = 8, 64
# Parts that are large may be referred to again and again. Characters that are read, and what each value adds.
_MOST_READ, _PER_VALUE = 1_000_000, 8
_SCALARS = ("string", "number", "integer", "boolean")
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
_OTHER_SIGNS = str.maketrans("_-", "  ")


class SchemaMisfit(QuorumError, ValueError):
    """A value cannot be written as the schema demands."""

    code = "SCHEMA_MISFIT"


@dataclass(frozen=True, slots=True)
class Property:
    """How the value of one attribute is written.

    Attributes:
        name: Of the property.
        attribute: That is asked.
        types: JSON types that it may have.
        choices: The only values that it may have; None: any.
        items: Of an array: "string", or "object" for spans.
    """

    name: str
    attribute: str
    types: frozenset[str] = frozenset(["string", "null"])
    choices: tuple[Any, ...] | None = None
    items: str = "string"

    def write(self, value: str | None) -> Any:
        """The JSON value of a decided value; None: none was decided.

        Raises:
            SchemaMisfit: The schema has no place for it.
        """
        if value is None and not self._takes_null:
            raise SchemaMisfit(f"{self.name}: no value was decided, and the schema does not take null")
        if value is None or value == NOT_APPLICABLE:
            return self._nothing()
        if "array" in self.types:
            return _array(value, self.items)
        if self.choices is not None:
            matching = [choice for choice in self.choices if _folded(choice) == _folded(value)]
            if matching:
                return matching[0]
            if self._takes_null:
                return None
            raise SchemaMisfit(f"{self.name}: {value!r} is none of the schema's values")
        for kind in _SCALARS:
            if kind in self.types and (written := _scalar(value, kind)) is not None:
                return written
        if self._takes_null:
            return None
        raise SchemaMisfit(f"{self.name}: {value!r} is no {' or '.join(sorted(self.types))}")

    @property
    def _takes_null(self) -> bool:
        return "null" in self.types

    def _nothing(self) -> Any:
        """What stands for *the text does not say*."""
        if self._takes_null:
            return None
        if "array" in self.types:
            return []
        if self.choices is not None:
            for choice in self.choices:
                if isinstance(choice, str) and _folded(choice) == NOT_APPLICABLE:
                    return choice
        elif "string" in self.types:
            return NOT_APPLICABLE
        raise SchemaMisfit(f'{self.name}: the text does not say, and the schema takes neither null nor "n/a"')


class _Root:
    """A whole schema, and how much of it may be read yet."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._left = _MOST_READ

    def read(self, *values: Any) -> None:
        """Count values, or lists of them, that are read once more.

        Raises:
            InvalidRequest: It was too much.
        """
        for value in values:
            several = value if isinstance(value, list) else [value]
            self._left -= sum(_PER_VALUE + (len(one) if isinstance(one, str) else 0) for one in several)
        if self._left < 0:
            raise InvalidRequest(
                "response_format: the schema is too large, or refers to large parts too often; ask in parts"
            )


def properties_of(schema: Any, catalogue: Sequence[str]) -> list[Property]:
    """The attributes that a JSON schema asks for.

    A name that is not in the catalogue is that of an attribute whose name differs by case, ``_`` and ``-``
    only, else an open attribute.

    Raises:
        InvalidRequest: It is no object of flat properties.
    """
    root = _Root(schema if isinstance(schema, Mapping) else {})
    top = _resolved(root.schema, root)
    given = top.get("properties")
    if not isinstance(given, Mapping) or not given:
        raise InvalidRequest("response_format: the schema has no properties; each names an attribute")
    if len(given) > MAX_ATTRIBUTES:
        raise InvalidRequest(
            f"response_format: {len(given)} properties, the limit is {MAX_ATTRIBUTES}; ask in two calls"
        )
    names = {_folded(name): name for name in catalogue}
    properties = []
    for name, part in given.items():
        attribute = str(name) if name in catalogue else names.get(_folded(name), str(name))
        properties.append(_property(str(name), attribute, part, root))
    return properties


def _property(name: str, attribute: str, part: Any, root: _Root) -> Property:
    where = f"response_format: property {name!r:.80}"
    variants = _variants(part, root, where)
    types: set[str] = set()
    choices: list[Any] = []
    is_open, items = False, "string"
    for variant in variants:
        named = _types_of(variant)
        if "object" in named or named - {*_SCALARS, "null", "array"}:
            raise InvalidRequest(f"{where} is an object; an attribute is a string, number, boolean or array")
        types |= named
        if "array" in named:
            items = _items(variant, root, where)
        if "enum" in variant or "const" in variant:
            values = variant.get("enum", [variant.get("const")])
            if not isinstance(values, list):
                raise InvalidRequest(f"{where}: enum is no list")
            if any(isinstance(one, list | dict) for one in values):
                raise InvalidRequest(
                    f"{where}: enum has objects or lists; values are strings, numbers, booleans"
                )
            choices += values
        else:
            is_open = is_open or named != {"null"}
    if types <= {"null"}:
        raise InvalidRequest(f"{where} can only be null; give it another type")
    if choices and "null" in types and None not in choices:
        choices.append(None)
    limited = None if is_open or not choices else tuple(choices)
    return Property(name, attribute, frozenset(types), limited, items)


def _variants(part: Any, root: _Root, where: str) -> list[Mapping[str, Any]]:
    """The schemas that a value may fit, without references and unions."""
    alternatives: list[Mapping[str, Any]] = []
    waiting = [part]
    # Unions of references can be many times as large as the schema.
    for _ in range(_MOST_VARIANTS):
        if not waiting:
            return alternatives
        given = waiting.pop()
        if not isinstance(given, Mapping):
            raise InvalidRequest(f"{where} is no schema")
        resolved = _resolved(given, root)
        parts = next((resolved[key] for key in ("anyOf", "oneOf", "allOf") if key in resolved), None)
        if parts is None:
            root.read(resolved.get("enum"), resolved.get("const"), resolved.get("type"))
            alternatives.append(resolved)
        elif not isinstance(parts, list) or ("allOf" in resolved and len(parts) != 1):
            raise InvalidRequest(f"{where}: allOf of several schemas; write one")
        else:
            if len(waiting) + len(parts) > _MOST_VARIANTS:
                break
            waiting += parts
    raise InvalidRequest(f"{where} has more than {_MOST_VARIANTS} variants; write fewer")


def _resolved(part: Mapping[str, Any], root: _Root) -> Mapping[str, Any]:
    """A schema, or the one within the root that it refers to."""
    for _ in range(_MOST_REFERENCES):
        reference = part.get("$ref")
        if reference is None:
            return part
        root.read(reference)
        target: Any = root.schema
        for key in str(reference).removeprefix("#").strip("/").split("/"):
            target = target.get(key) if isinstance(target, Mapping) and key else None
        if not isinstance(target, Mapping) or not str(reference).startswith("#/"):
            raise InvalidRequest(f"response_format: $ref {reference!r:.80} is not in the schema")
        part = target
    raise InvalidRequest("response_format: $ref refers to itself")


def _types_of(variant: Mapping[str, Any]) -> set[str]:
    named = variant.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list) and named:
        return {str(one) for one in named}
    values = variant.get("enum", [variant["const"]] if "const" in variant else [])
    if not isinstance(values, list) or not values:
        return {"string", "null"}
    return {"null" if v is None else "boolean" if isinstance(v, bool) else
            "string" if isinstance(v, str) else "number" for v in values}  # fmt: skip


def _items(variant: Mapping[str, Any], root: _Root, where: str) -> str:
    """What an array holds: texts, or spans as objects with ``text`` and ``type``."""
    for item in _variants(variant.get("items", {}), root, where):
        named = _types_of(item)
        if "object" in named:
            fields = item.get("properties")
            if not isinstance(fields, Mapping) or fields.keys() != {"text", "type"}:
                raise InvalidRequest(f"{where}: objects in an array are spans, with text and type")
            return "object"
        if "string" not in named:
            raise InvalidRequest(f"{where}: an array of {', '.join(named)}; values are strings")
    return "string"


def _array(value: str, items: str) -> list[Any]:
    """The values of an attribute with many, or its spans."""
    try:
        entries = json.loads(value)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        entries = [value]
    if items == "string":
        return [entry[0] if isinstance(entry, list) and entry else str(entry) for entry in entries]
    spans = [entry for entry in entries if isinstance(entry, list) and len(entry) == 2]
    if len(spans) < len(entries):
        raise SchemaMisfit(f"{value!r} has no spans")
    return [{"text": text, "type": kind} for text, kind in spans]


def _scalar(value: str, kind: str) -> Any:
    """A value as a JSON type; None: it is none of that type."""
    if kind == "string":
        return value
    if kind == "boolean":
        return _BOOLEANS.get(value.casefold())
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    if number.is_integer() and abs(number) < 1 << 53:
        return int(number)
    return None if kind == "integer" else number


def _folded(value: Any) -> str:
    return " ".join(str(value).casefold().translate(_OTHER_SIGNS).split())
