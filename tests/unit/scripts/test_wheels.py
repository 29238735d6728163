# SPDX-License-Identifier: Apache-2.0
"""The wheels hold all that runs outside of a checkout, and building them again gives the same files."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email import message_from_string
from pathlib import Path
from types import ModuleType

import pytest

import quorum

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "scripts"
SOURCES = {"quorum": "ensemble_backend/src", "quorum_client": "client/src"}
PROJECTS = ["client", "ensemble_backend"]
needs_long = pytest.mark.skipif("QUORUM_LONG" not in os.environ, reason="builds all wheels: QUORUM_LONG=1")
if "QUORUM_LONG" in os.environ:
    SOURCES["quorum_demo"] = "examples/demo"
    PROJECTS.append("examples/demo")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dists")
    load("build_dists").main(out, PROJECTS)
    return out


def test_the_help_builds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPTS / "build_dists.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "FOLDER" in done.stdout
    assert not [*tmp_path.iterdir()]


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as packed:
        return {*packed.namelist()}


def wheel_of(dists: Path, package: str) -> Path:
    (wheel,) = dists.glob(f"{package}-*-py3-none-any.whl")
    return wheel


def metadata_of(wheel: Path, file: str) -> str:
    (name,) = (name for name in names_in(wheel) if name.endswith(f".dist-info/{file}"))
    with zipfile.ZipFile(wheel) as packed:
        return packed.read(name).decode()


@pytest.mark.parametrize("package", SOURCES)
def test_a_wheel_holds_every_file_of_its_package(dists: Path, package: str) -> None:
    """Templates, pages, scripts, data and the entry points of Triton's backends, not only modules."""
    source = ROOT / SOURCES[package]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=source, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    prefix = "quorum_demo/" if package == "quorum_demo" else ""
    left_out = {f"quorum_demo/{name}" for name in (".gitignore", "LICENSE", "pyproject.toml")}
    wanted = {prefix + name for name in listed if (source / name).is_file()} - left_out
    found = {name for name in names_in(wheel_of(dists, package)) if ".dist-info/" not in name}
    assert found == wanted


def test_what_runs_by_its_path_is_in_the_wheel(dists: Path) -> None:
    found = names_in(wheel_of(dists, "quorum"))
    for backend in ("quorum_gate", "quorum_member", "quorum_vote", "quorum_retriever"):
        assert f"quorum/backends/{backend}/model.py" in found
    assert {"quorum/evaluation/report.html.j2", "quorum/review/web/static/index.html"} <= found


@needs_long
def test_the_wheel_of_the_demo_holds_its_models(dists: Path) -> None:
    assert "quorum_demo/models/demo-llama/openvino_model.bin" in names_in(wheel_of(dists, "quorum_demo"))


@pytest.mark.parametrize("package", SOURCES)
def test_a_wheel_says_what_it_is(dists: Path, package: str) -> None:
    wheel = wheel_of(dists, package)
    said = message_from_string(metadata_of(wheel, "METADATA"))
    assert said["Version"] == quorum.__version__
    assert said["License-Expression"] == "Apache-2.0"
    assert metadata_of(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")
    assert said.get_payload().strip(), "the text of its page"


def test_the_wheel_brings_the_command(dists: Path) -> None:
    points = ConfigParser()
    points.read_string(metadata_of(wheel_of(dists, "quorum"), "entry_points.txt"))
    assert dict(points["console_scripts"]) == {"quorum": "quorum.__main__:main"}


def test_another_build_gives_the_same_bytes(dists: Path, tmp_path: Path) -> None:
    build = load("build_dists")
    before = os.umask(0o077)
    try:
        build.main(tmp_path, ["client"])
    finally:
        os.umask(before)
    made = {*tmp_path.iterdir()}
    assert len(made) == 2
    for file in made:
        assert file.read_bytes() == (dists / file.name).read_bytes(), file.name


def test_an_sdist_has_nothing_of_the_machine_that_built_it(dists: Path) -> None:
    for sdist in dists.glob("*.tar.gz"):
        with tarfile.open(sdist) as packed:
            members = packed.getmembers()
        assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")}
        assert len({m.mtime for m in members}) == 1


@needs_long
@pytest.mark.timeout(1800)
def test_three_commands_lead_from_wheels_to_an_answer(dists: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    load("build_dists").main(again)
    digests = [
        {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in d.iterdir()} for d in (dists, again)
    ]
    assert digests[0] == digests[1]
    command = [sys.executable, SCRIPTS / "wheel_trial.py", dists]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout[done.stdout.index("\n{") :])["wrong"] == []
