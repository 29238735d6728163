# SPDX-License-Identifier: Apache-2.0
"""Describe ``deploy.yaml`` as a JSON schema, for editors and for the reference in the documentation.

The schema is made from the types that read the file, descriptions from their docstrings. What depends on
several keys, such as names that must differ, only :func:`quorum.deployment.load.load_deployment` checks.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec
from pydantic import BaseModel

from quorum.deployment.attributes import AttributeSpec, DefaultSpec
from quorum.deployment.schema import Deployment, MemberSpec
from quorum.runtimes.lookup_options import ReplayOptions
from quorum.runtimes.openai_options import OpenAiOptions
from quorum.runtimes.option_base import IsolatedOptions
from quorum.runtimes.options import (
    RUNTIMES,
    EngineOptions,
    HfOptions,
    Lora,
    TensorRtLlmOptions,
)
from quorum.tasks.attribute import Attribute
from quorum.tasks.default import Default

SECTION = "#/$defs/"
_DESCRIBED_BY: Mapping[type, type] = {
    AttributeSpec: Attribute,
    DefaultSpec: Default,
    EngineOptions: HfOptions,
    TensorRtLlmOptions: HfOptions,
    OpenAiOptions: IsolatedOptions,
    ReplayOptions: IsolatedOptions,
}
"""Class -> the class whose docstring describes keys that its own does not, or describes "as in" there."""
_AS_IN = re.compile(r"As in `\w+`[,;.]? ?")
_ROLE = re.compile(r":[a-z]+:`~?([^`]*)`")
_ENTRY = re.compile(r"    (\w+): (.+)")


def deployment_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of ``deploy.yaml``; definitions are named after their classes."""
    schema = Deployment.model_json_schema(ref_template=SECTION + "{model}")
    definitions: dict[str, Any] = schema.pop("$defs")
    for model in _models(Deployment):
        described = schema if model is Deployment else definitions[model.__name__]
        _describe(described, model)
    for name in [name for name, field in Deployment.model_fields.items() if field.exclude]:
        del schema["properties"][name]
        schema["required"].remove(name)
    _, options = msgspec.json.schema_components(RUNTIMES.values(), ref_template=SECTION + "{name}")
    kinds: tuple[type[msgspec.Struct], ...] = (*RUNTIMES.values(), Lora)
    for kind in kinds:
        options[kind.__name__]["additionalProperties"] = False
        _describe(options[kind.__name__], kind)
    definitions |= {name: _nullable(each) for name, each in options.items()}
    member = definitions[MemberSpec.__name__]
    member["properties"]["options"] |= {"type": "object"}
    member["allOf"] = [
        {
            "if": {"properties": {"runtime": {"const": name}}, "required": ["runtime"]},
            "then": _options_of(read_by, definitions[read_by.__name__]),
        }
        for name, read_by in RUNTIMES.items()
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "deploy.yaml",
        "$defs": dict(sorted(definitions.items())),
    }


def described_keys(kind: type) -> dict[str, str]:
    """Key -> its description, from the section ``Attributes`` of a class's docstring and of its bases."""
    texts: dict[str, str] = {}
    for described in (*inspect.getmro(kind)[:-1], *_mro_of(_DESCRIBED_BY.get(kind))):
        for name, text in _entries(inspect.cleandoc(vars(described).get("__doc__") or "")):
            known = texts.setdefault(name, text)
            if known.startswith("As in") and not text.startswith("As in"):
                texts[name] = f"{text} {_AS_IN.sub('', known).capitalize()}".strip()
    return texts


def summary(kind: type) -> str:
    """What a class's docstring says before its first section, in one paragraph."""
    text = inspect.cleandoc(vars(kind).get("__doc__") or "").split("\nAttributes:")[0]
    return _plain(text.strip())


def _options_of(kind: type, schema: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"properties": {"options": {"$ref": SECTION + kind.__name__}}}
    return options | ({"required": ["options"]} if schema.get("required") else {})


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of options, in which null counts as left out."""
    required = schema.get("required", ())
    for name, value in schema.get("properties", {}).items():
        if name not in required and {"type": "null"} not in value.get("anyOf", ()):
            shown = {key: value.pop(key) for key in ("description", "default") if key in value}
            schema["properties"][name] = {"anyOf": [value, {"type": "null"}], **shown}
    return schema


def _describe(schema: dict[str, Any], kind: type) -> None:
    schema["description"] = summary(kind)
    schema.pop("title", None)
    texts = described_keys(kind)
    for name, value in schema.get("properties", {}).items():
        value.pop("title", None)
        if name in texts:
            value["description"] = texts[name]


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if not field.exclude:
            for inner in _models_in(field.annotation):
                yield from _models(inner)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _mro_of(kind: type | None) -> tuple[type, ...]:
    return inspect.getmro(kind)[:-1] if kind else ()


def _entries(text: str) -> Iterator[tuple[str, str]]:
    _, _, section = text.partition("Attributes:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    for entry in re.split(r"\n(?=    \w)", section.rstrip()):
        if match := _ENTRY.match(entry):
            yield match[1], _plain(entry.partition(":")[2])


def _plain(text: str) -> str:
    """A text of a docstring, in one paragraph of Markdown."""
    named = _ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", text).replace("``", "`")
    return re.sub(r"\bNone\b", "null", " ".join(named.split()))
