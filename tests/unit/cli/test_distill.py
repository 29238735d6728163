# SPDX-License-Identifier: Apache-2.0
"""``quorum distill`` as a command: options that mean nothing, the result, a line for each stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import quorum
from quorum.cli import app
from quorum.cli.console import StepBar
from quorum.distill.run import DistillReport
from quorum.retrieval.manifest import StudentManifest
from quorum.tune.interrupts import TrainingInterrupted
from quorum.tune.loop import Step


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["distill", "judged.jsonl", "--base", "base", "--out", "out", *arguments])


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--dims", "many", "write numbers, comma-separated, such as 384,128,64"),
        ("--dims", "64,128", "the largest first"),
        ("--weights", "judge", "write task=number, such as judge=1,clicks=.3"),
        ("--weights", "sales=1", "the tasks are judge, clicks, relevance"),
        ("--position-bias", "9", "give a number from 0 to 5"),
    ],
)
def test_options_that_mean_nothing_are_refused(option: str, value: str, problem: str) -> None:
    done = run(option, value)
    assert done.exit_code == 1
    assert problem in " ".join(done.stderr.split())


def test_the_result_is_shown_and_json_for_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = {"value": 0.9, "low": 0.8, "high": None}
    part = {"64": {"pearson": figure, "auc": figure}}
    figures = {"pairs": 9, "queries": 3, "student": part, "zero_shot": part, "over_zero_shot": part}
    report = DistillReport(Path("out"), StudentManifest(dims=(64,), max_tokens=64, figures=figures), "lines")
    given: dict[str, Any] = {}

    def distill(judged: Path, base: Path, out: Path, options: Any, sources: Any, **more: Any) -> Any:
        given.update(options=options, sources=sources, **more)
        return report

    monkeypatch.setattr(quorum, "distill_student", distill, raising=False)
    done = run("--weights", "judge=1,clicks=.5", "--direct", "--clicks", "c.jsonl", "--heldout", "h.jsonl")
    assert done.exit_code == 0
    assert "0.900 [0.800, -]" in done.stdout
    assert "lines" in done.stderr
    assert given["options"].weights == {"judge": 1.0, "clicks": 0.5}
    assert given["options"].direct
    assert given["sources"].clicks == Path("c.jsonl")
    assert given["held_out"] == Path("h.jsonl")
    found = json.loads(run("--json").stdout)
    assert found["student"]["figures"]["student"]["64"]["auc"]["value"] == 0.9


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def distill(*_: Any, **__: Any) -> Any:
        raise TrainingInterrupted(3, 9)

    monkeypatch.setattr(quorum, "distill_student", distill, raising=False)
    done = run()
    assert done.exit_code == 130
    assert "interrupted after step 3 of 9, run the same command again to go on" in done.stderr


def test_each_stage_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with StepBar("teaching") as bar:
        bar(Step(1, 2, 0.25, 5, 9.0, None), "cross-encoder")
        bar(Step(1, 8, 0.5, 5, 9.0, None), "student")
    shown = capsys.readouterr().err
    assert "teaching cross-encoder" in shown
    assert "teaching student" in shown
