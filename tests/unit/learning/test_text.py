# SPDX-License-Identifier: Apache-2.0
"""Evidence of texts, learned: likelihood and gradient, who gains, when it is off, and states that keep it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from quorum.decision.evidence import FEATURES
from quorum.decision.weights import dumps, loads
from quorum.evaluation.score import apply, is_right
from quorum.learning import learn, learn_statistic
from quorum.learning.design import Design
from quorum.learning.loglinear import LogLinear
from quorum.learning.online import OnlineError, begin, dump_state, load_state, relearn, update
from quorum.learning.text import standard_of
from quorum.votes import Cell, build_table

MEMBERS = ("a", "b", "c")
COLOURS = ["red", "blue", "green", "dark green", "pale blue"]


def table_of(cells, seed=0, useful=True, start=0, labelled=None):
    """Members as good as chance, whose errors are not in the title if the text is useful."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(start, start + cells):
        truth, wrong = rng.choice(len(COLOURS), 2, replace=False)
        title = f"A shirt in {COLOURS[truth]} by Nobody" if useful else "A shirt by Nobody"
        votes = [COLOURS[truth if rng.random() < 0.5 else wrong] for _ in MEMBERS]
        if rng.random() < 0.1:
            votes[rng.integers(3)] = "n/a"
        if rng.random() < 0.1:
            votes[rng.integers(3)] = None
        gold = (COLOURS[truth],) if labelled is None or i - start < labelled else ()
        rows.append(Cell(f"p{i}", "", title, f"x{i % 2}", tuple(votes), gold))
    return build_table(MEMBERS, rows)


def accuracy(table, weights):
    return is_right(table, apply(table, weights)).mean()


def test_text_that_tells_right_from_wrong_is_learned():
    known, new = table_of(200), table_of(200, 1, start=1000)
    weights, plain = learn(known), learn(known, settings={"evidence": False})
    assert accuracy(new, weights) > accuracy(new, plain) + 0.1
    assert weights.settings["evidence"]
    assert not plain.settings["evidence"]
    assert not plain.evidence
    assert weights.evidence["any_case"][2] > 0.0
    assert weights.settings["evidence_ridge"] in (10.0, 30.0, 100.0)
    back = loads(dumps(weights))
    assert (back.evidence, back.content_hash) == (weights.evidence, weights.content_hash)
    assert "evidence" not in dumps(plain).split('"settings"')[0].split('"members"')[0]


@pytest.mark.parametrize(
    ("cells", "useful", "text"), [(49, True, True), (200, False, True), (200, True, False)]
)
def test_without_labels_enough_or_use_or_text_votes_alone_decide(cells, useful, text):
    table = table_of(cells, useful=useful)
    if not text:
        table = build_table(MEMBERS, [replace(cell, title="") for cell in table.cells])
    weights = learn(table, "loglinear")
    if useful:
        assert not weights.evidence
        assert weights.default == learn(table, "loglinear", settings={"evidence": False}).default
    else:
        # What remains may only be the form of values, and what others named.
        assert not set(weights.evidence) & set(FEATURES[:6])
    assert ("evidence" in weights.settings) is text


def designs(labels=60):
    table = table_of(labels, 3)
    rows = table.statistic().text
    pooled = rows.regrouped(np.zeros(2, np.int32))
    numbers = standard_of(pooled).numbers(pooled)
    return table, pooled, numbers, Design(pooled.hist, members=3, numbers=numbers)


def test_gradient_and_loss_are_those_of_a_plain_loop():
    _, rows, numbers, design = designs()
    rng = np.random.default_rng(0)
    theta = rng.normal(0.0, 0.5, (1, 3 + 1 + len(FEATURES) + 2))
    value, gradient, curvature = design.loss(theta)
    expected = 0.0
    weights, part, beta, (na, none) = np.split(theta[0], [3, 4, 4 + len(FEATURES)])
    for codes, right, own in zip(rows.hist.codes.tolist(), rows.hist.right.tolist(), numbers, strict=True):
        scores = {}
        for j, code in enumerate(codes[:3]):
            if code >= 0:
                scores[code] = scores.get(code, 0.0) + weights[j]
        for code in scores:
            scores[code] += part[0] * (code == codes[3]) + na * (code == 0)
            scores[code] += beta @ own[codes.index(code)] if code else 0.0
        hits = sum(math.exp(scores[code]) for code in scores if right >> codes.index(code) & 1)
        total = math.exp(none) + sum(map(math.exp, scores.values()))
        expected -= math.log((hits or math.exp(none)) / total)
    assert value[0] == pytest.approx(expected, abs=1e-5)
    for at in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, at] = 1e-5
        slope = (design.loss(theta + step)[0] - design.loss(theta - step)[0]) / 2e-5
        assert gradient[0, at] == pytest.approx(slope[0], abs=1e-4)
    assert (np.linalg.eigvalsh(curvature[0]) > -1e-9).all()


def test_members_and_rows_have_no_order():
    table = table_of(150)
    rng, weights = np.random.default_rng(5), learn(table)
    moved = learn(table.take(rng.permutation(len(table))))
    turned = learn(table.of_members(("c", "a", "b")))
    for other, order in ((moved, (0, 1, 2)), (turned, (1, 2, 0))):
        assert [other.default.weights[i] for i in order] == pytest.approx(weights.default.weights, abs=2e-6)
        for name, numbers in weights.evidence.items():
            assert other.evidence[name] == pytest.approx(numbers, abs=2e-6)


