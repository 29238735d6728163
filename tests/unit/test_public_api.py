# SPDX-License-Identifier: Apache-2.0
"""What ``from quorum import ...`` offers, and what ``import quorum`` costs inside the server."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import quorum

HEAVY = ("yaml", "pydantic", "typer", "click", "rich", "grpc", "jinja2", "matplotlib", "quorum_client")


@pytest.mark.parametrize("name", quorum.__all__)
def test_every_public_name_loads_and_is_documented(name: str) -> None:
    value = getattr(quorum, name)
    assert name in dir(quorum)
    assert name == "__version__" or value.__doc__


def test_type_checkers_see_the_names_that_load() -> None:
    tree = ast.parse(Path(quorum.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = {
        (statement.module, alias.name)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert declared == {(module, name) for module, names in quorum._MODULES.items() for name in names}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = quorum.nonsense  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="nonsense"):
        from quorum import nonsense  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize(
    "module", ["quorum", "quorum.serving", "quorum.serving.packing", "quorum.serving.admission"]
)
def test_the_server_pays_for_no_library_of_the_command_line(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
