# SPDX-License-Identifier: Apache-2.0
"""What a caller's JSON schema asks for, and how values are written in its form."""

from __future__ import annotations

import enum
import json
import random
import tracemalloc
from typing import Any, Literal

import pytest
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field
from support.mutate import LONG, as_json, mutated, patience

from quorum.gateway.http.chat_schema import Property, SchemaMisfit, properties_of
from quorum_client import InvalidRequest

CATALOGUE = ["brand", "Battery Life", "color"]


class Colour(enum.Enum):
    RED = "Red"
    BLUE = "blue"


class Part(BaseModel):
    text: str
    type: str


class Product(BaseModel):
    brand: str
    color: Colour | None = None
    battery_life: float | None = Field(None, description="hours")
    waterproof: bool | None
    size: Literal["S", "M", "n/a"]
    tags: list[str]
    spans: list[Part]


def properties() -> dict[str, Property]:
    found = properties_of(to_strict_json_schema(Product), CATALOGUE)
    return {one.name: one for one in found}


def test_properties_are_attributes_of_the_catalogue_by_their_names() -> None:
    assert {name: found.attribute for name, found in properties().items()} == {
        "brand": "brand", "color": "color", "battery_life": "Battery Life", "waterproof": "waterproof",
        "size": "size", "tags": "tags", "spans": "spans",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("brand", "Acme", "Acme"),
        ("brand", "n/a", "n/a"),
        ("color", "red", "Red"),
        ("color", "green", None),
        ("color", "n/a", None),
        ("color", None, None),
        ("battery_life", "12", 12),
        ("battery_life", "1.5", 1.5),
        ("battery_life", "1e999", None),
        ("battery_life", "long", None),
        ("waterproof", "Yes", True),
        ("waterproof", "perhaps", None),
        ("size", "m", "M"),
        ("size", "n/a", "n/a"),
        ("tags", '["a", "b"]', ["a", "b"]),
        ("tags", "a", ["a"]),
        ("tags", "n/a", []),
        ("spans", '[["a b", "brand"]]', [{"text": "a b", "type": "brand"}]),
    ],
)
def test_a_value_is_written_as_the_schema_has_it(name: str, value: str | None, written: Any) -> None:
    found = properties()[name].write(value)
    assert (found, type(found)) == (written, type(written))


@pytest.mark.parametrize(
    ("name", "value"), [("brand", None), ("size", "XL"), ("size", None), ("tags", None), ("spans", "a")]
)
def test_what_the_schema_has_no_place_for_is_said(name: str, value: str | None) -> None:
    with pytest.raises(SchemaMisfit, match=name if value is None else value):
        properties()[name].write(value)


def schema(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


LOOP = {"$ref": "#/$defs/a"}
MANY = {"anyOf": [{"$ref": "#/$defs/b"}] * 40}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "no properties"),
        ({}, "no properties"),
        (schema(), "no properties"),
        (schema(a={"type": "object"}), "'a' is an object"),
        (schema(a={"$ref": "http://example.org/x"}), "is not in the schema"),
        (schema(a=LOOP) | {"$defs": {"a": LOOP}}, "refers to itself"),
        (schema(a=MANY) | {"$defs": {"b": MANY}}, "variants"),
        (schema(a={"anyOf": [{}] * 65}), "variants"),
        (schema(a={"enum": [["x"]]}), "enum has objects or lists"),
        (schema(a={"type": "null"}), "only be null"),
        (schema(a={"type": "array", "items": {"type": "integer"}}), "values are strings"),
        (schema(**{f"a{n}": {} for n in range(65)}), "the limit is 64"),
    ],
)
def test_a_schema_that_asks_for_no_attributes_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        properties_of(given, CATALOGUE)


LARGE = 100_000


@pytest.mark.parametrize(
    "large",
    [
        {"anyOf": [{"$ref": "#/$defs/b"}] * 20_000},
        {"enum": ["x"] * LARGE},
        {"type": ["null"] * LARGE},
        {"$ref": "#/" + "a/" * LARGE},
        {"const": "x" * LARGE},
        {"type": "array", "items": {"anyOf": [{"enum": [f"{n}" for n in range(1000)]}] * 60}},
        {"type": "array", "items": {"type": "object", "properties": {f"{n}": {} for n in range(LARGE)}}},
    ],
)
def test_a_large_schema_that_all_properties_refer_to_is_not_read_again_and_again(
    large: Any,
) -> None:
    used = {"anyOf": [{"$ref": "#/$defs/b"}] * 60}
    given = schema(**{f"a{n}": used for n in range(64)}) | {"$defs": {"b": large}}
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            properties_of(given, CATALOGUE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_damaged_schemas_are_read_or_refused() -> None:
    draw, whole = random.Random(1), to_strict_json_schema(Product)
    read = 0
    for _ in range(5_000 if LONG else 400):
        try:
            given = json.loads(as_json(mutated(draw, whole, draw.randint(1, 3))))
        except (ValueError, RecursionError):
            continue
        with patience():
            try:
                found = properties_of(given, CATALOGUE)
            except InvalidRequest:
                continue
            for one in found:
                for value in ("n/a", None, "12", '["a"]'):
                    try:
                        json.dumps(one.write(value))
                    except SchemaMisfit:
                        pass
                    else:
                        read += 1
    assert read > 100