def test_groups_do_not_deviate_where_text_counts():
    statistic = table_of(200).statistic()
    levels = [np.arange(2, dtype=np.int32)]
    model = LogLinear(levels=levels, gold_for_groups=100)
    model.fit(statistic.hist, statistic.gold, text=statistic.text)
    assert model.text_
    assert model.group_ridges_ == [math.inf]


def experts(cells, in_title, alike=False, seed=0):
    """The first member knows an attribute, or both, the second the other; some titles have the answer."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(cells):
        truth, wrong = rng.choice(len(COLOURS), 2, replace=False)
        right = rng.random(3) < np.where(np.arange(3) == (0 if alike else i % 2), 0.8, 0.4)
        votes = tuple(COLOURS[truth if ok else wrong] for ok in right)
        title = f"A shirt in {COLOURS[truth]}" if rng.random() < in_title else "A shirt"
        rows.append(Cell(f"p{i}", "", title, f"x{i % 2}", votes, (COLOURS[truth],)))
    return build_table(MEMBERS, rows)


def test_texts_and_weights_of_attributes_count_together():
    table, judge = experts(400, 0.5), experts(1000, 0.5, seed=1)
    both = learn(table, "loglinear")
    assert both.evidence
    assert set(both.attributes) == {"x0", "x1"}
    for left_out in ("evidence", "per_attribute"):
        alone = learn(table, "loglinear", settings={left_out: False})
        assert accuracy(judge, both) > accuracy(judge, alone)
    assert learn(experts(300, 0.0), "loglinear").attributes


def test_attributes_that_are_alike_have_common_weights_with_the_text():
    weights = learn(experts(300, 0.6, alike=True), "loglinear")
    assert weights.evidence
    assert not weights.attributes


def joined_and_stored(days, path):
    """All days in one table, their state, and that state as it is read back."""
    state = begin(days[0])
    for day in days[1:]:
        state = update(state, day)
    dump_state(state, path)
    back = load_state(path)
    assert back.content_hash == state.content_hash
    return build_table(MEMBERS, [cell for day in days for cell in day.cells]), state, back


def test_a_sum_of_parts_is_the_whole_and_a_state_keeps_it(tmp_path):
    days = [table_of(80, 0), table_of(80, 1, start=100), table_of(30, 2, start=200, labelled=0)]
    whole, state, back = joined_and_stored(days, tmp_path / "s.json")
    kept, written = back.statistic.text, state.statistic.text
    assert np.array_equal(kept.features, written.features, equal_nan=True)
    weights, joined = relearn(back, "loglinear"), learn(whole, "loglinear")
    assert weights.evidence.keys() == joined.evidence.keys()
    for name, numbers in joined.evidence.items():
        assert weights.evidence[name] == pytest.approx(numbers, abs=2e-6)
    faded = update(state, table_of(10, 7, start=300), 0.5)
    assert faded.statistic.text.hist.total == pytest.approx(160 * 0.5 + 10)


def untitled(table):
    return build_table(table.members, [replace(cell, title="") for cell in table.cells])


def with_sure_votes(table):
    rows = [
        replace(cell, scores=tuple(None if v is None else -0.1 for v in cell.values)) for cell in table.cells
    ]
    return build_table(table.members, rows)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)])
@pytest.mark.parametrize("scored", [lambda table: table, with_sure_votes], ids=["plain", "scores"])
def test_a_day_without_titles_counts_as_such_rows_of_one_file(tmp_path, order, scored):
    days = [table_of(80), scored(untitled(table_of(80, 1, start=100))), table_of(80, 2, start=200)]
    days = [days[number] for number in order]
    whole, _, back = joined_and_stored(days, tmp_path / "s.json")
    assert back.statistic.text.hist.total == 240
    weights, joined = relearn(back, "loglinear"), learn(whole, "loglinear")
    assert weights.evidence.keys() == joined.evidence.keys() != set()
    for name, numbers in joined.evidence.items():
        assert weights.evidence[name] == pytest.approx(numbers, abs=2e-5)
    assert weights.default.weights == pytest.approx(joined.default.weights, abs=1e-4)


def test_labels_that_were_not_kept_turn_it_off():
    with_text, old = table_of(150).statistic(), table_of(150, 1, start=500).statistic()
    lost = replace(old, text=None, gold=None)
    assert (with_text + lost).text is None
    blank = table_of(50, 2, start=900, labelled=0).statistic()
    assert blank.text is None
    assert (with_text + blank).text.hist.total == 150
    assert not learn_statistic(with_text + lost, "loglinear").evidence


def test_a_damaged_state_is_refused(tmp_path):
    path = tmp_path / "s.json"
    dump_state(begin(table_of(20)), path)
    text = path.read_text(encoding="utf-8")
    row = text.split('"text_rows": [\n    ')[1].split("\n")[0].rstrip(",")
    for bad in (row[:-1] + ", 1.0]", row.replace("[", "[7", 1), row[:-1].rsplit(",", 1)[0] + ", 1e300]"):
        path.write_text(text.replace(row, bad, 1), encoding="utf-8")
        with pytest.raises(OnlineError, match="text_rows"):
            load_state(path)
    path.write_text(text.replace('"schema_version": 3', '"schema_version": 1'), encoding="utf-8")
    with pytest.raises(OnlineError, match="3 exactly with text_rows"):
        load_state(path)
