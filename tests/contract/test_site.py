# SPDX-License-Identifier: Apache-2.0
"""The documentation as a site: its references have everything, and it is built without a warning."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from support.docs import ROOT

import quorum.cli
from quorum.deployment.json_schema import deployment_schema


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    path = ROOT / "scripts" / "docs_reference.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_key_with_its_default_and_an_example(reference: ModuleType) -> None:
    page = reference.deploy_page()
    schema = deployment_schema()
    for section in (schema, *schema["$defs"].values()):
        for key in section.get("properties", {}):
            assert f"| `{key}` | " in page
    row = (
        "| `port` | whole number from 0 to 65535 | `8003` | Of `/metrics`; 0 means a free one. "
        "| `port: 9003` |"
    )
    assert row in page.splitlines()
    assert "## Options of runtime `openvino` { #openvinooptions }" in page
    assert "## `server.metrics` { #metricsspec }" in page


def test_the_reference_has_every_command(reference: ModuleType) -> None:
    page = reference.command_page()
    command = typer.main.get_command(quorum.cli.app)
    for name, one in command.commands.items():
        assert f"\n## `quorum {name}`\n" in page
        assert f"* [`{name}`](#quorum-{name}): {one.help.split(maxsplit=1)[0]}" in page
    assert "\n### `quorum votes merge`\n" in page
    assert "\n* `--share <str>`: Share of the products" in page


@pytest.mark.skipif(not os.environ.get("QUORUM_LONG"), reason="long form: QUORUM_LONG=1 scripts/test")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "index.html").read_text("utf-8")
    for guide in (ROOT / "docs" / "guides").glob("*.md"):
        assert (tmp_path / "guides" / guide.stem / "index.html").is_file()
        assert f'href="guides/{guide.stem}/"' in start, f"{guide.name} is not in the navigation"
