# SPDX-License-Identifier: Apache-2.0
"""Learning from a votes table: which method, what is recorded, what is refused, and what it is worth."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from quorum.decision.weights import WeightsError, dumps, equal_weights, loads
from quorum.evaluation import NothingToScoreError, apply, score
from quorum.evaluation.score import is_right
from quorum.evaluation.stats import bootstrap_means
from quorum.learning import LearnError, learn, learn_statistic
from quorum.learning.simulate import independent
from quorum.votes import Cell, build_table, read_votes

WHEN = datetime(2024, 5, 1, tzinfo=UTC)


def simulated(seed, cells=600, members=4, labelled=600, attributes=2):
    rng = np.random.default_rng(seed)
    codes, truth = independent(rng, cells, np.linspace(0.9, 0.5, members), 5)
    names = [f"m{j}" for j in range(members)]
    rows = [
        Cell(
            product=f"p{i // 3}",
            category="c",
            title="",
            attribute=f"a{i % 3 % attributes}_{i % 3}",
            values=tuple(None if v < 0 else f"v{v}" for v in codes[i]),
            gold=(f"v{truth[i]}",) if i < labelled else (),
        )
        for i in range(cells)
    ]
    return build_table(names, rows)


@pytest.mark.parametrize(
    ("members", "labelled", "method"),
    [(4, 50, "loglinear"), (4, 49, "em"), (2, 49, "majority"), (2, 50, "loglinear"), (1, 0, "majority")],
)
def test_auto_chooses_by_gold_and_members(members, labelled, method):
    weights = learn(simulated(0, members=members, labelled=labelled), created=WHEN)
    assert weights.method == method
    assert weights.confidence == ("calibrated" if method == "loglinear" else "agreement")
    assert loads(dumps(weights)) == weights


@pytest.mark.parametrize("method", ["majority", "iwmv", "em", "loglinear"])
def test_same_votes_same_bytes(method):
    texts = {dumps(learn(simulated(1), method, gold_labels=100, seed=3, created=WHEN)) for _ in range(2)}
    assert len(texts) == 1


def test_learned_twice_on_the_same_votes_the_hash_is_the_same():
    table, later = simulated(1), WHEN.replace(year=2031)
    first, second = (learn(table, "em", created=when) for when in (WHEN, later))
    assert first.provenance["created"] != second.provenance["created"]
    assert first.content_hash == second.content_hash


def test_provenance():
    table = simulated(2)
    weights = learn(table, "loglinear", gold_labels=120, seed=5, catalogue={"": "sha256:x"}, created=WHEN)
    assert weights.catalogue == {"": "sha256:x"}
    record = dict(weights.provenance)
    assert record.pop("data_hash") == table.sample_gold(120, 5).data_hash()
    assert record == {
        "created": "2024-05-01T00:00:00+00:00", "rows": 600, "products": 200, "gold_labels": 120,
        "heldout": None, "seed": 5,
    }  # fmt: skip


def test_what_cannot_be_learned_is_refused():
    table = simulated(3, labelled=0, members=2)
    with pytest.raises(LearnError, match="'unheard' is unknown"):
        learn(table, "unheard")
    with pytest.raises(LearnError, match=r"em: 2 of 2 members .* needs 3"):
        learn(table, "em")
    with pytest.raises(LearnError, match="loglinear: no labelled cell"):
        learn(table, "loglinear")
    with pytest.raises(LearnError, match="settings"):
        learn(simulated(3), "em", settings={"colour": 1})
    with pytest.raises(LearnError, match="at least 2"):
        learn(simulated(3), "em", value_counts={"a0_0": 1})


def test_value_counts_reach_the_attribute_they_belong_to():
    table = simulated(4)
    plain, told = (learn(table, "em", value_counts=c, created=WHEN) for c in ({}, {"a0_0": 50}))
    assert told.settings["labels"] == {"a0_0": 50}
    assert sum(told.attributes["a0_0"].weights) > sum(plain.attributes["a0_0"].weights) + 1


def test_shards_learn_what_the_whole_table_learns():
    table = simulated(5)
    parts = table.take(range(300)).statistic() + table.take(range(300, 600)).statistic()
    for method in ("majority", "iwmv", "em", "loglinear"):
        whole = learn(table, method, created=WHEN)
        joined = learn_statistic(parts, method, created=WHEN)
        assert joined.default == whole.default
        assert joined.attributes == whole.attributes
        assert joined.groups == whole.groups


@pytest.mark.parametrize("method", ["iwmv", "em", "loglinear"])
def test_odd_tables_are_handled(method):
    rows = []
    for i, cell in enumerate(simulated(6).cells):
        values = (*cell.values[:3], None)
        if cell.attribute == "a0_2":
            values = ("n/a",) * 3 + (None,)
        gold = ("elsewhere",) if i % 5 == 0 else cell.gold
        rows.append(Cell(cell.product, "", "", cell.attribute, values, gold))
    table = build_table(["m0", "m1", "m2", "silent"], rows)
    weights = learn(table, method, created=WHEN)
    assert table.gold_outside >= 120
    assert np.isfinite([w for p in (weights.default, *weights.attributes.values()) for w in p.weights]).all()
    decision = apply(table, weights)
    assert (decision.winner[table.codes.max(axis=1) >= 0] >= 0).all()
    assert loads(dumps(weights)) == weights


def test_score_counts_right_answers_by_hand():
    rows = [
        Cell("p1", "", "", "a", ("x", "y", "y"), ("x",)),
        Cell("p1", "", "", "b", ("x", "x", None), ("x",)),
        Cell("p2", "", "", "a", ("n/a", "n/a", "z"), ("n/a",)),
        Cell("p2", "", "", "b", ("q", "q", "q"), ("z",)),
        Cell("p3", "", "", "b", ("q", "q", "q")),
    ]
    names = ["m1", "m2", "m3"]
    result = score(build_table(names, rows), {"equal": equal_weights(names)}, resamples=200)
    assert [result.members[m].value for m in names] == [0.75, 0.5, 0.0]
    assert result.methods["majority"] == result.methods["equal"]
    assert result.methods["majority"].value == 0.5
    assert (result.gold_labels, result.gold_outside, result.products) == (4, 1, 2)
    assert result.methods["majority"].low <= 0.5 <= result.methods["majority"].high
    assert json.loads(json.dumps(result.to_json()))["members"]["m1"]["value"] == 0.75


def test_score_refuses_what_it_cannot_score():
    table = simulated(7, labelled=0)
    with pytest.raises(NothingToScoreError, match="no cell"):
        score(table, {})
    with pytest.raises(WeightsError, match="mine: weights for"):
        score(simulated(7), {"mine": equal_weights(["x"])})


def test_the_bootstrap_draws_whole_products():
    rng = np.random.default_rng(0)
    per_product = rng.random(400)
    values = np.repeat(per_product, 5)[:, None]
    means = bootstrap_means(values, np.repeat(np.arange(400, dtype=np.int32), 5), 2000, 0)
    assert means.std() == pytest.approx(per_product.std() / np.sqrt(400), rel=0.1)
    assert means.mean() == pytest.approx(per_product.mean(), abs=0.002)


@pytest.fixture(scope="module")
def recorded(recorded_votes):
    return read_votes(recorded_votes)


@pytest.mark.data
def test_recorded_votes_read_as_described(recorded):
    result = score(recorded, {}, resamples=10)
    accuracies = [round(100 * a.value, 1) for a in result.members.values()]
    assert accuracies == [79.3, 82.0, 84.6, 82.8, 84.7]
    assert (result.gold_labels, result.products) == (1482, 524)


@pytest.mark.data
def test_200_gold_labels_reach_the_best_single_member(recorded):
    gains = []
    for seed in range(20):
        unseen = ~recorded.sample_gold(200, seed).labelled
        weights = learn(recorded, gold_labels=200, seed=seed)
        assert weights.method == "loglinear"
        best = recorded.correct()[unseen].mean(axis=0).max()
        gains.append(is_right(recorded, apply(recorded, weights))[unseen].mean() - best)
    assert np.mean(gains) >= 0.003


def test_gold_teaches_whether_parts_are_right():
    """Short spans are right here; a long one from most members wins until gold says otherwise."""
    rng = np.random.default_rng(9)
    rows = []
    for i in range(400):
        short, long = f"w{i}", f"very w{i}"
        votes = (*(long if rng.random() < 0.6 else short for _ in range(4)), f"other{i}")
        rows.append(Cell(f"p{i}", "", "", "a", votes, (short,)))
    table = build_table(["a", "b", "c", "d", "e"], rows)
    weights = learn(table, "loglinear", created=WHEN)
    assert weights.default.part_bias > 1.0
    assert loads(dumps(weights)) == weights
    without = learn(table, "loglinear", created=WHEN, settings={"part_bias": False})
    assert without.default.part_bias == 0.0
    assert "part_bias" not in dumps(without).split("settings")[0]
    named = table.right > 0
    assert is_right(table, apply(table, weights))[named].mean() > 0.99
    assert is_right(table, apply(table, without))[named].mean() < 0.7
    shards = [table.take(range(0, 400, 2)).statistic(), table.take(range(1, 400, 2)).statistic()]
    assert learn_statistic(shards[0] + shards[1], "loglinear", created=WHEN).default == weights.default


def test_a_member_that_never_answered_has_no_weight():
    rows = [
        Cell(f"p{i}", "", "", "a", ("x", "x" if i % 3 else "y", None), ("x",) if i % 7 else ("y",))
        for i in range(200)
    ]
    table = build_table(["a", "b", "silent"], rows)
    for settings in ({}, {"gold_for_groups": 50}):
        weights = learn(table, "loglinear", settings=settings)
        assert weights.default.weights[2] == 0.0
        assert all(own.weights[2] == 0.0 for own in weights.attributes.values())
        assert weights.default.weights[0] > 0.0
