# SPDX-License-Identifier: Apache-2.0
"""`quorum demo` finds its code in a checkout or in a package, or says that it needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quorum.cli import demo

CODE = """
class Report:
    failed, left = 0, []
    def tables(self): return ("the table", "by attribute")
    def verdict(self): return "the verdict"
    def warning(self): return "worse on brand"
    def to_json(self): return {"rows": [], "requests": 3, "failed": self.failed}

def run(deployment, listings, report, *, note, bar):
    note(f"asked {', '.join(deployment.member_names)} about {listings}")
    Report.failed = int(listings.name == "lost.jsonl")
    return Report()
"""


@pytest.fixture
def checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with a demo of a few lines."""
    (folder / "examples/demo").mkdir(parents=True)
    (folder / "examples/demo/demo_run.py").write_text(CODE, encoding="utf-8")
    real = sys.modules.pop("demo_run", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    sys.modules.pop("demo_run", None)
    if real:
        sys.modules["demo_run"] = real


def test_without_the_demo_it_says_what_to_install(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "demo_folder", lambda: None)
    code, out, err = run("demo")
    assert (code, out) == (1, "")
    assert "examples/demo/demo_run.py" in err
    assert "the package quorum-demo is not installed; run `make setup`, or work in a checkout" in err


def test_without_a_checkout_it_runs_the_code_that_is_installed(
    checkout: Path, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installed = (checkout / "examples" / "demo").rename(tmp_path_factory.mktemp("packages") / "quorum_demo")
    monkeypatch.setattr(demo, "demo_folder", lambda: installed)
    code, _, err = run("demo")
    assert code == 0
    assert f"about {installed}/listings.jsonl" in " ".join(err.split())


def test_it_runs_the_code_of_the_checkout(checkout: Path, run: Any) -> None:
    code, out, err = run("demo")
    assert (code, out) == (0, "the table by attribute\n")
    assert "asked alpha, beta, gamma about " in err
    assert f"{checkout}/examples/demo/listings.jsonl" in "".join(err.split())
    assert "worse on brand" in err
    assert "the verdict" in err
    code, out, _ = run("demo", "--json")
    assert (code, json.loads(out)) == (0, {"rows": [], "requests": 3, "failed": 0})


def test_it_is_found_from_a_folder_below(
    checkout: Path, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    below = checkout / "examples" / "demo"
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "deploy.yaml"
    elsewhere.write_text((checkout / "deploy.yaml").read_text("utf-8"), encoding="utf-8")
    monkeypatch.chdir(below)
    assert run("demo", "-d", elsewhere)[0] == 0


def test_lost_requests_are_an_error(checkout: Path, run: Any) -> None:
    code, _, err = run("demo", "--listings", "lost.jsonl")
    assert code == 1
    assert "1 requests failed during the redeploys" in err
