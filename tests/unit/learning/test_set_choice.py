# SPDX-License-Identifier: Apache-2.0
"""How answers of several things are decided is chosen by products whose gold did not teach the weights."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.cell import Parameters
from quorum.decision.sets import chance_of
from quorum.decision.spans import TextSpan, dump_spans
from quorum.decision.weights import Weights, WeightsError, dumps, loads
from quorum.evaluation.answers import decide_answers
from quorum.evaluation.measures import calibration_error
from quorum.evaluation.task_scores import score_answers
from quorum.learning.by_kind import learn
from quorum.learning.online import begin, relearn, update
from quorum.learning.set_choice import SetChoice, recorded_choices, ruled
from quorum.learning.set_confidence import fit_chance
from quorum.operations.learn_remarks import kind_remarks
from quorum.votes import Cell, VotesTable, build_table

KINDS: AnswerKinds = {"entities": "spans"}
WORDS = 5
TEXT = " ".join(f"word{number}" for number in range(WORDS))
WIDTH = len("word0")


def cut(cuts: np.ndarray, types: np.ndarray, dropped: np.ndarray) -> str:
    """A text cut into spans before some words; a span has the type of its first word, or is left out."""
    edges = [0, *[at for at in range(1, WORDS) if cuts[at]], WORDS]
    spans = [
        TextSpan(first * (WIDTH + 1), last * (WIDTH + 1) - 1, "abcd"[types[first]])
        for first, last in pairwise(edges)
        if not dropped[first]
    ]
    return dump_spans(TEXT, spans)


def votes(qualities: tuple[float, ...], cells: int, seed: int) -> VotesTable:
    """Members that cut a text, with a chance of their own to be right about a word."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(cells):
        cuts, types = rng.random(WORDS) < 0.6, rng.integers(0, 4, WORDS)
        said = []
        for quality in qualities:
            wrong = rng.random(WORDS) > quality
            other = np.where(wrong, rng.integers(0, 4, WORDS), types)
            flipped = wrong & (rng.random(WORDS) < 0.5)
            said.append(cut(cuts ^ flipped, other, rng.random(WORDS) < 0.05))
        gold = cut(cuts, types, np.zeros(WORDS, np.bool_))
        rows.append(Cell(f"p{seed}-{number}", "", TEXT, "entities", tuple(said), (gold,)))
    return build_table([f"m{j}" for j in range(len(qualities))], rows)


def figures(table: VotesTable, weights: Weights) -> tuple[float, float]:
    """F1 over all spans by weights, and of the best member, the latter in hindsight."""
    answers = [decide_answers(table, weights, KINDS).values]
    answers += [[cell.values[j] or "" for cell in table.cells] for j in range(len(table.members))]
    found, *members = (score_answers("spans", table.cells, own)["f1"] for own in answers)
    return found, max(members)


@pytest.mark.parametrize("qualities", [(0.97, 0.5), (0.9, 0.7), (0.95, 0.5, 0.45)])
def test_learned_weights_are_not_worse_than_the_best_member(qualities: tuple[float, ...]) -> None:
    gaps = []
    for seed in range(3):
        weights = learn(votes(qualities, 80, seed), kinds=KINDS)
        found, best = figures(votes(qualities, 200, 50 + seed), weights)
        gaps.append(found - best)
    assert np.mean(gaps) > -0.005
    assert min(gaps) > -0.02


def test_votes_that_gain_keep_deciding() -> None:
    train, test = votes((0.75, 0.72, 0.7), 120, 1), votes((0.75, 0.72, 0.7), 200, 2)
    weights = learn(train, kinds=KINDS)
    choice = recorded_choices(weights.settings)["entities"]
    assert choice.weights == "learned"
    assert choice.gain > 3 * choice.error
    found, best = figures(test, weights)
    assert found > best + 0.05


def test_a_member_decides_alone_where_votes_are_not_surely_better() -> None:
    """Its weight is more than that of all others, who decide where it abstains."""
    table = votes((0.97, 0.5), 80, 0)
    weights = learn(table, kinds=KINDS)
    choice = recorded_choices(weights.settings)["entities"]
    assert (choice.weights, choice.member) == ("alone", "m0")
    first, *others = weights.attributes["entities"].weights
    assert first > sum(others)
    assert decide_answers(table, weights, KINDS).values == [cell.values[0] for cell in table.cells]
    without = build_table(table.members, [replace(c, values=(None, *c.values[1:])) for c in table.cells])
    assert all(decide_answers(without, weights, KINDS).values)
    assert loads(dumps(weights)) == weights
    assert any("m0 decides alone" in remark for remark in kind_remarks(weights))
    state = update(begin(table, KINDS), votes((0.97, 0.5), 20, 4), kinds=KINDS)
    later = relearn(state, kinds=KINDS, before=weights)
    assert decide_answers(table, later, KINDS).values == [cell.values[0] for cell in table.cells]
    assert recorded_choices(later.settings) == {"entities": choice}


def test_the_confidence_of_a_set_is_the_chance_that_all_of_it_is_right() -> None:
    train, test = votes((0.85, 0.8, 0.75), 300, 5), votes((0.85, 0.8, 0.75), 300, 6)
    weights = learn(train, kinds=KINDS)
    found = decide_answers(test, weights, KINDS)
    assert calibration_error(found.confidence, found.scores >= 1.0) < 0.08
    own = weights.attributes["entities"]
    raw = replace(weights, attributes={"entities": ruled(own, plain_choice(), weights.members)})
    before = decide_answers(test, raw, KINDS)
    assert before.values == found.values
    assert calibration_error(before.confidence, before.scores >= 1.0) > 0.1


def plain_choice() -> SetChoice:
    """Weights as they are, and the confidence as it is."""
    return SetChoice("learned", 0.0, "m0", 0.0, 0.0)


def test_the_line_of_a_confidence_that_is_right_is_the_confidence() -> None:
    rng = np.random.default_rng(0)
    shares = rng.random(20_000)
    intercept, slope = fit_chance(shares, rng.random(20_000) < shares)
    assert abs(intercept) < 0.05
    assert slope == pytest.approx(1.0, abs=0.05)
    assert fit_chance(shares, rng.random(20_000) > shares)[1] == 0.0, "surer is never less likely"
    assert chance_of(0.3, ()) == 0.3
    assert chance_of(0.3, (0.0, 1.0)) == pytest.approx(0.3)
    assert 0.0 < chance_of(0.0, (0.0, 1.0)) < chance_of(1.0, (0.0, 1.0)) < 1.0


@pytest.mark.parametrize(
    ("line", "none_bias", "said"),
    [
        ((0.0,), 0.0, "an intercept and a slope"),
        ((0.0, -1.0), 0.0, "an intercept and a slope"),
        ((0.0, float("inf")), 0.0, "an intercept and a slope"),
        ((0.0, 1.0), None, "only a calibrated"),
    ],
)
def test_a_line_that_is_none_is_refused(line: tuple[float, ...], none_bias: float | None, said: str) -> None:
    kind = "agreement" if none_bias is None else "calibrated"
    with pytest.raises(WeightsError, match=said):
        Weights("loglinear", ("a",), Parameters((1.0,), none_bias=none_bias, chance=line), confidence=kind)


def test_what_records_no_choice_is_left_out() -> None:
    assert recorded_choices({"set_choice": {"entities": {"weights": "unheard"}}}) == {}
    assert recorded_choices({"set_choice": 1}) == recorded_choices({}) == {}
