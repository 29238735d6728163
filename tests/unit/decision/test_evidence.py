# SPDX-License-Identifier: Apache-2.0
"""Evidence of texts: features, the rule with them in one cell and in arrays, exact early stopping."""

import itertools
import math
import unicodedata

import numpy as np
import pytest

from quorum.decision.arrays import Rule, decide
from quorum.decision.cell import Parameters, decide_one
from quorum.decision.evidence import (
    AMONG_VOTES,
    FEATURES,
    HIGHEST,
    IN_TEXT,
    OF_OTHERS,
    Evidence,
    Text,
    check,
    counted,
    features,
)
from quorum.decision.lazy import is_settled

TEXT = "Soft cotton Shirt, COTTON 85mm red"
VALUES = ["", "n/a", "cotton", "soft cotton", "red", "85 mm"]


def number(name, value, named, text=TEXT):
    return features(Text(text), named)[value][FEATURES.index(name)]


def random_evidence(rng, strength=1.0):
    return {
        name: (float(rng.random()), float(rng.choice([0.1, 0.5, 2.0])), float(rng.normal(0.0, strength)))
        for name in FEATURES
    }


def test_where_a_value_stands_in_the_text():
    cotton = features(Text(TEXT), ["cotton"])["cotton"][: len(IN_TEXT)]
    assert cotton == (1.0, 1.0, 1.0, 1.0, 1.0, 5 / len(TEXT))
    assert features(Text(TEXT), ["COT"])["COT"][: len(IN_TEXT)] == (1.0, 1.0, 1.0, 0.0, 1.0, 5 / len(TEXT))
    assert features(Text(TEXT), ["wool"])["wool"][: len(IN_TEXT)] == (0.0,) * 6
    # The occurrence that is a word counts, not the first.
    assert number("left_edge", "red", ["red"], "bordered red") == 1.0
    assert number("position", "red", ["red"], "bordered red") == 9 / 12
    assert number("right_edge", "red", ["red"], "reddish") == 0.0
    assert number("any_case", "x" * 99, ["x" * 99]) == 0.0
    assert number("any_case", "", [""]) == 0.0


def test_folding_that_changes_lengths_shifts_no_position():
    text = "Straße İ ẞ red"
    folded = Text(text).folded
    assert len(folded) != len(text)
    assert number("any_case", "STRASSE", ["STRASSE"], text) == 1.0
    assert number("as_written", "STRASSE", ["STRASSE"], text) == 0.0
    for name, wanted in (
        ("left_edge", 1.0),
        ("right_edge", 1.0),
        ("position", folded.index("red") / len(folded)),
    ):
        assert number(name, "red", ["red"], text) == wanted
    composed, apart = (unicodedata.normalize(form, "Café rosé") for form in ("NFC", "NFD"))
    for title, value in ((composed, "café"), (apart, unicodedata.normalize("NFC", "café"))):
        assert number("any_case", value, [value], title) == 1.0
    assert number("any_case", "cafe", ["cafe"], apart) == 0.0
    assert number("right_edge", "x", ["x"], "x\u0323\u030c y") == 0.0


def test_form_of_a_value():
    found = features(Text(TEXT), ["85 MM", "Red"])
    assert found["85 MM"][6:10] == (math.log(2), math.log(5), 1.0, 1.0)
    assert found["Red"][6:10] == (0.0, math.log(3), 0.0, 0.0)


def test_relations_to_the_values_of_others():
    named = ["cotton", "soft cotton", "soft cotton", "n/a", None]
    found = features(Text(TEXT), named)
    assert dict(zip(AMONG_VOTES, found["cotton"][10:], strict=True)) == {
        "wholes": 2 / 5, "parts": 0.0, "overlap": pytest.approx(1 / 5), "is_part": 1.0, "is_whole": 0.0,
        "candidates": 3.0,
    }  # fmt: skip
    assert found["soft cotton"][10:] == (0.0, 1 / 5, pytest.approx(0.1), 0.0, 1.0, 3.0)
    assert "n/a" not in found
    single = features(Text(TEXT), ["s", "shoes", "size s", ""])
    assert single["s"][10] == 1 / 4
    assert single["shoes"][11] == single[""][10] == 0.0


@pytest.mark.parametrize("text", [TEXT, "Ünïcode İ red cotton", "x"])
def test_points_are_the_bounded_sum_of_features(text):
    rng = np.random.default_rng(1)
    for _ in range(50):
        coefficients = random_evidence(rng)
        named = [VALUES[i] if i else None for i in rng.integers(0, len(VALUES), 5)]
        points = Evidence(coefficients).of(text).of(counted(named), 5)
        expected = {}
        for value, numbers in features(Text(text), named).items():
            terms = [
                c * min(3.0, max(-3.0, (x - mean) / scale))
                for x, (mean, scale, c) in zip(numbers, coefficients.values(), strict=True)
            ]
            others = min(OF_OTHERS, max(-OF_OTHERS, sum(terms[10:15])))
            expected[value] = min(HIGHEST, sum(terms[:10]) + others) + terms[15]
        assert points == {value: pytest.approx(own) for value, own in expected.items()}
        order = rng.permutation(5)
        moved = Evidence(coefficients).of(text).of(counted(named[i] for i in order), 5)
        assert moved == {value: pytest.approx(own) for value, own in points.items()}


