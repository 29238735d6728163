# SPDX-License-Identifier: Apache-2.0
"""The JSON schema of ``deploy.yaml`` agrees with what reads the file; every key has an example."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml
from support.command import quorum

from quorum.deployment import DeploymentError, load_deployment
from quorum.deployment.json_schema import deployment_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "reference" / "deploy-examples.yaml"
DEPLOYMENTS = sorted([*ROOT.glob("deploy*.yaml"), *(ROOT / "examples").glob("*/deploy*.yaml")])
MEMBER = {"name": "alpha", "runtime": "replay", "options": {"votes": "votes.jsonl"}}
GOOD = {"members": [MEMBER], "attributes": {"color": {"values": ["red", "blue"]}}}


def compiled(schema: dict[str, Any]) -> Callable[[Any], Any]:
    # fastjsonschema reads drafts up to 7, in which nothing that is used here means anything else.
    return fastjsonschema.compile({key: value for key, value in schema.items() if key != "$schema"})


@functools.cache
def check() -> Callable[[Any], Any]:
    return compiled(deployment_schema())


def sections() -> dict[str, dict[str, Any]]:
    schema = deployment_schema()
    return {"Deployment": schema, **schema["$defs"]}


@pytest.mark.parametrize("path", DEPLOYMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_deployments_of_the_repository_are_valid(path: Path) -> None:
    check()(yaml.safe_load(path.read_text("utf-8")))


def with_member(**keys: Any) -> dict[str, Any]:
    return {**GOOD, "members": [{**MEMBER, **keys}]}


WRONG = {
    "an unknown key": {**GOOD, "servers": {}},
    "no members": {**GOOD, "members": []},
    "no attributes": {"members": [MEMBER]},
    "a port out of range": {**GOOD, "server": {"grpc_port": 70_000}},
    "text for a number": {**GOOD, "gate": {"max_in_flight": "many"}},
    "an unknown key of a section": {**GOOD, "vote": {"min_member": 1}},
    "an unknown runtime": with_member(runtime="onnx"),
    "an unknown option": with_member(options={"votes": "votes.jsonl", "vote": 1}),
    "an option of another runtime": with_member(options={"votes": "votes.jsonl", "base_url": "https://a/v1"}),
    "a missing option": with_member(options={}),
    "missing options": {**GOOD, "members": [{"name": "alpha", "runtime": "replay"}]},
    "an option of another type": with_member(options={"votes": 3}),
    "a share above 1": with_member(options={"votes": "votes.jsonl", "fail_share": 2}),
    "an unknown kind": {**GOOD, "attributes": {"color": {"kind": "colour"}}},
    "an unknown normaliser": {**GOOD, "attributes": {"color": {"normaliser": "none"}}},
    "the path, which is none of the keys": {**GOOD, "path": "deploy.yaml"},
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_is_refused_is_invalid(data: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "deploy.yaml"
    path.write_text(yaml.safe_dump(data), "utf-8")
    with pytest.raises(DeploymentError):
        load_deployment(path)
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check()(data)


@pytest.mark.parametrize(
    "data", [GOOD, with_member(options={"votes": "votes.jsonl", "seed": None})], ids=["smallest", "null"]
)
def test_what_is_read_is_valid(data: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "deploy.yaml"
    path.write_text(yaml.safe_dump(data), "utf-8")
    load_deployment(path)
    check()(data)


def test_every_key_is_described() -> None:
    bare = [
        f"{name}.{key}"
        for name, section in sections().items()
        for key, value in section.get("properties", {}).items()
        if not value.get("description")
    ]
    assert bare == [], "describe these under `Attributes:` in the docstrings of their classes"


def test_every_key_has_an_example_that_is_valid() -> None:
    examples = yaml.safe_load(EXAMPLES.read_text("utf-8"))
    schema = deployment_schema()
    keys = {name: set(section.get("properties", ())) for name, section in sections().items()}
    assert {name: set(each) for name, each in examples.items()} == keys, f"change {EXAMPLES.name}"
    properties = {name: section["properties"] for name, section in sections().items()}
    for name, given in examples.items():
        unsaid = {key for key, value in given.items() if value == properties[name][key].get("default")}
        assert not {key for key in unsaid if "const" not in properties[name][key]}, f"{name}: the default"
    every = {name: {"properties": each, "additionalProperties": False} for name, each in properties.items()}
    compiled({"properties": every, "$defs": schema["$defs"]})(examples)


def test_the_command_prints_it(tmp_path: Path) -> None:
    assert json.loads(quorum(tmp_path, "schema")[0]) == json.loads(json.dumps(deployment_schema()))
