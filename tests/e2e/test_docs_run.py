# SPDX-License-Identifier: Apache-2.0
"""The README's block "Use it" and the tutorial run as they stand, in a fresh copy, on the demo's LLMs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from support import docs
from support.docs import ROOT

pytestmark = pytest.mark.skipif(
    not os.environ.get("QUORUM_LONG"), reason="long form: QUORUM_LONG=1 scripts/test"
)
COPIED = ("README.md", "deploy.yaml", "examples", "model_repository")
SET_UP = ("apt-get ", "make ")
LONGEST_S = 1200


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A copy of what the commands need, with the environment that `make setup` makes."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def run(script: str, folder: Path) -> str:
    """Run a script in a shell of its own, as a person's: an error ends it, and its jobs with it."""
    ports = dict(zip(("8001", "8002"), map(str, free_ports(2)), strict=True))
    script = re.sub(r"\b800[12]\b", lambda found: ports[found[0]], script)
    deploy = folder / "deploy.yaml"
    deploy.write_text(
        re.sub(r"\b800[12]\b", lambda found: ports[found[0]], deploy.read_text("utf-8")), "utf-8"
    )
    whole = f"set -emx; trap 'kill %1 2>/dev/null || true; wait' EXIT\n{script}"
    environment = {name: value for name, value in os.environ.items() if name != "QUORUM_ADMIN_KEY"}
    done = subprocess.run(
        ["bash", "-c", whole],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(LONGEST_S + 60)
def test_the_readme_runs(fresh: Path) -> None:
    (block,) = [block for block in docs.blocks("README.md", "sh") if "quorum up" in block.text]
    python = [block.text for block in docs.blocks("README.md", "python")]
    programs = "".join(f".venv/bin/python - <<'PROGRAM'\n{text}PROGRAM\n" for text in python)
    printed = run(f"{block.text}{programs}.venv/bin/quorum status\nkill %1\nwait\n", fresh)
    assert "color" in printed
    assert (fresh / "answers.csv").read_text("utf-8").count("\n") == 201


@pytest.mark.timeout(LONGEST_S + 60)
def test_the_tutorial_runs(fresh: Path) -> None:
    parts = [
        f"python - <<'PROGRAM'\n{block.text}PROGRAM\n" if block.language == "python" else block.text
        for block in docs.blocks("docs/tutorial.md", "sh", "python")
        if not block.text.startswith(SET_UP)
    ]
    printed = run("".join(parts), fresh)
    assert re.search(r"^2\ncolor blue ", printed, re.M), printed
