# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from support.deployment import write_deployment
from typer.testing import CliRunner

from quorum.cli import app

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="package", autouse=True)
def one_tree() -> Iterator[None]:
    """Build the tree of commands once: Typer does so at every call, which takes longer than most commands."""
    tree, build = typer.main.get_command(app), typer.testing._get_command
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", lambda given: tree if given is app else build(given))
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a deployment that nobody serves."""
    write_deployment(tmp_path, {"alpha": {}, "beta": {}, "gamma": {}})
    text = (tmp_path / "deploy.yaml").read_text("utf-8")
    (tmp_path / "deploy.yaml").write_text(text.replace("grpc_port: 0", "grpc_port: 9"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUORUM_ADMIN_KEY", raising=False)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    """Run a command in ``folder``: exit code, standard output, standard error."""
    runner = CliRunner()

    def invoke(*arguments: Any) -> tuple[int, str, str]:
        result = runner.invoke(app, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"quorum {arguments} raised") from result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke
