# SPDX-License-Identifier: Apache-2.0
"""The study of scores: what noise changes, which votes are learned from, and tables of few votes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quorum.decision.patterns import ABSTAIN
from quorum.deployment import load_deployment
from quorum.runtimes.base import Generated
from quorum.votes import read_votes
from quorum_bench.cli import study_learning
from quorum_bench.cli.app import app
from quorum_bench.studies import score_size, score_votes, scores
from quorum_bench.studies.score_noise import KINDS, changed, log_odds, simulated, with_drawn_scores
from quorum_bench.studies.score_votes import halved, hits, learned, member_hits, statistic_of
from quorum_contract import Status

ROOT = Path(__file__).resolve().parents[3]
ACCURACY = np.linspace(0.6, 0.9, 3)


@pytest.fixture
def votes():
    return simulated(0, 80, ACCURACY)


def inputs_of(tables):
    inputs = scores.Inputs(None, Path("deploy.yaml"), None, len(tables))
    inputs.__dict__["tables"] = tables
    return inputs


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_abstentions_stay_missing_and_others_are_log_probabilities(votes, kind):
    found = changed(votes, kind, np.random.default_rng(0))
    silent = votes.codes == ABSTAIN
    assert silent.any()
    assert np.isnan(found.scores[silent]).all()
    given = found.scores[~np.isnan(found.scores)]
    assert len(given)
    assert (given <= 0).all()
    assert np.isfinite(given).all()
    assert (found.codes == votes.codes).all()


def test_noise_says_nothing_of_being_right_and_the_opposite_says_it_the_other_way_round(votes):
    def sureness(kind):
        found = changed(simulated(0, 2000, ACCURACY), kind, np.random.default_rng(0))
        answered = ~np.isnan(found.scores)
        right = member_hits(found)
        odds = log_odds(found.scores.astype(float))
        return odds[answered & right].mean() - odds[answered & ~right].mean()

    assert sureness("as given") > 1
    assert abs(sureness("independent")) < 0.1
    assert sureness("adversarial") < -1


@pytest.mark.parametrize(("kind", "column"), [("missing, one", 0), ("overconfident, one", 2)])
def test_kinds_of_one_member_leave_the_others(votes, kind, column):
    found = changed(votes, kind, np.random.default_rng(0))
    others = [j for j in range(3) if j != column]
    # Log odds and back: rounding.
    assert np.allclose(found.scores[:, others], votes.scores[:, others], atol=1e-5, equal_nan=True)
    assert not np.allclose(found.scores[:, column], votes.scores[:, column], equal_nan=True)


def test_scores_by_attribute_or_product_are_the_same_throughout_it(votes):
    by_attribute = changed(votes, "by attribute only", np.random.default_rng(0)).scores
    by_product = changed(votes, "by product only", np.random.default_rng(0)).scores
    for j in range(3):
        for of, ids in ((by_attribute, votes.groups), (by_product, votes.products)):
            seen = [set(of[ids == i, j][~np.isnan(of[ids == i, j])].tolist()) for i in range(6)]
            assert all(len(distinct) <= 1 for distinct in seen)
    assert len(set(by_attribute[~np.isnan(by_attribute)].tolist())) == 18


def test_simulated_members_are_as_right_and_as_sure_as_they_should_be():
    votes = simulated(3, 3000, ACCURACY)
    right, answered = member_hits(votes), votes.codes != ABSTAIN
    assert right.sum(axis=0) / answered.sum(axis=0) == pytest.approx(ACCURACY, abs=0.02)
    stated = np.exp(votes.scores[answered].astype(float))
    for low in (0.2, 0.5, 0.8):
        near = (stated > low) & (stated <= low + 0.2)
        assert right[answered][near].mean() == pytest.approx(stated[near].mean(), abs=0.03)
    # Candidates are numbered in the order of the members that name them.
    assert (votes.codes[answered[:, 0], 0] == 1).all()
    for row in votes.codes[:200]:
        named = sorted(set(row[row != ABSTAIN].tolist()))
        assert named == list(range(1, len(named) + 1))


def test_halves_have_no_product_in_common(votes):
    half = halved("t", votes, {}, 7)
    learn, judge = half.learn, half.judge
    assert len(learn.codes) == len(judge.codes) == len(votes.codes) // 2
    assert not set(learn.product_names) & set(judge.product_names)
    assert learn.products.max() == len(learn.product_names) - 1
    named = [learn.product_names[product] for product in learn.products]
    assert named == [votes.product_names[product] for product in votes.products[half.first]]


def test_labels_are_used_only_where_they_are_drawn(votes):
    gold = score_votes.drawn_gold(votes, 20, 0)
    assert gold.sum() == 20
    assert statistic_of(votes).hist.labelled().total == 0
    assert statistic_of(votes, gold).hist.labelled().total == 20
    assert statistic_of(votes, gold, scores=False).scored is None


def test_decisions_use_the_scores_of_votes():
    half = halved("t", simulated(1, 400, ACCURACY), {})
    weights = learned(half.learn, "em", {})
    scored = hits(half.judge, weights).mean()
    blind = hits(replace(half.judge, scores=None), weights).mean()
    assert scored > blind + 0.01


def test_a_small_table_gives_finite_rows_that_fit_the_page():
    tables = [halved(f"seed {n}", simulated(n, 60, ACCURACY), {}) for n in (1, 2)]
    inputs = inputs_of(tables)
    rows = list(scores.seeds(inputs))
    text = [scores.SEEDS_HEAD, *map(scores.seeds_line, rows), scores.seeds_summary(rows)]
    drawn = list(scores.draws(inputs, per_table=1))
    text.append(scores.draws_table(drawn))
    figures = [row[name] for row in rows for name in ("best_llm", "majority", "em", "em_scores")]
    figures += [end for row in rows for end in (*row["gain"], *row["attributes"][row["worst_attribute"]])]
    figures += [row[name] for row in drawn for name in ("loglinear", "loglinear_scores", "em_scores")]
    assert np.isfinite(figures).all()
    assert max(len(line) for part in text for line in part.splitlines()) <= 100
    assert rows[0]["em_scores"] == pytest.approx(
        100 * hits(tables[0].judge, learned(tables[0].learn, "em", {})).mean()
    )


def test_rows_of_noise_tell_the_scores_fault_from_that_of_em(monkeypatch):
    monkeypatch.setattr(scores, "KINDS", {name: KINDS[name] for name in ("as given", "constant, high")})
    monkeypatch.setattr(
        scores, "_worlds", lambda inputs: iter([("made", [halved("t", simulated(1, 60, ACCURACY), {})])])
    )
    rows = list(scores.noise(inputs_of([]), gold_draws=1))
    assert [row["kind"] for row in rows] == ["as given", "constant, high"]
    assert all(np.isfinite(row[name]).all() for row in rows for name in scores.ADDED)
    assert rows[1]["em_to_em"] == [0.0]
    shown = [scores.NOISE_HEAD, *map(scores.noise_line, rows), scores.noise_summary(rows)]
    assert max(len(line) for part in shown for line in part.splitlines()) <= 100

    def verdict(*worst):
        return scores.noise_verdict(dict(zip(scores.ADDED, ([x, 0.5] for x in worst), strict=True)))

    assert verdict(-0.2, 0.0, -0.3) == "met"
    assert verdict(-1.0, 0.0, 0.0) == "em is as low"
    assert verdict(-1.0, -1.0, 0.0) == verdict(0.0, 0.0, -0.4) == "MISSED"


def test_drawn_scores_are_those_of_the_votes_that_were_given(votes):
    drawn = with_drawn_scores(replace(votes, scores=None), np.random.default_rng(0))
    assert (np.isnan(drawn.scores) == (votes.codes == ABSTAIN)).all()


def test_sizes_are_counted_and_timed(monkeypatch):
    monkeypatch.setattr(score_size, "MEMBERS", (3,))
    monkeypatch.setattr(score_size, "_REPEATS", 1)
    (row,) = score_size.size((3000,))
    assert row["cells"] == 3000
    assert row["rows"] < row["rows_scores"] <= 3000
    (times,) = score_size.serving()
    assert times["has_offsets"]
    lines = [
        score_size.SIZE_HEAD,
        score_size.size_line(row),
        score_size.TIME_HEAD,
        score_size.time_line(times),
    ]
    assert max(len(line) for part in lines for line in part.splitlines()) <= 100


def test_each_part_is_an_option():
    assert [part.value for part in study_learning.ScoresPart] == ["seeds", "draws", "noise", "size", "equal"]


def test_parts_without_real_votes_say_so(tmp_path, monkeypatch):
    monkeypatch.delenv("QUORUM_DATA", raising=False)
    file = tmp_path / "scores.json"
    done = CliRunner().invoke(app, ["study", "scores", "--part", "equal", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "AE-110K is left out" in done.output
    assert '"result": []' in file.read_text()


class Scripted:
    """Answers every question with one value per attribute; every character is a token."""

    def __init__(self, settings):
        self.member, self.asked = settings.member, 0

    def submit(self, question, done):
        self.asked += 1
        if self.member == "demo-qwen2" and self.asked == 1:
            done(Status.TIMEOUT)
            return
        assert question.prompt.endswith(f"{question.category}\n{question.text}\n")
        text = json.dumps(dict.fromkeys(question.attributes, "n/a"), separators=(",", ":"))
        done(Generated(text, range(1, len(text) + 1), [-0.5] * len(text)))

    def close(self):
        pass


@pytest.fixture
def demo(monkeypatch):
    """The repository's deployment with scripted LLMs; the demo's modules are importable in the test only."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "demo")
    monkeypatch.setattr(score_votes, "create", Scripted)
    return ROOT / "deploy.yaml"


