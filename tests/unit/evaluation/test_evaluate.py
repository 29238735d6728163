# SPDX-License-Identifier: Apache-2.0
"""Held-out figures: products stay together, gold does not leak, and the words fit the numbers."""

import itertools
import json
import os
import re
import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from quorum.decision.cell import Parameters
from quorum.decision.weights import Weights, equal_weights
from quorum.evaluation import NothingToScoreError
from quorum.evaluation.curve import learning_curve
from quorum.evaluation.draws import Spread
from quorum.evaluation.evaluate import evaluate
from quorum.evaluation.heldout import assign_folds, confusion, questions_saved
from quorum.evaluation.measures import accuracy_at, calibration_error, micro_f1, reliability
from quorum.evaluation.report import report_html
from quorum.evaluation.stats import bootstrap_means
from quorum.learning import LearnError
from quorum.learning.simulate import independent
from quorum.votes import Cell, VotesError, build_table, read_votes

SEEDS, FOLDS = (3, 5) if os.environ.get("QUORUM_LONG") else (1, 2)
"""Of the recorded votes."""


def simulated(seed, accuracy, cells=900, labelled=900, values=5):
    rng = np.random.default_rng(seed)
    codes, truth = independent(rng, cells, np.array(accuracy), values)
    rows = [
        Cell(
            f"p{i // 3}",
            "c",
            "",
            f"a{i % 3}",
            tuple(None if v < 0 else f"v{v}" for v in codes[i]),
            (f"v{truth[i]}",) if i < labelled else (),
        )
        for i in range(cells)
    ]
    return build_table([f"m{j}" for j in range(len(accuracy))], rows)


def test_calibration_error_by_hand():
    confidence = np.array([0.2, 0.2, 0.9, 0.9])
    right = np.array([False, True, True, True])
    assert calibration_error(confidence, right, bins=2) == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)
    rng = np.random.default_rng(0)
    honest = rng.random(30_000)
    assert calibration_error(honest, rng.random(30_000) < honest) < 0.015
    assert [row.cells for row in reliability(honest, honest > 0, 15)] == [2000] * 15


def test_accuracy_at_coverage_takes_ties_in_part():
    confidence = np.array([0.9, 0.9, 0.5, 0.5, 0.1])
    right = np.array([True, True, True, False, False])
    assert accuracy_at(confidence, right, 0.4) == 1.0
    assert accuracy_at(confidence, right, 0.6) == pytest.approx((2 + 0.5) / 3)
    assert accuracy_at(confidence, right, 1.0) == pytest.approx(0.6)


def test_measures_do_not_depend_on_the_order_of_rows_with_equal_confidence():
    rng = np.random.default_rng(3)
    confidence = rng.choice([0.4, 0.6, 0.6, 0.8, 1.0], 300)
    right = rng.random(300) < confidence
    for measure in (calibration_error, reliability, accuracy_at):
        first = measure(confidence, right)
        for order in (np.argsort(right), np.argsort(~right), rng.permutation(300)):
            assert measure(confidence[order], right[order]) == first
    # All confidences equal: every bin has the share that is right, so the error is their difference.
    half = np.arange(300) < 150
    assert calibration_error(np.full(300, 0.8), half) == pytest.approx(0.3)


def test_f1_by_hand():
    rows = [
        Cell("p", "", "", f"a{i}", ("x",), gold) for i, gold in enumerate([("x",), ("y",), ("n/a",), ("x",)])
    ]
    table = build_table(["m"], rows)
    assert micro_f1(table, ["x", "x", "x", "n/a"], np.arange(4)) == pytest.approx(2 * 1 / (3 + 3))
    assert micro_f1(table, ["x", "y", "n/a", "x"], np.arange(4)) == 1.0


def test_folds_keep_products_together():
    table = simulated(0, [0.9, 0.8, 0.7])
    fold = assign_folds(table.products, 5, seed=1)
    assert all(len(set(fold[table.products == p].tolist())) == 1 for p in range(table.n_products))
    assert np.bincount(fold).min() >= 150


def test_evaluate_reports_every_member_and_method():
    table = simulated(1, [0.9, 0.8, 0.75, 0.6])
    result = evaluate(table, ("em", "loglinear"), folds=3, seed=4)
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(plain["methods"]) == {"majority", "em", "loglinear", "loglinear_without_na_bias"}
    assert plain["members"]["m0"]["accuracy"] == pytest.approx(table.correct()[:, 0].mean())
    for figures in plain["methods"].values():
        assert figures["ci95"][0] <= figures["accuracy"] <= figures["ci95"][1]
        assert {
            "ece",
            "delta_best_member",
            "delta_best_member_ci95",
            "f1",
            "questions_saved",
        } <= figures.keys()
        assert figures["delta_best_member"] == pytest.approx(
            figures["accuracy"] - plain["members"]["m0"]["accuracy"]
        )
    assert plain["correlation"]["members"] == ["m0", "m1", "m2", "m3"]
    assert plain == json.loads(json.dumps(evaluate(table, ("em", "loglinear"), folds=3, seed=4).to_json()))


