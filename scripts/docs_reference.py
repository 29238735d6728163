# SPDX-License-Identifier: Apache-2.0
"""Write reference pages of the documentation site: ``deploy.yaml``, the command line, the Python packages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.cli import get_docs_for_click

import quorum
import quorum_client
import quorum_contract
from quorum.cli import app
from quorum.deployment.json_schema import SECTION, deployment_schema
from quorum.runtimes.options import RUNTIMES

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "reference" / "deploy-examples.yaml"
WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
}
Schema = Mapping[str, Any]
DEPLOY_HEAD = """# deploy.yaml

One file describes a deployment. `quorum validate` checks it: an error names file, line, key and fix. This
page is written from the types that read the file. Paths are relative to it; a null counts as left out.

For editors there is a [JSON schema](../deploy.schema.json): write it by `quorum schema > deploy.schema.json`,
and `# yaml-language-server: $schema=deploy.schema.json` as the first line of the file.

The smallest one answers from recorded votes:

```yaml
members:
  - {name: alpha, runtime: replay, options: {votes: votes.jsonl}}
attributes:
  color: {values: [black, white]}
```"""
COMMAND_HEAD = """# Command line

This page is written from the commands. Each says the same with `--help`."""
PYTHON_HEAD = """# Python packages

How to use them: [the client](../guides/client.md), [commands as functions](../guides/python-api.md)."""
LISTED = """::: {package}
    options:
      show_root_heading: false
      show_root_toc_entry: false
      members: {names}"""


def pages() -> dict[str, str]:
    """The path of each page, as if it lay in the repository, and its text."""
    return {
        "docs/reference/deploy-yaml.md": deploy_page(),
        "docs/reference/command-line.md": command_page(),
        "docs/reference/python.md": python_page(),
    }


def schema_text() -> str:
    """The JSON schema of ``deploy.yaml``."""
    return json.dumps(deployment_schema(), indent=1)


def deploy_page() -> str:
    """The reference of ``deploy.yaml``: a table for each section."""
    schema = deployment_schema()
    examples = yaml.safe_load(EXAMPLES.read_text("utf-8"))
    text = [
        DEPLOY_HEAD,
        "## The file",
        *table(schema, examples["Deployment"]),
    ]
    runtimes = {kind.__name__: runtime for runtime, kind in RUNTIMES.items()}
    for name in ordered(schema):
        section = schema["$defs"][name]
        title = (
            f"Options of runtime `{runtimes[name]}`" if name in runtimes else f"`{place_of(schema, name)}`"
        )
        text += [
            f"## {title} {{ #{name.lower()} }}",
            section["description"],
            *table(section, examples.get(name, {})),
        ]
    return "\n\n".join(text) + "\n"


def ordered(schema: Schema) -> list[str]:
    """Names of the sections, in the order of the file."""
    found: dict[str, None] = {}

    def visit(part: Schema) -> None:
        for name in references(part):
            if name not in found:
                found[name] = None
                visit(schema["$defs"][name])

    visit({name: value for name, value in schema.items() if name != "$defs"})
    return list(found)


def references(part: Any) -> Iterator[str]:
    """Names of the sections that a part of the schema refers to."""
    if isinstance(part, Mapping):
        if "$ref" in part:
            yield part["$ref"].removeprefix(SECTION)
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from references(inner)


def place_of(schema: Schema, name: str) -> str:
    """Where a section stands, as in ``server.metrics``."""
    if name in {kind.__name__ for kind in RUNTIMES.values()}:
        return "members[].options"
    parents = [("", schema), *((f"{name_}", part) for name_, part in schema["$defs"].items())]
    for parent, part in parents:
        for key, value in part.get("properties", {}).items():
            if name in references(value):
                many = "[]" if "items" in json.dumps(value) else ""
                named = ".NAME" if "additionalProperties" in json.dumps(value) else ""
                above = f"{place_of(schema, parent)}." if parent else ""
                return f"{above}{key}{many}{named}"
    raise KeyError(name)


def table(section: Schema, examples: Schema) -> list[str]:
    """The keys of a section."""
    rows = ["| key | type | default | meaning | example |", "|---|---|---|---|---|"]
    for key, value in section.get("properties", {}).items():
        required = key in section.get("required", ())
        default = "**required**" if required else f"`{shown(value.get('default'))}`" if plain(value) else ""
        example = f"`{key}: {shown(examples[key])}`" if key in examples else ""
        cells = [f"`{key}`", kind_of(value), default, value.get("description", ""), example]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return ["\n".join(rows)] if len(rows) > 2 else []


def plain(value: Schema) -> bool:
    """Whether the default of a key can be shown in a table."""
    return not isinstance(value.get("default"), dict) or not value["default"]


def shown(value: Any) -> str:
    """A value as YAML, in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    ).strip()
    return text.removesuffix("...").strip()


def kind_of(value: Schema) -> str:
    """The type of a key in words, with links to sections."""
    if "$ref" in value:
        name = value["$ref"].removeprefix(SECTION)
        return f"[mapping](#{name.lower()})"
    if "enum" in value:
        return "one of " + ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "anyOf" in value:
        return " or ".join(kind_of(one) for one in value["anyOf"] if one != {"type": "null"})
    if value.get("type") == "array":
        return f"list of {kind_of(value.get('items', {}))}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"mapping of text to {kind_of(inner)}" if isinstance(inner, dict) and inner else "mapping"
    limits = [
        words.format(f"{value[key]:g}" if value[key] < 1e6 else value[key])
        for key, words in LIMITS.items()
        if key in value
    ]
    return " ".join([WORDS.get(str(value.get("type")), "any value"), *limits])


def command_page() -> str:
    """The reference of the command ``quorum``."""
    command = typer.main.get_command(app)
    with typer.Context(command) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="quorum")
    _, _, text = text.partition("\n\n")
    for name, one in command.commands.items():
        # Typer cuts them off.
        first = one.help.partition("\n\n")[0].replace("\n", " ")
        link = f"* [`{name}`](#quorum-{name}): {first}"
        text = re.sub(rf"^\* `{name}`: .*$", lambda _, link=link: link, text, count=1, flags=re.M)
    # Outside of code, what looks like a tag would be one.
    parts = re.split(r"(`[^`]*`)", text)
    return f"{COMMAND_HEAD}\n\n{''.join([*map(escaped, parts)])}"


def escaped(part: str) -> str:
    """Text without tags; code as it is."""
    return part if part.startswith("`") else part.replace("<", "&lt;")


def python_page() -> str:
    """The public names of the packages, with their docstrings."""
    origins = quorum._ORIGINS  # noqa: SLF001 - the modules of its public names
    text = [
        PYTHON_HEAD,
        "## quorum_client",
        listed("quorum_client", quorum_client),
        "## quorum_contract",
        listed("quorum_contract", quorum_contract),
        "## quorum",
        *(f"::: {origins[name]}.{name}" for name in sorted(origins, key=str.casefold)),
    ]
    return "\n\n".join(text) + "\n"


def listed(package: str, module: Any) -> str:
    """A package with the names that it exports."""
    return LISTED.format(package=package, names=json.dumps(list(module.__all__)))
