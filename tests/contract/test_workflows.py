# SPDX-License-Identifier: Apache-2.0
"""The workflows have no known weakness, and what they name is there; they never ran on GitHub."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_zizmor_finds_nothing() -> None:
    program = shutil.which("zizmor", path=str(Path(sys.executable).parent)) or shutil.which("zizmor")
    assert program, "zizmor is in requirements/dev.txt: run `make setup-dev`"
    config = ROOT / ".github" / "zizmor.yml"
    command = [program, "--offline", "-q", "--config", str(config), *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_workflows_run_is_there(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    lines = "\n".join(step["run"] for job in jobs.values() for step in job["steps"] if "run" in step)
    for script in re.findall(r"\bscripts/\w+(?:\.py)?", lines):
        assert (ROOT / script).is_file(), script
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {*re.findall(r"\bmake ([a-z-]+)", lines)} <= {*targets}


def _lines(path: Path) -> list[str]:
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    return [
        line for job in jobs.values() for step in job["steps"] for line in step.get("run", "").splitlines()
    ]


@pytest.mark.parametrize("extra", ["deploy", "cpu"])
def test_a_release_installs_its_own_wheel_with_an_extra(extra: str, tmp_path: Path) -> None:
    (line,) = (one for one in _lines(ROOT / ".github" / "workflows" / "release.yml") if f"[{extra}]" in one)
    pip = tmp_path / line.split()[0]
    pip.parent.mkdir(parents=True)
    pip.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    pip.chmod(0o755)
    (tmp_path / "dist").mkdir()
    for name in ("quorum-0.1.0", "quorum_client-0.1.0", "quorum_demo-0.1.0"):
        (tmp_path / "dist" / f"{name}-py3-none-any.whl").touch()
    done = subprocess.run(["bash", "-ec", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"dist/quorum-0.1.0-py3-none-any.whl[{extra}]"


def test_a_release_is_tried_before_it_is_published() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))["jobs"]
    assert {*jobs["publish"]["needs"]} == {"trial", "client"}
    assert all(jobs[name]["needs"] == "build" for name in ("trial", "client"))
    writing = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert writing == {"publish"}
