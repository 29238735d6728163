# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document is valid, and says what its paths take and give."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from support.http_half import gateway_of

from quorum.gateway.http.openapi import document_of
from quorum.gateway.http.routes import paths_of


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    async def make() -> dict[str, Any]:
        async with gateway_of(tmp_path_factory.mktemp("openapi")) as gateway:
            return document_of(paths_of(gateway))

    return asyncio.run(make())


def test_it_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_every_path_says_how_it_answers(document: dict[str, Any]) -> None:
    assert set(document["paths"]) >= {"/v1/extract", "/v1/chat/completions", "/v2/models/{channel}/infer"}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert "200" in operation["responses"], path
            assert (operation.get("security") == []) is ("health" in path or path.endswith("ready")), path


def test_attributes_are_described_where_they_stand(document: dict[str, Any]) -> None:
    found = document["components"]["schemas"]["ExtractRequest"]
    assert found["properties"]["lazy"]["description"].startswith("Ask members in rows")
    assert "Attributes:" not in str(document["components"]["schemas"])
    undescribed = [
        name for name, schema in document["components"]["schemas"].items() if not schema.get("description")
    ]
    assert undescribed == []
