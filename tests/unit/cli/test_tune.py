# SPDX-License-Identifier: Apache-2.0
"""``quorum tune``: what is refused before any training, and what is printed after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import quorum
from quorum.cli.console import StepBar
from quorum.tune.card import Card
from quorum.tune.interrupts import TrainingInterrupted
from quorum.tune.loop import Step

BERT = {"model_type": "bert", "architectures": ["BertModel"]}
CARD = Card(
    tasks=("color",),
    method="full",
    architecture="encoder",
    base="base",
    base_hash="sha256:0",
    rows=90,
    held_out_rows=10,
    steps=9,
    best_step=6,
    scores={"color": {"accuracy": 0.9, "parse_share": 1.0}},
)


COLOR = ["color", "gold.jsonl", "--base", "base", "--out", "o"]
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


@pytest.fixture
def base(folder: Path) -> Path:
    """A folder that looks like a base model."""
    base = folder / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(BERT), encoding="utf-8")
    (base / "tokenizer.json").write_text("{}", encoding="utf-8")
    (base / "model.safetensors").write_bytes(b"weights")
    shutil.copytree(base, folder / "llm")
    (folder / "llm" / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    rows = [{"text": f"cap {number}", "gold": {"color": ["red"]}} for number in range(9)]
    (folder / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return base


def test_help_is_that_of_training(run: Any) -> None:
    code, out, _ = run("tune", "--help")
    assert code == 0
    assert "Example: quorum tune relevance gold.jsonl" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["color", "gold.jsonl"], "by --base, and the folder to make by --out"),
        (["color", "gold.jsonl", "--base", "nowhere", "--out", "o"], "nowhere/config.json: No such file"),
        (["color", "--base", "base", "--out", "o"], "name a file of gold, or a votes table"),
        (
            ["size", "gold.jsonl", "--base", "base", "--out", "o"],
            "no row has gold for 'size', only for color",
        ),
        (
            ["color", "gold.jsonl", "--base", "base", "--out", "o", "--rows", "99"],
            "but 9 rows have an answer",
        ),
        (["color", "none.csv", "--base", "base", "--out", "o"], "none.csv: No such file"),
        (
            ["color", "--from-votes", "none.jsonl", "--base", "base", "--out", "o", "--mix", "a=b.csv"],
            "--mix is for gold",
        ),
        (["color", "--mix", "size", "--base", "base", "--out", "o"], "name its file: --mix size=FILE"),
        ([*COLOR, "--mix", "size=a.csv", "--mix", "size=b.csv"], "--mix size=b.csv: size is named twice"),
        ([*COLOR, "--mix", "=a.csv"], "--mix =a.csv: names no task"),
        ([*COLOR, "--rank", "8"], "--rank is for causal LLMs, and base holds an encoder; leave it out"),
        ([*COLOR, "--prompt", "bare"], "--prompt is for causal LLMs"),
        ([*COLOR, "--no-chat"], "--chat is for causal LLMs"),
        ([*COLOR, "--no-balance"], "--balance is for causal LLMs"),
        ([*COLOR, "--weights", "w.json"], "--weights is for --from-votes"),
        ([*COLOR, "--min-confidence", "0.5"], "--min-confidence is for --from-votes"),
        ([*COLOR, "--learning-rate", "0"], "--learning-rate 0: give a number above 0"),
        ([*COLOR, "--learning-rate", "nan"], "--learning-rate nan: give a number above 0"),
        ([*COLOR, "--class-weights"], "--class-weights is for tasks of kind label, and 'color' is value"),
        ([*COLOR, "--base", "llm", "--int8"], "--int8 is for encoders, and llm holds a causal LLM"),
        ([*COLOR, "--base", "llm", "--with-category"], "--with-category is for encoders"),
        ([*COLOR, "--base", "llm", "--method", "full", "--rank", "8"], "--rank is for --method lora"),
        ([*COLOR, "--base", "llm", "--rank", "0"], "rank 0 cannot be served"),
    ],
)
def test_refusals(run: Any, base: Path, arguments: list[str], message: str) -> None:
    code, _, error = run("tune", *arguments)
    assert code == 1
    assert message in error
    assert not Path("o").exists()


def test_rows_are_named(run: Any, base: Path, folder: Path) -> None:
    with (folder / "gold.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "", "gold": {"color": ["red"]}}\n')
    code, _, error = run("tune", "color", "gold.jsonl", "--base", "base", "--out", "o")
    assert code == 1
    assert "row 10: its text is empty" in error


def test_progress_figures_and_the_lines_of_the_member(
    run: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def tune(
        found: Any, rows: Any, path: Path, catalogue: Any, out: Path, options: Any, progress: Any
    ) -> Card:
        asked.extend([rows, options])
        progress(Step(9, 9, 0.25, 40.0, 0.0, 0.9))
        return CARD

    monkeypatch.setattr("quorum.operations.tune.tune_encoder", tune)
    arguments = ["color", "gold.jsonl", "--base", "base", "--out", "made", "--epochs", "2", "--int8"]
    arguments += ["--max-tokens", "64"]
    code, out, error = run("tune", *arguments)
    assert code == 0
    assert "90.0%" in out
    assert error.index("reading rows of gold.jsonl") < error.index("loading base, to tune it on 9 answers")
    assert "90 rows trained on, 10 held out" in error
    assert "  - name: color-encoder\n    runtime: encoder\n    options: {model: made}\n" in error
    assert len(asked[0].rows) == 9
    assert (asked[1].epochs, asked[1].int8, asked[1].method, asked[1].max_tokens) == (2, True, "full", 64)
    code, out, _ = run("tune", *arguments, "--json")
    assert json.loads(out)["card"]["scores"]["color"]["accuracy"] == 0.9


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        (["a=x.csv", "a=y.csv"], "--check a=y.csv: a is named twice"),
        (["=x.csv"], "--check =x.csv: names no task"),
        (["a"], "--check a: name its file: --check a=FILE"),
    ],
)
def test_each_task_of_a_merge_is_checked_once(run: Any, checks: list[str], message: str) -> None:
    given = [word for check in checks for word in ("--check", check)]
    code, _, error = run(
        *("tune", "merge", "one", "two", "--base", "b", "--out", "o", "--method", "svd"), *given
    )
    assert code == 1
    assert message in error


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (TrainingInterrupted(7, 16), "interrupted after step 7 of 16, run the same command again to go on"),
        (KeyboardInterrupt(), "interrupted, run the same command again to go on"),
    ],
)
def test_an_interruption_is_one_line(
    run: Any, base: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, message: str
) -> None:
    def tune(*_: Any) -> Card:
        raise raised

    monkeypatch.setattr("quorum.operations.tune.tune_encoder", tune)
    code, _, error = run("tune", *COLOR)
    assert code == 130
    assert error.splitlines()[-1] == message


def test_slow_training_has_a_rate_with_a_decimal(capsys: pytest.CaptureFixture[str]) -> None:
    with StepBar("tuning") as bar:
        bar(Step(1, 2, 0.25, 0.44, 9.0, None))
    assert "0.4 rows/s" in capsys.readouterr().err


def test_it_is_a_function_too() -> None:
    assert callable(quorum.tune_member)
