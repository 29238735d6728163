# SPDX-License-Identifier: Apache-2.0
"""The making of environments: what fails later never destroys what works."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SETUP = Path(__file__).parents[3] / "scripts" / "setup.py"


@pytest.fixture
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quorum_setup", SETUP)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Broken(Exception):
    """An install that failed."""


@pytest.fixture
def env(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An environment whose making is counted instead of done."""
    made: list[str] = []
    environment = setup.Environment(tmp_path / "venv")

    def create() -> None:
        made.append("new")
        environment.python.parent.mkdir(parents=True, exist_ok=True)
        environment.python.touch()
        (environment.folder / ".quorum-partial").touch()

    monkeypatch.setattr(environment, "create", create)
    environment.made = made
    environment.file = tmp_path / "requirements.txt"
    environment.file.write_text("a==1")
    return environment


def fail(_: Any) -> None:
    raise Broken


def work(environment: Any) -> None:
    environment.made.append("installed")


def test_a_stage_is_done_once(env: Any) -> None:
    env.ensure("run", [env.file], work)
    env.ensure("run", [env.file], work)
    assert env.made == ["new", "installed"]
    env.file.write_text("a==2")
    env.ensure("run", [env.file], work)
    assert env.made == ["new", "installed", "installed"]


def test_what_fails_at_first_is_made_anew(env: Any) -> None:
    with pytest.raises(Broken):
        env.ensure("run", [env.file], fail)
    env.ensure("run", [env.file], work)
    assert env.made == ["new", "new", "installed"]


def test_a_later_stage_that_fails_leaves_what_works(env: Any) -> None:
    env.ensure("run", [env.file], work)
    with pytest.raises(Broken):
        env.ensure("dev", [env.file], fail)
    env.ensure("run", [env.file], work)
    assert env.made == ["new", "installed"]
    env.ensure("dev", [env.file], work)
    assert env.made == ["new", "installed", "installed"]


def test_an_update_that_fails_is_tried_again_even_if_taken_back(env: Any) -> None:
    env.ensure("run", [env.file], work)
    env.file.write_text("a==2")
    with pytest.raises(Broken):
        env.ensure("run", [env.file], fail)
    env.file.write_text("a==1")
    env.ensure("run", [env.file], work)
    assert env.made == ["new", "installed", "installed"]
