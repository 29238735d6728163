# SPDX-License-Identifier: Apache-2.0
"""Every exception class of the project: one base, a code of its own, a row in ``docs/errors.md``."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

from quorum_contract import DecisionStatus, Status
from quorum_contract.errors import QuorumError

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "quorum": ROOT / "ensemble_backend" / "src",
    "quorum_client": ROOT / "client" / "src",
    "quorum_contract": ROOT / "client" / "src",
    "quorum_bench": ROOT / "benchmarks" / "src",
}
ROW = re.compile(r"^\| `([A-Z_]+)` \| `(\w+)` \| (.+) \| (.+) \|$", re.MULTILINE)
BUILT_IN = {
    name
    for name, thing in vars(builtins).items()
    if isinstance(thing, type) and issubclass(thing, BaseException)
}


@functools.cache
def defined() -> dict[str, str]:
    """Exception class -> its module, read from the sources: some modules import only inside a server."""
    bases: dict[str, tuple[str, set[str]]] = {}
    for package, source in PACKAGES.items():
        for path in sorted((source / package).rglob("*.py")):
            module = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    names = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                    assert node.name not in bases or not names & BUILT_IN, f"two classes {node.name}"
                    bases.setdefault(node.name, (module, names))
    known, found = set(BUILT_IN), {}
    while more := {n: m for n, (m, names) in bases.items() if n not in known and names & known}:
        known |= more.keys()
        found |= more
    return found


@pytest.fixture(scope="module")
def classes() -> dict[str, type[BaseException]]:
    return {name: getattr(importlib.import_module(module), name) for name, module in defined().items()}


def test_the_sources_were_read() -> None:
    assert {"QuorumError", "InvalidRequest", "NoConvergenceError", "Skipped"} <= defined().keys()


def test_every_exception_derives_from_the_base(classes: dict[str, type[BaseException]]) -> None:
    assert [name for name, kind in classes.items() if not issubclass(kind, QuorumError)] == []


def test_every_exception_has_a_code_of_its_own(classes: dict[str, type[QuorumError]]) -> None:
    assert [name for name, kind in classes.items() if "code" not in vars(kind)] == []
    codes = {name: kind.code for name, kind in classes.items()}
    assert [code for code, count in Counter(codes.values()).items() if count > 1] == []
    assert [code for code in codes.values() if not re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", code)] == []


def test_the_table_of_errors_has_every_class(classes: dict[str, type[QuorumError]]) -> None:
    rows = ROW.findall((ROOT / "docs" / "errors.md").read_text("utf-8"))
    assert [code for code, count in Counter(code for code, *_ in rows).items() if count > 1] == []
    assert {code: name for code, name, *_ in rows} == {kind.code: name for name, kind in classes.items()}


def test_the_tables_of_statuses_have_every_one() -> None:
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    found = re.findall(r"^\| `([A-Z_]+)` \| (\d) \|", text, re.MULTILINE)
    assert found == [(one.name, str(one.value)) for one in (*Status, *DecisionStatus)]