def test_no_text_no_evidence():
    evidence = Evidence(random_evidence(np.random.default_rng(0)))
    assert evidence.of("") is evidence.of(" \n") is None
    assert evidence.of("x").of({"n/a": 1}, 2) == {}


def ballots(named):
    return [("", 1) if value is None else (value, 0) for value in named]


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_arrays_and_cells_decide_alike_and_without_coefficients_as_ever(strength):
    rng, changed = np.random.default_rng(3), 0
    for members in (1, 3, 5, 18):
        evidence = Evidence(random_evidence(rng, strength))
        weights = rng.random(members).round(1)
        parameters = Parameters(tuple(weights.tolist()), -0.3, 0.2)
        rows = [[VALUES[i] if i else None for i in rng.integers(0, len(VALUES), members)] for _ in range(60)]
        rows += [["n/a"] * members, [None] * members, ["red"] * members]
        codes = np.array(
            [[-1 if value is None else VALUES.index(value) - 1 for value in row] for row in rows]
        )
        points = [evidence.of(TEXT).of(counted(row), members) for row in rows]
        table = np.array(
            [[own.get(value, 0.0) for value in row] for own, row in zip(points, rows, strict=True)]
        )
        rule = Rule(weights[None], np.array([-0.3]), np.array([0.2]))
        decision, plain = decide(codes, rule, evidence=table), decide(codes, rule)
        for at, row in enumerate(rows):
            value, confidence = decide_one(parameters, ballots(row), (), evidence.of(TEXT))
            winner = int(decision.winner[at])
            assert value == ("" if winner < 0 else row[winner])
            assert confidence == pytest.approx(decision.confidence[at], abs=1e-12)
            assert len(set(row)) > 1 or value == (row[0] or "")
            before = decide_one(parameters, ballots(row))
            assert strength or (value, confidence) == before
            changed += value != before[0]
        if not strength:
            assert (decision.winner == plain.winner).all()
            assert (decision.confidence == plain.confidence).all()
    assert bool(changed) is bool(strength)


def test_a_feature_that_values_share_changes_no_decision_between_values():
    parameters, named = Parameters((1.0, 0.8, 0.7), 0.0, 0.0), ["red", "cotton", "soft cotton"]
    for name in ("candidates", "any_case"):
        shared = Evidence({name: (0.5, 0.5, 0.4)}).of(TEXT)
        assert (
            decide_one(parameters, ballots(named), (), shared)[0] == decide_one(parameters, ballots(named))[0]
        )


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_stopping_early_is_exact_whatever_the_evidence(members):
    """Every pattern of votes, asked in every order, with random coefficients, biases and weights."""
    rng, stopped = np.random.default_rng(members), 0
    choices = [None, "n/a", "cotton", "soft cotton", "red", "cotton soft"][: 6 if members < 4 else 5]
    for draw in range({1: 20, 2: 60, 3: 10, 4: 2}[members]):
        evidence = Evidence(random_evidence(rng, 0.4 if draw % 2 else 1.0)).of(TEXT)
        weights = rng.integers(0, 3, members) if draw % 3 == 0 else rng.random(members) * 2.0
        biases = [float(rng.choice([0.0, rng.normal()])) for _ in range(2)]
        parameters = Parameters(tuple(weights.astype(float).tolist()), biases[0], None, biases[1])
        full = {
            row: decide_one(parameters, ballots(row), (), evidence)[0]
            for row in itertools.product(choices, repeat=members)
        }
        for asked in range(1 << members):
            known = [j for j in range(members) if asked >> j & 1]
            outcomes = {}
            for row, value in full.items():
                outcomes.setdefault(tuple(row[j] for j in known), set()).add(value)
            for seen, values in outcomes.items():
                given = [None] * members
                for j, value in zip(known, ballots(seen), strict=True):
                    given[j] = value
                if is_settled(parameters, given, (), evidence):
                    stopped += len(known) < members
                    assert len(values) == 1, (seen, values)
    assert stopped > 0 or members == 1


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"colour": (0.0, 1.0, 1.0)}, "no features"),
        ({"words": (0.0, 0.0, 1.0)}, "scale above 0"),
        ({"words": (0.0, -1.0, 1.0)}, "scale above 0"),
        ({"words": (math.nan, 1.0, 1.0)}, "at most"),
        ({"words": (0.0, 1.0, 1e308)}, "at most"),
        ({"words": (0.0, math.inf, 1.0)}, "at most"),
    ],
)
def test_hostile_numbers_are_refused(bad, word):
    with pytest.raises(ValueError, match=word):
        check(bad)
    tiny = dict.fromkeys(FEATURES, (1000000.0, 5e-324, 1000000.0))
    check(tiny)
    assert all(map(math.isfinite, Evidence(tiny).of(TEXT).of(counted(VALUES), 6).values()))
