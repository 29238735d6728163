# SPDX-License-Identifier: Apache-2.0
"""A merged adapter is asked about each task; one whose answers no longer parse is written, and marked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import quorum
from quorum.cli import app
from quorum.tune import merge_check
from quorum.tune.adapter_rules import MergeError
from quorum.tune.asking import TaskScore
from quorum.tune.card import Card, write_card
from quorum.tune.merge_check import MergeOptions, merge_adapters

BASE = Path("base")
# Folder -> parse shares, not guided and guided.
SHARES: dict[str, tuple[float, float]] = {
    "ner": (0.975, 1.0), "rel": (0.1, 1.0), "good": (0.925, 1.0), "bad": (0.9, 1.0),
}  # fmt: skip


def scores(name: str, task: str) -> list[TaskScore]:
    return [
        TaskScore(task, guided, 40, share, "f1", share / 2, {"f1": share / 2, "parse_share": share})
        for guided, share in zip((False, True), SHARES[name], strict=True)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two adapters and rows, where merging and asking cost nothing."""

    def asked(_: Path, adapter: Path, rows: Sequence[Any], *__: Any) -> list[TaskScore]:
        return scores(adapter.name, rows[0].attributes[0])

    def merged(adapters: Sequence[Path], base: Path, out: Path, *more: Any) -> Card:
        out.mkdir()
        card = Card(
            tasks=("entities", "relevance"), method="cat", architecture="causal", base="b", base_hash="",
            remarks=more[-1],
        )  # fmt: skip
        write_card(card, out)
        return card

    monkeypatch.setattr(merge_check, "_scores", asked)
    monkeypatch.setattr("quorum.tune.merge.merge", merged)
    for name, task in (("ner", "entities"), ("rel", "relevance")):
        (tmp_path / name).mkdir()
        write_card(
            Card(tasks=(task,), method="lora", architecture="causal", base="b", base_hash=""), tmp_path / name
        )
    row = {"text": "red shoe", "gold": {"entities": ["red"], "relevance": ["good"]}}
    (tmp_path / "gold.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def imported() -> None:
    """`quorum.tune.merge`, which is patched, needs nothing heavy before it merges."""
    import quorum.tune.merge  # noqa: F401


def checked(out: str, **options: Any) -> quorum.MergeReport:
    given = MergeOptions(method="cat", **options)
    return merge_adapters(
        [Path("ner"), Path("rel")], BASE, Path(out), given, {"entities": Path("gold.jsonl")}
    )


def test_a_task_is_compared_with_the_adapter_that_was_tuned_on_it(folder: Path) -> None:
    report = checked("good")
    assert report.passed
    free, guided = report.comparisons
    assert (free.adapter, free.parse_before, free.parse_after, free.lost) == ("ner", 0.975, 0.925, False)
    assert (free.score_before, free.score_after, free.metric) == (0.4875, 0.4625, "f1")
    assert (guided.guided, guided.parse_after) == (True, 1.0)
    card = json.loads((folder / "good" / "card.json").read_text())
    assert card["scores"]["entities"]["guided_parse_share"] == 1.0
    assert card["remarks"] == []


def test_a_task_whose_answers_no_longer_parse_is_marked_in_the_card(folder: Path) -> None:
    report = checked("bad")
    assert not report.passed
    assert [one.lost for one in report.comparisons] == [True, False]
    (remark,) = json.loads((folder / "bad" / "card.json").read_text())["remarks"]
    assert "WARNING: the merge lost the task 'entities': 90.0% of answers parse (not guided)" in remark
    assert "97.5% by ner alone" in remark


def test_a_check_that_is_interrupted_leaves_a_remark(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> list[TaskScore]:
        raise KeyboardInterrupt

    monkeypatch.setattr(merge_check, "_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checked("good")
    (remark,) = json.loads((folder / "good" / "card.json").read_text())["remarks"]
    assert "not checked yet on entities" in remark


def test_the_margin_is_a_share(folder: Path) -> None:
    assert checked("bad", margin=0.1).passed
    with pytest.raises(MergeError, match="--margin 5: give a share"):
        checked("other", margin=5.0)


def test_without_cards_the_best_adapter_counts(folder: Path) -> None:
    for name in ("ner", "rel"):
        (folder / name / "card.json").unlink()
    assert checked("good").comparisons[0].adapter == "ner"


@pytest.mark.parametrize(("out", "code"), [("good", 0), ("bad", 1)])
def test_the_command_fails_where_a_task_is_lost(folder: Path, out: str, code: int) -> None:
    arguments = ["tune", "merge", "ner", "rel", "--base", "base", "--out", out, "--method", "cat"]
    arguments += ["--check", "entities=gold.jsonl"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    assert "97.5%" in done.output
    assert ("lost" in done.output) == (code == 1)
    assert (folder / out / "card.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "entities"], "name its file: --check entities=FILE"),
        (["--weights", "1;2"], "write numbers, comma-separated"),
        (["--check", "entities=none.jsonl"], "none.jsonl: No such file"),
        (["--check", "grade=gold.jsonl"], "no row has gold for 'grade'"),
    ],
)
def test_what_the_command_cannot_do_it_says_before_it_merges(
    folder: Path, arguments: list[str], message: str
) -> None:
    given = ["tune", "merge", "ner", "rel", "--base", "base", "--out", "good", "--method", "cat", *arguments]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert not (folder / "good").exists()