def test_votes_are_recorded_with_scores_and_gold(demo, tmp_path):
    (half,) = score_votes.seed_tables(tmp_path / "votes", demo, 1, products=4)
    table = read_votes(tmp_path / "votes" / "seed-1.jsonl")
    assert len(table) == 24
    assert table.members == ("demo-llama", "demo-qwen2", "demo-qwen3")
    assert table.labelled.all()
    # Three letters and the closing quote.
    assert (table.scores[6:] == np.float32(-2.0)).all()
    assert (table.codes[:6, 1] == ABSTAIN).all()
    assert np.isnan(table.scores[:6, 1]).all()
    assert half.counts["gender"] == 4
    assert {len(part.product_names) for part in (half.learn, half.judge)} == {2}


def test_recorded_votes_are_read_and_not_asked_for_again(demo, tmp_path, monkeypatch):
    first = score_votes.seed_tables(tmp_path, demo, 1, products=4)[0]
    monkeypatch.delattr(score_votes, "create")
    again = score_votes.seed_tables(tmp_path, demo, 1, products=4)[0]
    assert np.array_equal(first.votes.scores, again.votes.scores, equal_nan=True)
    assert first.votes.product_names == again.votes.product_names


def test_members_without_scores_are_refused(demo, monkeypatch):
    def submit(self, question, done):
        done(Generated(json.dumps(dict.fromkeys(question.attributes, "n/a"))))

    monkeypatch.setattr(Scripted, "submit", submit)
    with pytest.raises(ValueError, match="no member gave a score"):
        score_votes.record(load_deployment(demo), 1, 2)


def test_a_deployment_without_the_demo_is_refused(tmp_path):
    with pytest.raises(ValueError, match="generator"):
        score_votes._listings(tmp_path, 1, 5)