def test_gold_of_the_held_out_products_is_not_seen():
    """Random gold can be learned by heart and not otherwise."""
    rng = np.random.default_rng(2)
    rows = [
        Cell(f"p{i}", "", "", f"a{i % 60}", ("x", "y", "z"), (("x", "y", "z")[rng.integers(3)],))
        for i in range(1200)
    ]
    result = evaluate(build_table(["a", "b", "c"], rows), ("loglinear",))
    assert result.methods["loglinear"].accuracy == pytest.approx(1 / 3, abs=0.05)


def test_the_words_fit_the_numbers():
    clear = evaluate(simulated(3, [0.75, 0.75, 0.75, 0.75, 0.75]), ("em",))
    assert "is better than the best single member" in clear.verdict
    assert clear.methods["em"].delta_best_member_ci95[0] > 0
    useless = evaluate(simulated(4, [0.99, 0.4, 0.4]), ("em",))
    assert useless.best_member == "m0"
    assert useless.verdict.startswith(
        ("Not better than m0", "No method comes up to the best single member, m0")
    )


def test_gold_labels_limit_what_is_learned_from():
    table = simulated(5, [0.9, 0.8, 0.7])
    assert evaluate(table, ("loglinear",), gold_labels=60).gold_per_fold == 60
    assert evaluate(table, ("loglinear",)).gold_per_fold == pytest.approx(720, abs=5)
    with pytest.raises(VotesError, match="gold labels wanted"):
        evaluate(table, ("loglinear",), gold_labels=800)


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(NothingToScoreError, match="do not make 5 folds"):
        evaluate(simulated(6, [0.9, 0.8, 0.7], labelled=9), ("em",))
    with pytest.raises(LearnError, match="unknown"):
        evaluate(simulated(6, [0.9, 0.8, 0.7]), ("magic",))


def test_questions_saved_by_hand():
    rows = [Cell("p", "", "", f"a{i}", v) for i, v in enumerate([("x", "x", "y"), ("x", "y", "z")])]
    table = build_table(["a", "b", "c"], rows)
    assert questions_saved(table, equal_weights(table.members)) == pytest.approx(1 / 6)
    alone = Weights("loglinear", table.members, Parameters((3.0, 1.0, 1.0)))
    assert questions_saved(table, alone) == pytest.approx(2 / 3)


def test_learning_curve_rises():
    table = simulated(7, [0.95, 0.6, 0.6, 0.6], cells=1500)
    curve = learning_curve(table, (10, 400, 10_000))
    assert list(curve) == [10, 400]
    assert curve[400].mean >= curve[10].mean - 0.01
    assert curve[400].lowest == curve[400].highest == curve[400].mean


def test_the_report_is_one_file_with_all_figures():
    table = simulated(8, [0.9, 0.8, 0.7], cells=300)
    result = evaluate(table, ("em", "loglinear"))
    curve = {50: Spread(0.8, 0.8, 0.8), 100: Spread(0.85, 0.85, 0.85)}
    text = report_html(result, title="Shoes & <hats>", curve=curve)
    assert text.count("<svg") == 4
    assert "Shoes &amp; &lt;hats&gt;" in text
    assert not re.search(r"(src|href)=\"https?:", text)
    assert "currentColor" in text
    assert "prefers-color-scheme:dark" in text
    assert f"<td>{100 * result.methods['loglinear'].accuracy:.1f} <small>[" in text
    assert f"<td>{100 * result.methods['em'].ece:.1f}</td>" in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(drawing)
    assert text == report_html(result, title="Shoes & <hats>", curve=curve)
    assert "by the draw of the labels" not in text
    banded = report_html(result, curve={50: Spread(0.8, 0.7, 0.9), 100: Spread(0.85, 0.8, 0.9)})
    assert "by the draw of the labels" in banded
    assert banded.count("<svg") == 4


def test_names_with_dollars_are_shown_as_they_are():
    members, attribute = ("a $x_{$", "b$^$", "c\\$"), "price $\\frac$"
    cells = [
        Cell(f"p{i}", "", "", attribute, ("x" if i % 3 else "y", "x", "x"), ("x",), scores=(-0.1,) * 3)
        for i in range(60)
    ]
    result = evaluate(build_table(members, cells), ("em",))
    text = report_html(result, curve={50: Spread(0.8, 0.8, 0.8)})
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    shown = {node.text for drawing in drawings for node in ET.fromstring(drawing).iter() if node.text}
    assert {*members, f"{attribute} (60)"} <= shown


