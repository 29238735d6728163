# SPDX-License-Identifier: Apache-2.0
"""Every link of the documentation leads somewhere, and every block of code is one that its program takes."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import typer
import yaml
from support import docs
from support.docs import ROOT

import quorum.cli
import quorum_bench.cli.app
from quorum.deployment.json_schema import deployment_schema

OWN = ("quorum", "quorum_client", "quorum_contract", "quorum_bench")
PROGRAMS = {"quorum": quorum.cli.app, "quorum-bench": quorum_bench.cli.app.app}
HISTORY = ("docs/adr/", "benchmarks/results/")
"""Pages that say how things were: their commands are not checked."""
PLACEHOLDERS = ("...", "…")


@functools.cache
def program(name: str) -> Any:
    return typer.main.get_command(PROGRAMS[name])


def blocks(*languages: str) -> Iterator[tuple[str, docs.Block]]:
    for page in docs.pages():
        for block in docs.blocks(page, *languages):
            yield page, block


def test_the_pages_are_read() -> None:
    assert {"README.md", "docs/guides/client.md", "client/README.md"} <= {*docs.pages()}
    found = [" ".join(words) for block in docs.blocks("README.md", "sh") for words, _ in docs.commands(block)]
    assert {".venv/bin/quorum up 2>up.log", "make demo", ".venv/bin/quorum promote 2"} <= {*found}


@pytest.mark.parametrize(
    "words",
    [
        "quorum nothing",
        "quorum ask text --nothing 1",
        "quorum promote two",
        "quorum canary report --share 5%",
        "quorum-bench study nothing",
        "make nothing",
    ],
)
def test_what_there_is_not_is_refused(words: str) -> None:
    assert refused(words.split())


def test_links_lead_somewhere() -> None:
    broken = []
    for page, target, line in ((name, *link) for name in docs.pages() for link in docs.links(name)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists():
            broken.append(f"{page}:{line}: {target}: there is no {name}")
        elif anchor and anchor not in docs.anchors(path.resolve().relative_to(ROOT).as_posix()):
            broken.append(f"{page}:{line}: {target}: no heading is called {anchor}")
    assert broken == []


def problem_of(command: Any, name: str, words: list[str]) -> str:
    """What the command line would refuse; nothing is run."""
    try:
        context = command.make_context(name, list(words))
        if hasattr(command, "commands"):
            rest = [*context._protected_args, *context.args]
            if not rest and command.invoke_without_command:
                return ""
            name, found, rest = command.resolve_command(context, rest)
            with context:
                return problem_of(found, name, rest)
    except typer.Exit:
        return ""
    except Exception as error:
        return str(getattr(error, "message", error)) or type(error).__name__
    return ""


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


def refused(words: list[str]) -> str:
    name = words[0].rpartition("/")[2]
    if name in PROGRAMS:
        return problem_of(program(name), name, docs.without_redirections(words[1:]))
    if name == "make":
        unknown = [word for word in words[1:] if "=" not in word and word not in targets()]
        return f"there is no target {unknown[0]}" if unknown else ""
    return ""


def test_commands_are_ones_that_there_are() -> None:
    wrong = [
        f"{page}:{line}: {' '.join(words)}: {problem}"
        for page, block in blocks("sh", "bash", "shell", "console")
        for words, line in docs.commands(block)
        if not {*PLACEHOLDERS} & {*words} and (problem := refused(words))
    ]
    assert wrong == []


def unknown_part(words: list[str]) -> str:
    """The first command or option in a mention of a command that there is not; mentions leave parts out."""
    command = program(words[0])
    for word in words[1:]:
        commands = getattr(command, "commands", {})
        if word in commands:
            command = commands[word]
        elif word.startswith("--"):
            options = {
                option for one in [command, *commands.values()] for p in one.params for option in p.opts
            }
            options |= {option for one in [command] for p in one.params for option in p.secondary_opts}
            if word.partition("=")[0] not in options | {"--help", "--version"}:
                return word
        elif commands and command.name in (None, *PROGRAMS) and re.fullmatch(r"[a-z][a-z-]+", word):
            return word
    return ""


def test_commands_that_the_text_mentions_are_ones_that_there_are() -> None:
    wrong = []
    pages = [page for page in docs.pages() if not page.startswith(HISTORY)]
    for page, token, line in ((name, *part) for name in pages for part in docs.inline(name)):
        words = token.content.split() if token.type == "code_inline" else []
        if words[:1] and words[0] in PROGRAMS and len(words) > 1 and (problem := unknown_part(words)):
            wrong.append(f"{page}:{line}: {token.content}: {problem}")
        elif words[:1] == ["make"] and len(words) == 2 and words[1] not in targets():
            wrong.append(f"{page}:{line}: {token.content}")
    assert wrong == []


@functools.cache
def check_part() -> Callable[[Any], Any]:
    """Checks a part of ``deploy.yaml``: some of its keys."""
    schema = deployment_schema()
    return fastjsonschema.compile({k: v for k, v in schema.items() if k not in ("$schema", "required")})


def as_part(data: Any) -> dict[str, Any] | None:
    """What is written of ``deploy.yaml``; None for other YAML."""
    keys = deployment_schema()["properties"]
    if isinstance(data, dict) and data and {*data} <= {*keys}:
        return data
    if isinstance(data, list) and data and all(isinstance(one, dict) and "runtime" in one for one in data):
        return {"members": data}
    return None


def test_data_is_read() -> None:
    wrong = []
    for page, block in blocks("yaml", "yml", "json", "jsonl"):
        try:
            if block.language == "json":
                json.loads(block.text)
            elif block.language == "jsonl":
                [json.loads(line) for line in block.text.splitlines()]
            elif (part := as_part(yaml.safe_load(block.text))) is not None:
                check_part()(part)
        except (ValueError, yaml.YAMLError, fastjsonschema.JsonSchemaException) as error:
            wrong.append(f"{page}:{block.line}: {error}")
    assert wrong == []


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_python_imports_what_there_is() -> None:
    for page, block in blocks("python", "py"):
        for module, name in imports(ast.parse(block.text, f"{page}:{block.line}")):
            if module.partition(".")[0] in OWN:
                imported = importlib.import_module(module)
                assert not name or hasattr(imported, name), f"{page}:{block.line}: {module} has no {name}"


def python_of(page: str) -> str:
    """The Python of a page, one block after the other."""
    return "\n".join(block.text for block in docs.blocks(page, "python", "py"))


def test_python_uses_no_name_that_it_does_not_define(tmp_path: Path) -> None:
    """What a block uses without defining it, earlier blocks of its page define."""
    for page in docs.pages():
        if text := python_of(page):
            (tmp_path / (page.replace("/", "+") + ".py")).write_text(text, "utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not os.environ.get("QUORUM_LONG"), reason="long form: QUORUM_LONG=1 scripts/test")
def test_python_fits_the_types_of_what_it_calls(tmp_path: Path) -> None:
    for page in docs.pages():
        if text := python_of(page):
            (tmp_path / (re.sub(r"\W", "_", page) + ".py")).write_text(text, "utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--allow-untyped-defs",
        "--disable-error-code=union-attr",
    ]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
