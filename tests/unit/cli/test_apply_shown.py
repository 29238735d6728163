# SPDX-License-Identifier: Apache-2.0
"""What `quorum apply` says of what it does not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import quorum
from quorum.operations import apply as module
from quorum.operations.apply import ApplyReport, changes_of
from quorum.operations.describe import MisfitError
from quorum.rollout.plan_lines import ApplyPlan, PlanLine
from quorum.server.control import _without_frames

FRAMES = (
    "load failed for model 'beta': version 1 is at UNAVAILABLE state: Internal: RuntimeConfigError: no file m"
    "\n\nAt:\n  /lib/quorum/serving/member.py(70): _start\n  /lib/model.py(12): initialize\n;"
)


@pytest.mark.parametrize(("lines", "said"), [((), 1), ((PlanLine("member beta", "added"),), 1)])
def test_a_dry_run_says_one_thing(
    run: Any, monkeypatch: pytest.MonkeyPatch, lines: tuple[PlanLine, ...], said: int
) -> None:
    report = ApplyReport({"localhost:1": ApplyPlan(lines, planned=True)})
    monkeypatch.setattr(quorum, "apply", lambda *_, **__: report, raising=False)
    code, _, err = run("apply", "--dry-run")
    assert code == 0
    assert len(err.splitlines()) == said
    assert ("nothing was changed" in err) is bool(lines)


def test_a_changed_section_is_shown_by_its_keys() -> None:
    assert changes_of("server.metrics", None, {"host": "::"}) == ["server.metrics added"]
    assert changes_of("server.metrics", {"host": "::"}, None) == ["server.metrics removed"]
    before, after = {"host": "a", "port": 1}, {"host": "a", "port": 2}
    assert changes_of("server.metrics", before, after) == ["server.metrics.port 1 -> 2"]
    assert changes_of("server.grpc_port", 8001, 9001) == ["server.grpc_port 8001 -> 9001"]


def test_files_are_checked_before_a_server_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_check_settings", lambda _: ())
    monkeypatch.setattr(module, "find_running", lambda _: object())
    (folder / "votes.jsonl").unlink()
    with pytest.raises(MisfitError, match=r"votes\.jsonl does not exist"):
        module.apply(quorum.load_deployment(folder / "deploy.yaml"), dry_run=True)


def test_the_frames_of_a_failed_load_are_left_out() -> None:
    assert _without_frames(FRAMES).endswith("RuntimeConfigError: no file m")
    assert _without_frames(f"{FRAMES}\n{FRAMES}").endswith("no file m; " + _without_frames(FRAMES))
    assert _without_frames("At: noon") == "At: noon"


def test_callers_are_listed_in_80_columns(run: Any, folder: Path) -> None:
    with (folder / "deploy.yaml").open("a", encoding="utf-8") as file:
        file.write("\ngateway: {grpc_port: 0}\ncurrency: EUR\n")
    limits = ("--requests-per-minute", 600, "--requests-per-day", 10_000, "--cost-per-day", 5)
    assert run("gateway", "keys", "add", "shop", *limits)[0] == 0
    code, out, _ = run("gateway", "keys", "list")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    (line,) = (line for line in out.splitlines() if "shop" in line)
    assert "0 of 600" in line
    assert "unknown" in line


def test_without_a_deployment_init_is_named(run: Any, folder: Path) -> None:
    (folder / "deploy.yaml").unlink()
    code, _, err = run("ask", "a shirt")
    assert code == 1
    assert "deploy.yaml: No such file or directory; name the file with --deploy, or write one" in err
    assert "`quorum init`" in err