@pytest.fixture(scope="module")
def recorded(recorded_votes):
    return read_votes(recorded_votes)


@pytest.mark.data
def test_recorded_votes_calibration_and_gain_over_majority(recorded):
    results = [
        evaluate(recorded, ("loglinear",), folds=FOLDS, seed=seed).methods["loglinear"]
        for seed in range(SEEDS)
    ]
    assert np.mean([r.ece for r in results]) <= 0.05
    assert np.mean([r.delta_majority for r in results]) >= 0.01
    assert min(r.delta_majority_ci95[0] for r in results) > 0


def test_pairs_of_members_are_symmetric():
    result = evaluate(simulated(12, [0.9, 0.8, 0.7]), ("em",))
    phi = result.correlation.error_phi
    assert all(phi[i][j] == pytest.approx(phi[j][i]) for i, j in itertools.combinations(range(3), 2))


def test_a_table_that_is_drawn_in_parts_gives_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    columns, products = rng.random((500, 2)), np.repeat(np.arange(100), 5).astype(np.int32)
    whole = bootstrap_means(columns, products, 50, 0)
    drawn: list[int] = []
    monkeypatch.setattr(sys.modules["quorum.evaluation.stats"], "_DRAWN_AT_ONCE", 700)
    multinomial = np.random.Generator.multinomial

    class Counted(np.random.Generator):
        def multinomial(self, n: Any, pvals: Any, size: Any = None) -> Any:
            drawn.append(size)
            return multinomial(self, n, pvals, size)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Counted(np.random.PCG64(seed)))
    assert bootstrap_means(columns, products, 50, 0) == pytest.approx(whole, rel=1e-12)
    assert drawn == [7] * 7 + [1]


def confused(seed, cells=3000):
    """Two of four members mostly take v1 for v0: one accuracy per member cannot say so."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(cells):
        truth = int(rng.integers(3))
        wrong = [rng.random() < (0.7 if truth == 1 and j < 2 else 0.1) for j in range(4)]
        said = tuple(f"v{0 if truth == 1 and w else rng.integers(3) if w else truth}" for w in wrong)
        rows.append(Cell(f"p{i // 2}", "", "", ["closed", "open"][i % 2], said, (f"v{truth}",)))
    return build_table(list("abcd"), rows)


@pytest.mark.slow
def test_confusion_matrices_are_measured_where_the_value_set_is_closed():
    table = confused(0, 5000)
    result = evaluate(table, ("em", "dawid_skene"), value_counts={"closed": 3, "elsewhere": 4})
    plain, full = result.methods["em"], result.methods["dawid_skene"]
    assert full.by_attribute["open"] == plain.by_attribute["open"]
    assert full.by_attribute["closed"][0] > plain.by_attribute["closed"][0] + 0.02
    assert full.confidence == "posterior"
    assert any("confusion matrices for closed (em decides the other 1)" in line for line in result.notes)
    assert any("BIC prefers them to one accuracy per member for closed" in line for line in result.notes)
    assert "dawid_skene" not in result.verdict
    figures = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert figures["methods"]["dawid_skene"]["questions_saved"] is None
    assert figures["notes"] == list(result.notes)
    assert result.notes[0] in report_html(result)


def test_confusion_matrices_do_not_see_gold():
    """Wrong gold changes what is right, not what is decided."""
    table = confused(1)
    other = table.with_gold(np.arange(len(table)) % 3 == 0)
    one, two = (confusion(t, {"closed": 3})[0] for t in (table, other))
    assert one.values == two.values
    assert np.array_equal(one.confidence, two.confidence)


def test_open_value_sets_leave_confusion_matrices_out():
    result = evaluate(simulated(9, [0.9, 0.8, 0.7]), ("em", "dawid_skene"))
    assert "dawid_skene" not in result.methods
    assert any("no attribute in the votes has a closed value set" in line for line in result.notes)


@pytest.mark.parametrize("accuracy", [[0.9, 0.8], [0.9]])
def test_fewer_than_three_members_show_what_can_be_shown(accuracy):
    result = evaluate(simulated(10, accuracy), value_counts={"a0": 5})
    assert set(result.methods) == {"majority", "iwmv", "loglinear", "loglinear_without_na_bias"}
    assert "em and dawid_skene left out" in result.notes[0]
    assert f"here {len(accuracy)} did" in result.notes[0]
    assert result.notes[0] in report_html(result)


def test_no_gold_to_learn_from_leaves_loglinear_out():
    result = evaluate(simulated(11, [0.9, 0.8, 0.7]), gold_labels=0)
    assert set(result.methods) == {"majority", "iwmv", "em"}
    assert "loglinear left out" in result.notes[0]
