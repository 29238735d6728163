# SPDX-License-Identifier: Apache-2.0
"""What is settled stays as it is: every completion of the votes that are missing gives the same answer."""

import itertools
import random
from collections import defaultdict

import pytest

from quorum.decision.cell import Parameters
from quorum.decision.evidence import FEATURES, Evidence
from quorum.decision.forms import decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.scores import EDGES, LEVELS
from quorum.decision.settle import is_settled
from quorum_contract import Status

PLAIN = QuorumRule()
ABSTAINED = ("", int(Status.TIMEOUT))
SCORES = (None, EDGES[0] - 1.0, *(edge + 1e-9 for edge in EDGES))
"""No score, and one of each level."""
TITLE = "Scarf, soft wool SILK"
ONE = ("n/a", "wool", "soft wool", "silk", "Merino wool")
VALUES = ("n/a", '["a"]', '["b"]', '["a","b"]', '["c","a"]', "no JSON")
SPANS_TEXT = "red hat red"
SPANS = (
    "n/a", "[]", '[["red hat","x"]]', '[["hat red","y"]]', '[["red","x"],["red","x"]]',
    '[["hat","x"],["red","y"]]', '[["blue","x"]]',
)  # fmt: skip
WRITTEN = ("a red hat", "a hat", "n/a")
CASES = {"one": (ONE, TITLE), "values": (VALUES, ""), "spans": (SPANS, SPANS_TEXT), "text": (WRITTEN, "")}


def draw_parameters(rng, members, *, scores=False, part_bias=True, text=True):
    def number(spread):
        return rng.choice([0.0, rng.gauss(0.0, spread)])

    if rng.random() < 0.4:
        weights = tuple(rng.choice([0.0, 0.5, 1.0, 1.0, 2.0]) for _ in range(members))
    else:
        weights = tuple(rng.random() * 3 for _ in range(members))
    offsets = tuple(tuple(rng.gauss(0.0, 0.7) for _ in range(LEVELS)) for _ in range(members))
    return Parameters(
        weights,
        number(1.0),
        rng.choice([None, rng.gauss(0.0, 1.0)]),
        number(1.0) if part_bias else 0.0,
        offsets if scores else (),
        text,
    )


def draw_rule(rng, members):
    return QuorumRule(rng.randint(1, members), rng.choice([0.0, 0.0, rng.random()]))


def completions(rule, parameters, choices, evidence=None, form="one", text=""):
    """(votes of a subset of members, others None) -> the different answers that they can end in."""
    members = len(parameters.weights)
    ends = {}
    for votes in itertools.product(choices, repeat=members):
        ballots, scores = [vote for vote, _ in votes], [score for _, score in votes]
        value, _, status = decide(rule, parameters, ballots, scores, evidence, form, text)
        ends[votes] = (value, int(status))
    found = defaultdict(set)
    for asked in itertools.product((True, False), repeat=members):
        for votes, end in ends.items():
            found[tuple(v if known else None for v, known in zip(votes, asked, strict=True))].add(end)
    return found


def check(rule, parameters, choices, evidence=None, form="one", text=""):
    """Number of settled subsets, and of those that are not, of which each can end in one answer only."""
    settled = missed = 0
    for votes, ends in completions(rule, parameters, choices, evidence, form, text).items():
        if None not in votes:
            continue
        ballots = [vote and vote[0] for vote in votes]
        scores = [vote and vote[1] for vote in votes]
        if is_settled(rule, parameters, ballots, scores, evidence, form, text):
            assert len(ends) == 1, (parameters, rule, votes, ends)
            at_hand = [ballot or ("", int(Status.NOT_ASKED)) for ballot in ballots]
            value, _, status = decide(rule, parameters, at_hand, scores, evidence, form, text)
            assert {(value, int(status))} == ends
            settled += 1
        else:
            missed += len(ends) == 1
    return settled, missed


def without_scores(values):
    return [(ABSTAINED, None), *(((value, 0), None) for value in values)]


