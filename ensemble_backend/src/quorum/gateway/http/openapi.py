# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document, made from the paths and their types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from quorum.gateway.http.exchange import REQUEST_ID_HEADER, TIMEOUT_HEADER
from quorum.gateway.http.routes import Path, error_type
from quorum.gateway.questions import OPEN
from quorum.gateway.routing import PRODUCT_ID_HEADER

PATH = "/openapi.json"
_ERRORS = {
    "400": "The request is no JSON, or breaks the contract",
    "401": "The key is wrong or missing",
    "403": "The caller may not do this",
    "404": "There is no such channel",
    "413": "The body is too large",
    "415": "The body is no JSON by its media type, or compressed",
    "422": "The request breaks the contract",
    "429": "The caller's quota is spent; `Retry-After` says for how long",
    "500": "The gateway failed",
    "502": "The server failed",
    "503": "The server is full or away; `Retry-After` says when to ask again",
    "504": "There was no answer in time",
}
_REFERENCE = "#/components/schemas/{name}"
_ATTRIBUTE = re.compile(r"^ {4,}(\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)


def document_of(paths: Sequence[Path]) -> dict[str, Any]:
    """The document; the types' docstrings are its descriptions."""
    kinds = [kind for path in paths for kind in (*([path.takes] if path.takes else []), *path.gives)]
    kinds += [error_type(path.form)[0] for path in paths]
    unique = list(dict.fromkeys(kinds))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REFERENCE)
    found = dict(zip(unique, schemas, strict=True))
    for schema in components.values():
        _describe(schema)
    described: dict[str, dict[str, Any]] = {}
    for path in paths:
        described.setdefault(path.path, {})[path.method.lower()] = _operation(path, found)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "quorum",
            "version": version("quorum"),
            "description": "Several LLMs answer questions about products as one, by learned weights.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": described,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: Path, schemas: dict[Any, Any]) -> dict[str, Any]:
    """One method of one path."""
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{path.method} {path.path}").strip("_").lower(),
        "summary": path.summary,
        "parameters": _parameters(path),
        "responses": {"200": _answer(path, schemas)} | _errors(path, schemas),
    }
    if path.role is None:
        operation["security"] = []
    if path.takes:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[path.takes]}},
        }
    return operation


def _parameters(path: Path) -> list[dict[str, Any]]:
    headers = {REQUEST_ID_HEADER: "Comes back with the answer, and stands in the log"}
    if path.method == "POST":
        headers[TIMEOUT_HEADER] = "Milliseconds that the answer may take, up to the longest of the deployment"
    if path.takes and path.path.startswith("/v2"):
        headers[PRODUCT_ID_HEADER] = "Id of the product, by which it always has the same channel"
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in headers.items()
    ]
    if "{channel}" in path.path:
        schema = {"type": "string", "enum": list(OPEN)}
        parameters.append({"name": "channel", "in": "path", "required": True, "schema": schema})
    return parameters


def _answer(path: Path, schemas: dict[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": path.summary}
    if path.gives:
        given = [schemas[kind] for kind in path.gives]
        schema = given[0] if len(given) == 1 else {"oneOf": given}
        answer["content"] = {
            media_type: {"schema": schema if media_type.endswith("json") else {"type": "string"}}
            for media_type in path.media_types
        }
    return answer


def _errors(path: Path, schemas: dict[Any, Any]) -> dict[str, Any]:
    if path.role is None:
        statuses = ["404", "503"] if "{channel}" in path.path else ["503"]
    else:
        statuses = list(_ERRORS) if path.takes else ["401", "403", "404", "502", "503"]
    kind, media_type = error_type(path.form)
    content = {media_type: {"schema": schemas[kind]}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses}


def _describe(schema: dict[str, Any]) -> None:
    """Move what a docstring says of its attributes to their properties."""
    text = inspect.cleandoc(schema.get("description", ""))
    summary, _, attributes = text.partition("\nAttributes:\n")
    if summary:
        schema["description"] = " ".join(summary.replace("``", "`").split())
    for name, meaning in _ATTRIBUTE.findall(attributes):
        if name in schema.get("properties", {}) and "$ref" not in schema["properties"][name]:
            line = " ".join(meaning.replace("``", "`").split())
            schema["properties"][name]["description"] = line
