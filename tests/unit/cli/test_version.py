# SPDX-License-Identifier: Apache-2.0
"""``quorum --version`` names its parts, and shells complete commands and options."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import quorum

ROOT = Path(__file__).parents[3]


def test_versions_of_parts_are_those_that_are_installed(run: Any) -> None:
    code, out, _ = run("--version")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"quorum {quorum.__version__}"
    assert any(line.startswith("tritonserver ") for line in lines)
    assert f"numpy {metadata.version('numpy')}" in lines


@pytest.mark.parametrize("project", ["client", "ensemble_backend", "benchmarks", "examples/demo"])
def test_all_distributions_have_one_version(project: str) -> None:
    content = tomllib.loads((ROOT / project / "pyproject.toml").read_text("utf-8"))["project"]
    assert content["version"] == quorum.__version__
    extras = content.get("optional-dependencies", {})
    needs = [*content.get("dependencies", []), *(need for needs in extras.values() for need in needs)]
    pinned = [need for need in needs if need.startswith("quorum") and "==" in need]
    assert all(need.endswith(f"=={quorum.__version__}") for need in pinned)


def test_a_shell_completes_options_of_a_command() -> None:
    asked = {"_QUORUM_COMPLETE": "complete_bash", "COMP_WORDS": "quorum render --res", "COMP_CWORD": "2"}
    program = "import sys; sys.argv = ['quorum']; from quorum.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert {*done.stdout.split()} == {"--reset-weights"}, done.stderr