@pytest.mark.parametrize("form", ["one", "values", "spans", "text"])
@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_no_completion_changes_what_is_settled(form, members):
    values, text = CASES[form]
    rng, settled = random.Random(f"{form} {members}"), 0
    for draw in range((60, 40, 20, 4)[members - 1]):
        parameters = draw_parameters(rng, members)
        rule = PLAIN if draw % 2 else draw_rule(rng, members)
        settled += check(rule, parameters, without_scores(values), None, form, text)[0]
    assert settled > 0 or members == 1 or (form, members) == ("text", 2)


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_no_text_of_a_product_changes_what_is_settled(members):
    rng, settled = random.Random(f"evidence {members}"), 0
    for _ in range((40, 30, 15, 4)[members - 1]):
        terms = {
            name: (rng.random(), rng.choice([0.1, 0.5, 2.0]), rng.gauss(0.0, rng.choice([0.1, 1.0])))
            for name in FEATURES
        }
        parameters = draw_parameters(rng, members, text=rng.random() < 0.8)
        evidence = Evidence(terms).of(TITLE)
        settled += check(draw_rule(rng, members), parameters, without_scores(ONE), evidence)[0]
    assert settled > 0 or members == 1


@pytest.mark.parametrize(
    ("form", "members", "levels"), [("one", 2, 11), ("one", 3, 4), ("values", 2, 11), ("spans", 2, 6)]
)
def test_no_score_of_a_vote_changes_what_is_settled(form, members, levels):
    values, text = CASES[form]
    rng, settled = random.Random(f"{form} {members} scores"), 0
    for _ in range(3):
        parameters = draw_parameters(rng, members, scores=True)
        chosen = rng.sample(SCORES, levels) if levels < len(SCORES) else SCORES
        named = values if members < 3 else values[:3]
        choices = [(ABSTAINED, None), *(((value, 0), score) for value in named for score in chosen)]
        settled += check(PLAIN, parameters, choices, None, form, text)[0]
    assert settled > 0


@pytest.mark.parametrize("form", ["one", "values"])
def test_nothing_is_asked_in_vain(form):
    """Without a part bias and texts, what is not settled can end in two answers at least."""
    rng, settled = random.Random(form), 0
    values, text = CASES[form]
    # A new value that has nothing to do with the others, for whatever is not settled for its sake alone.
    values = ("n/a", "wool", "silk", "felt", "jute") if form == "one" else values
    for draw in range(12):
        parameters = draw_parameters(rng, 3, part_bias=False)
        rule = PLAIN if draw % 2 else draw_rule(rng, 3)
        found, missed = check(rule, parameters, without_scores(values), None, form, text)
        settled += found
        assert missed == 0, parameters
    assert settled > 100


def test_a_part_bias_counts_only_where_a_value_can_be_part_of_another():
    # Two members agree. The third can name what contains their value, but then not "silk" as well.
    parameters = Parameters((1.0, 0.6, 0.5), part_bias=-0.7)
    assert is_settled(PLAIN, parameters, [("wool", 0), ("wool", 0), None])
    assert not is_settled(PLAIN, parameters, [("wool", 0), ("soft wool", 0), None])
    assert not is_settled(PLAIN, parameters, [("wool", 0), None, None])
    # With the bias for parts, a member that names one can win with it.
    helped = Parameters((1.0, 0.6, 0.5), part_bias=1.2)
    assert not is_settled(PLAIN, helped, [("soft wool", 0), ("soft wool", 0), None])


def test_withheld_is_settled_once_no_quorum_can_be_met():
    rule = QuorumRule(min_members=3)
    parameters = Parameters((1.0, 1.0, 1.0, 1.0))
    lost = [("wool", 0), ABSTAINED, ABSTAINED, None]
    assert is_settled(rule, parameters, lost)
    assert is_settled(rule, parameters, lost, form="text")
    assert not is_settled(rule, parameters, [("wool", 0), ("wool", 0), None, None])
    assert not is_settled(rule, parameters, [ABSTAINED, ABSTAINED, None, None])


def test_spans_that_exclude_each_other_are_open_while_either_may_be_the_surer():
    parameters = Parameters((3.0, 1.0, 0.4))
    both = '[["red hat","x"],["hat red","y"]]'
    one = '[["red hat","x"]]'
    assert not is_settled(PLAIN, parameters, [(both, 0), (both, 0), None], form="spans", text=SPANS_TEXT)
    assert is_settled(PLAIN, parameters, [(both, 0), (one, 0), None], form="spans", text=SPANS_TEXT)
