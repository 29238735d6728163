# SPDX-License-Identifier: Apache-2.0
"""What scores say of members, and bring to methods, is shown where there are scores, and nowhere else."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.scored import scored_table
from typer.testing import CliRunner

from quorum.cli import app
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.measures import ReliabilityBin, merged
from quorum.evaluation.member_scores import auroc, gains_in_words, member_scores
from quorum.evaluation.report import report_html
from quorum.evaluation.stats import Estimate
from quorum.learning import learn
from quorum.votes import Cell, VotesTable, build_table, write_votes


def without_scores(table: VotesTable) -> VotesTable:
    return build_table(table.members, [replace(cell, scores=()) for cell in table.cells])


def test_auroc_counts_ties_half() -> None:
    scores, right = np.array([-3.0, -2.0, -2.0, -1.0]), np.array([False, True, False, True])
    assert auroc(scores, right) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert auroc(scores, ~right) == pytest.approx(1 - 3.5 / 4)
    assert auroc(np.zeros(4), right) == 0.5
    assert math.isnan(auroc(scores, np.ones(4, np.bool_)))
    assert math.isnan(auroc(np.empty(0), np.empty(0, np.bool_)))
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 9, 300).astype(float), rng.random(300) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[right] for b in scores[~right]]
    assert auroc(scores, right) == pytest.approx(np.mean(pairs))


def test_figures_of_members_by_hand() -> None:
    half, tenth = (float(np.float32(math.log(p))) for p in (0.5, 0.1))
    rows = [
        (("x", "y", None), (half, tenth, None), ("x",)),
        (("y", "x", None), (tenth, half, None), ("x",)),
        (("x", "x", None), (None, half, None), ("x",)),
        (("x", None, None), (half, None, None), ()),
    ]
    cells = [Cell(f"p{i}", "", "", "a", *row[::2], scores=row[1]) for i, row in enumerate(rows)]
    first, second, silent = member_scores(build_table("abc", cells)).values()
    assert (first.cells, first.scored, first.auroc) == (2, 0.75, 1.0)
    assert [(b.accuracy, b.cells) for b in first.reliability] == [(0.0, 1), (1.0, 1)]
    assert [b.confidence for b in first.reliability] == pytest.approx([0.1, 0.5])
    assert first.ece == pytest.approx((0.1 + 0.5) / 2)
    assert (second.cells, second.scored, second.auroc) == (3, 1.0, 1.0)
    assert (silent.cells, silent.scored, silent.auroc, silent.ece) == (0, None, None, None)
    assert list(silent.reliability) == []
    assert member_scores(build_table("abc", [replace(cell, scores=()) for cell in cells])) == {}


def test_bins_are_merged_by_mass() -> None:
    rows = [ReliabilityBin(0.1, 0.0, 1), ReliabilityBin(0.4, 0.8, 3), ReliabilityBin(0.9, 1.0, 4)]
    assert [(b.confidence, b.accuracy, b.cells) for b in merged(rows, 2)] == [
        (pytest.approx(0.325), pytest.approx(0.6), 4), (0.9, 1.0, 4),
    ]  # fmt: skip
    assert [b.confidence for b in merged(rows, 9)] == pytest.approx([0.1, 0.4, 0.9])
    assert merged([], 3) == []


def test_honest_members_are_found_honest_and_scores_bring_points() -> None:
    table = scored_table(np.random.default_rng(1), 1500, unscored=0.1)
    result = evaluate(table, ("iwmv", "em", "loglinear"))
    assert result.scores is not None
    for figures in result.scores.members.values():
        assert (figures.ece or 1.0) < 0.05
        assert (figures.auroc or 0.0) > 0.65
        assert figures.scored == pytest.approx(0.9, abs=0.03)
    assert list(result.methods) == [
        "majority", "iwmv", "em", "em_without_scores", "loglinear", "loglinear_without_na_bias",
        "loglinear_without_scores",
    ]  # fmt: skip
    assert list(result.scores.gains) == ["em", "loglinear"]
    for name, gain in result.scores.gains.items():
        plain = result.methods[f"{name}_without_scores"].accuracy
        assert gain.value == pytest.approx(result.methods[name].accuracy - plain)
        assert 0.0 < gain.low < gain.value < gain.high
    assert result.notes[-1] == gains_in_words(result.scores.gains)
    assert result.notes[-1].endswith("they make em and loglinear better")
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))["scores"]
    assert plain["gains"]["em"]["low"] > 0
    assert len(plain["members"]["m0"]["reliability"]) == 15


def test_without_scores_is_as_if_the_table_had_none() -> None:
    table = scored_table(np.random.default_rng(2), 600)
    result, bare = (evaluate(t, ("em", "loglinear")) for t in (table, without_scores(table)))
    assert "scores" not in bare.to_json()
    assert set(bare.methods) == {"majority", "em", "loglinear", "loglinear_without_na_bias"}
    for name in ("em", "loglinear"):
        assert result.methods[f"{name}_without_scores"] == bare.methods[name]
    settings = {"em": {"scores": False}}
    assert "em_without_scores" not in evaluate(table, ("em",), settings=settings).methods
    assert learn(table, "em").uses_scores


def test_words_of_gains() -> None:
    up, down, none = Estimate(0.05, 0.01, 0.09), Estimate(-0.05, -0.09, -0.01), Estimate(0.0, -0.01, 0.01)
    assert "em +5.0 points [+1.0, +9.0]; they make em better" in gains_in_words({"em": up})
    assert gains_in_words({"em": up, "loglinear": down}).endswith(
        "make loglinear worse: learn without them (`quorum learn --no-scores`)"
    )
    assert gains_in_words({"em": none}).endswith("no difference can be told")


def test_the_page_has_them_too() -> None:
    table = scored_table(np.random.default_rng(3), 300)
    result = evaluate(table, ("em",))
    text = report_html(result)
    assert "Do the members know when they are right?" in text
    assert text.count("<svg") == 4
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(drawing)
    assert result.scores is not None
    assert f"<td>{100 * (result.scores.members['m0'].auroc or 0):.1f}</td>" in text
    assert "_without_" not in text
    assert "<td>em, no scores <small>" in text
    assert "Do the members know" not in report_html(evaluate(without_scores(table), ("em",)))


def test_the_page_draws_a_line_for_every_method() -> None:
    methods = ("iwmv", "em", "loglinear", "dawid_skene")
    table = scored_table(np.random.default_rng(3), 300)
    result = evaluate(table, methods, value_counts={"colour": 9})
    assert len(result.methods) == 8
    text = report_html(result)
    for name, figures in result.methods.items():
        assert f"{result.label(name)} ({figures.confidence}): " in text


def test_the_command_fits_eighty_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    table = scored_table(np.random.default_rng(4), 300)
    write_votes(table, tmp_path / "votes.jsonl")
    write_votes(without_scores(table), tmp_path / "bare.jsonl")
    shown, bare = (
        CliRunner().invoke(app, ["evaluate", name]).stdout for name in ("votes.jsonl", "bare.jsonl")
    )
    assert max(map(len, shown.splitlines())) <= 80
    for words in ("no scores ", "AUROC", "said:right"):
        assert words in shown
        assert words not in bare
    assert shown.count("em, no scores ") == 1
    for text in (shown, bare):
        # A table may go on with a name in the next line.
        assert re.search(r"loglinear,(?: no|[^\n]*\nno) ", text)
        assert "_without_" not in text
        assert "…" not in text
