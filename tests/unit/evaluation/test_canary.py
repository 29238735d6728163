# SPDX-License-Identifier: Apache-2.0
"""The comparison of two channels against simulations whose truth is known, and every branch of the rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quorum.decision.cell import Parameters, decide_one
from quorum.decision.forms import decide
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import Weights, equal_weights
from quorum.deployment.schema import CanarySpec
from quorum.evaluation.canary import (
    Decided,
    NothingToCompareError,
    Observed,
    Pair,
    agreement_of,
    compare_channels,
    is_trained_on,
    pairs_from_votes,
)
from quorum.evaluation.score import apply, is_right
from quorum.evaluation.stats import Estimate
from quorum.evaluation.verdict import Latency, Metric, Verdict, judge
from quorum.learning.learn import learn
from quorum.learning.online import begin, relearn, update
from quorum.votes import Cell, VotesTable, build_table
from quorum_contract import DecisionStatus

RULES = CanarySpec(min_products=100, max_worse=0.01)
MEMBERS = ("a", "b", "c")
NO_CHANGE = Estimate(0.1, 0.05, 0.15)


def simulate(products: int, accuracy: tuple[float, float], seed: int = 0, gold: float = 1.0) -> list[Pair]:
    """Four cells a product; stable and canary are right independently of each other."""
    rng = np.random.default_rng(seed)
    pairs = []
    for p in range(products):
        labelled = rng.random() < gold
        for a in range(4):
            stable, canary = ("x" if rng.random() < share else f"y{rng.integers(3)}" for share in accuracy)
            sides = (Decided(stable, 0.8, 0.6), Decided(canary, 0.7, 0.5))
            pairs.append(Pair(f"p{p}", f"a{a}", *sides, ("x",) if labelled else ()))
    return pairs


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(100):
        found = compare_channels(simulate(40, (0.80, 0.84), seed), (1, 2), RULES)
        assert found.accuracy
        held += found.accuracy.delta.low <= 0.04 <= found.accuracy.delta.high
    # Binomial around 95 of 100; five standard deviations.
    assert 84 <= held <= 100


def test_the_cells_of_a_product_count_as_one_observation() -> None:
    pairs = simulate(60, (0.8, 0.84))
    once = compare_channels(pairs, (1, 2), RULES)
    copies = [
        Pair(p.product, f"{p.attribute}-{i}", p.stable, p.canary, p.gold) for p in pairs for i in range(9)
    ]
    many = compare_channels(copies, (1, 2), RULES)
    assert once.accuracy is not None
    assert many.accuracy is not None
    assert many.accuracy.delta == once.accuracy.delta
    assert many.changed == once.changed


def test_figures_by_hand() -> None:
    right, wrong, other = Decided("x", 0.9, 1.0), Decided("y", 0.5, 0.5), Decided("z", 0.6, 0.5)
    pairs = [
        Pair("p1", "color", right, right, ("x",)),
        Pair("p1", "size", wrong, right, ("x",)),
        Pair("p2", "size", wrong, right, ("x",)),
        Pair("p3", "size", wrong, other),
    ]
    found = compare_channels(pairs, (3, 5), RULES)
    assert (found.stable_version, found.canary_version, found.products, found.cells) == (3, 5, 3, 4)
    assert (found.gold_products, found.gold_labels) == (2, 3)
    assert found.changed.value == 0.75
    assert found.accuracy
    assert (found.accuracy.stable, found.accuracy.canary) == pytest.approx((1 / 3, 1.0))
    assert found.confidence.delta.value == pytest.approx((0.9 * 3 + 0.6 - 0.9 - 1.5) / 4)
    assert [(c.attribute, c.stable, c.canary, c.cells, c.better, c.worse) for c in found.top] == [
        ("size", "y", "x", 2, 2, 0),
        ("size", "y", "z", 1, 0, 0),
    ]


def mixed(products: int, gold: float = 1.0) -> list[Pair]:
    """The canary is better on "color" and worse on "brand": as good over all."""
    right, wrong = Decided("x", 0.9, 1.0), Decided("y", 0.5, 0.5)
    return [
        Pair(f"p{p}", name, *sides, ("x",) if p < gold * products else (), "shoes" if p % 2 else "shirts")
        for p in range(products)
        for name, sides in (
            ("brand", (right, wrong) if p % 5 == 0 else (right, right)),
            ("color", (wrong, right) if p % 4 == 0 else (right, right)),
            ("size", (right, right)),
        )
    ]


def test_an_attribute_that_is_worse_holds_a_canary_back_or_ends_it() -> None:
    found = compare_channels(mixed(300), (1, 2), RULES)
    assert found.accuracy is not None
    assert found.accuracy.delta.low > -RULES.max_worse
    assert found.verdict.action == "keep watching"
    assert found.verdict.reason.startswith("worse than stable on brand (-20.0 points [")
    judged = found.compared["stable"]
    assert {name: c.verdict for name, c in judged.by_attribute.items()} == {
        "brand": "worse", "color": "better", "size": "unclear",
    }  # fmt: skip
    assert set(judged.by_category) == {"shoes", "shirts"}
    assert found.to_json()["compared"]["stable"]["worse"] == ["brand"]
    ended = compare_channels(mixed(300), (1, 2), RULES, guard="per_attribute").verdict
    assert (ended.action, "per_attribute" in ended.reason) == ("roll back", True)
    few = compare_channels(mixed(90), (1, 2), RULES, guard="per_attribute").verdict
    assert (few.action, few.more_products) == ("keep watching", 10)
    allowed = RULES.model_copy(update={"max_worse": 0.25})
    assert compare_channels(mixed(300), (1, 2), allowed).verdict.action == "promote"
    taught = compare_channels(mixed(300), (1, 2), RULES, trained_on=True, guard="per_attribute")
    assert taught.verdict.action == "keep watching"


def test_without_gold_an_attribute_that_changes_far_more_than_the_others_is_shown() -> None:
    same, moved = Decided("x", 0.9, 1.0), Decided("y", 0.5, 0.5)
    pairs = [
        Pair(f"p{p}", f"a{a}", same, moved if a == 7 and p % 4 == 0 else same)
        for p in range(400)
        for a in range(60)
    ]
    found = compare_channels(pairs, (1, 2), RULES)
    assert found.compared == {}
    assert [name for name, m in found.moved.items() if m.stands_out] == ["a7"]
    a7 = found.moved["a7"]
    assert (a7.cells, a7.changed) == (400, 0.25)
    assert (a7.agreement, a7.confidence) == pytest.approx((-0.125, -0.1))
    assert found.verdict.action == "promote"
    assert found.verdict.reason.endswith(": at most 1 point worse")
    guarded = compare_channels(pairs, (1, 2), RULES, guard="per_attribute").verdict
    assert (guarded.action, "a7: far more changes there" in guarded.reason) == ("keep watching", True)


def test_no_evidence_at_all() -> None:
    with pytest.raises(NothingToCompareError):
        compare_channels([], (1, 2), RULES)


@pytest.fixture
def table() -> VotesTable:
    rng = np.random.default_rng(3)
    values = ("red", "blue", "n/a", None)
    cells = [
        Cell(
            f"p{i}", "", "", f"a{i % 3}", tuple(values[k] for k in rng.integers(0, 4, 3)), ("red",) * (i % 2)
        )
        for i in range(300)
    ]
    return build_table(MEMBERS, cells)


def test_recorded_votes_are_decided_as_the_vote_model_does(table: VotesTable) -> None:
    stable, canary = equal_weights(MEMBERS), Weights("majority", MEMBERS, Parameters((0.2, 3.0, 0.5), 0.3))
    pairs = pairs_from_votes(table, stable, canary)
    for cell, pair in zip(table.cells, pairs, strict=True):
        ballots = [(v or "", int(v is None)) for v in cell.values]
        for weights, side in ((stable, pair.stable), (canary, pair.canary)):
            value, confidence = decide_one(weights.parameters(cell.attribute), ballots)
            assert (side.value or "") == value
            assert side.confidence == pytest.approx(confidence)
            assert side.agreement == agreement_of(side.value, cell.values)
    found = compare_channels(pairs, (1, 2), RULES)
    assert found.accuracy
    for weights, share in ((stable, found.accuracy.stable), (canary, found.accuracy.canary)):
        assert share == pytest.approx(is_right(table, apply(table, weights))[table.labelled].mean())


@pytest.mark.parametrize("rule", [QuorumRule(2), QuorumRule(1, 0.7), QuorumRule(3, 1.0)])
def test_what_the_server_would_withhold_is_no_answer_of_either_channel(
    table: VotesTable, rule: QuorumRule
) -> None:
    stable, canary = equal_weights(MEMBERS), Weights("majority", MEMBERS, Parameters((0.2, 3.0, 0.5), 0.3))
    withheld = [0, 0]
    for cell, pair in zip(table.cells, pairs_from_votes(table, stable, canary, rule), strict=True):
        ballots = [(v or "", int(v is None)) for v in cell.values]
        for at, (weights, side) in enumerate(((stable, pair.stable), (canary, pair.canary))):
            value, confidence, status = decide(rule, weights.parameters(cell.attribute), ballots)
            withheld[at] += status is DecisionStatus.NO_QUORUM
            assert (side.value or "") == value
            assert side.confidence == pytest.approx(confidence)
            assert side.agreement == agreement_of(side.value, cell.values)
    assert min(withheld) > 20
    assert rule.min_members > 1 or withheld[0] != withheld[1]


@pytest.mark.parametrize(
    ("value", "votes", "share"),
    [("x", ["x", "x", "y", None], 2 / 3), (None, [None, None], 0.0), ("x", [], 0.0), ("z", ["x"], 0.0)],
)
def test_agreement(value: str | None, votes: list[str | None], share: float) -> None:
    assert agreement_of(value, votes) == pytest.approx(share)


def accuracy(value: float, low: float, high: float) -> Metric:
    return Metric(0.8, 0.8 + value, Estimate(value, low, high))


def latency(value: float, low: float, products: int = 500) -> Latency:
    return Latency(10, 20, 10 * value, 20 * value, Estimate(value, low, value + 0.1), products)


@pytest.mark.parametrize(
    ("measured", "products", "action", "more"),
    [
        (accuracy(0.02, 0.005, 0.035), 300, "promote", None),
        (accuracy(0.0, -0.009, 0.009), 300, "promote", None),
        (accuracy(-0.05, -0.08, -0.02), 300, "roll back", None),
        (accuracy(-0.005, -0.009, -0.001), 300, "promote", None),  # surely worse, and within what is allowed
        (accuracy(0.0, -0.02, 0.02), 300, "keep watching", 900),  # half the width: four times the products
        (accuracy(-0.03, -0.07, 0.01), 300, "keep watching", 234),  # on its way to be called worse
        (accuracy(0.05, 0.04, 0.06), 99, "keep watching", 1),
        (accuracy(-0.5, -0.6, -0.4), 20, "keep watching", 80),
    ],
)
def test_the_rules_on_accuracy(measured: Metric, products: int, action: str, more: int | None) -> None:
    found = judge(RULES, NO_CHANGE, measured, None, 1_000, products, 0, 0)
    assert (found.action, found.more_products) == (action, more)


def test_without_gold_only_a_canary_that_changes_little_can_be_promoted() -> None:
    assert judge(RULES, Estimate(0.004, 0.001, 0.009), None, None, 500, 0, 0, 0).action == "promote"
    found = judge(RULES, Estimate(0.4, 0.3, 0.5), None, None, 500, 0, 0, 0)
    assert (found.action, found.more_products) == ("keep watching", None)
    assert "quorum label" in found.reason


def test_what_was_never_seen_is_not_taken_for_impossible() -> None:
    same = [Pair(f"p{i}", "a", Decided("x", 1, 1), Decided("x", 1, 1)) for i in range(120)]
    found = compare_channels(same, (1, 2), RULES)
    # The exact upper bound of 0 of 120 at 97.5 %.
    assert found.changed == Estimate(0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 120)))
    assert found.verdict.action == "keep watching"
    many = [Pair(f"p{i}", "a", Decided("x", 1, 1), Decided("x", 1, 1)) for i in range(400)]
    assert compare_channels(many, (1, 2), RULES).verdict.action == "promote"


def test_slow_or_failing_canaries_are_not_promoted() -> None:
    better = accuracy(0.05, 0.04, 0.06)

    def verdict(slow: Latency | None, failed: int, asked: int) -> Verdict:
        return judge(RULES, NO_CHANGE, better, slow, 1_000, 500, failed, asked)

    assert verdict(latency(1.0, 0.9), 0, 1_000).action == "promote"
    assert verdict(latency(1.3, 1.2), 0, 1_000).action == "keep watching"
    assert verdict(latency(1.5, 1.3), 0, 1_000).action == "roll back"
    assert verdict(None, 12, 1_000).action == "keep watching"
    assert verdict(None, 40, 1_000).action == "roll back"
    assert verdict(None, 1, 20).action == "keep watching"


def test_a_canary_is_not_ended_for_what_happens_to_any_channel_now_and_then() -> None:
    better = accuracy(0.05, 0.04, 0.06)
    # One failure in ten is what one in a hundred brings every tenth time.
    assert judge(RULES, NO_CHANGE, better, None, 1_000, 500, 1, 10).action == "keep watching"
    assert judge(RULES, NO_CHANGE, better, None, 1_000, 500, 2, 10).action == "roll back"
    # Of stable's hundreds of products and one slow answer of the canary nothing follows.
    assert judge(RULES, NO_CHANGE, better, latency(9, 8, 99), 1_000, 500, 0, 99).action == "keep watching"
    pairs = simulate(300, (0.8, 0.8))
    once = (Observed({f"p{i}": 10.0 + i % 7 for i in range(300)}), Observed({"q": 400.0}))
    assert compare_channels(pairs, (1, 2), RULES, once).verdict.action == "keep watching"


@pytest.mark.parametrize(("share", "n"), [(0.01, 10), (0.01, 1_000), (0.2, 60), (0.0, 20), (1.0, 5)])
def test_failures_are_judged_by_the_exact_test(share: float, n: int) -> None:
    chances = [math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(n + 1)]
    for failed in range(n + 1):
        tail = math.fsum(chances[failed:])
        if abs(tail - 0.025) > 1e-9:
            rules = CanarySpec(min_products=100, max_failed=share)
            found = judge(rules, NO_CHANGE, None, None, 1, 0, failed, n)
            assert (found.action == "roll back") == (tail < 0.025), (failed, tail)


def test_a_few_labels_do_not_hold_up_a_canary_that_changes_next_to_nothing() -> None:
    little = Estimate(0.004, 0.001, 0.009)
    few = accuracy(-0.02, -0.3, 0.3)
    assert judge(RULES, little, few, None, 500, 5, 0, 0).action == "promote"
    assert judge(RULES, NO_CHANGE, few, None, 500, 5, 0, 0).more_products == 95
    assert judge(RULES, little, accuracy(-0.05, -0.08, -0.02), None, 500, 100, 0, 0).action == "roll back"


def test_latencies_of_the_same_products_are_compared_as_pairs() -> None:
    rng = np.random.default_rng(1)
    # Products differ by a hundred times more than the channels do.
    base = {f"p{i}": float(x) for i, x in enumerate(rng.uniform(10, 1_000, 300))}
    slower = {name: x * 1.1 for name, x in base.items()}
    pairs = simulate(10, (0.8, 0.8))
    paired = compare_channels(pairs, (1, 2), RULES, (Observed(base), Observed(slower)))
    assert paired.latency
    assert paired.latency.ratio.value == pytest.approx(1.1)
    assert paired.latency.ratio.high - paired.latency.ratio.low < 0.01
    del slower["p7"]  # a product that failed leaves the others paired
    without = compare_channels(pairs, (1, 2), RULES, (Observed(base), Observed(slower)))
    assert without.latency
    assert without.latency.ratio.high - without.latency.ratio.low < 0.01
    others = {f"q{i}": x for i, x in enumerate(slower.values())}
    apart = compare_channels(pairs, (1, 2), RULES, (Observed(base), Observed(others)))
    assert apart.latency
    assert apart.latency.ratio.high - apart.latency.ratio.low > 0.1


def test_only_what_the_canary_alone_failed_on_counts_against_it() -> None:
    observed = (Observed({}, {"p1", "p2"}), Observed({"p0": 1.0}, {"p2", "p3"}))
    found = compare_channels(simulate(10, (0.8, 0.8)), (1, 2), RULES, observed)
    assert (found.failed, found.asked) == (1, 3)
    assert found.latency is None


def test_weights_know_the_labels_they_were_learned_from(table: VotesTable) -> None:
    half = np.arange(len(table)) < len(table) // 2
    first, rest = table.take(np.flatnonzero(half)), table.take(np.flatnonzero(~half))
    both = relearn(update(begin(first), rest), "loglinear")
    some = learn(first, "loglinear", gold_labels=60, seed=4)
    for weights in (learn(first), both, some):
        assert weights.method == "loglinear"
        assert is_trained_on(first, weights)
        assert is_trained_on(first.of_members(MEMBERS[::-1]), weights), "in whichever order the members stand"
    assert is_trained_on(rest, both)
    assert not is_trained_on(rest, learn(first))
    assert not is_trained_on(rest, some)
    assert not is_trained_on(rest.take(range(20)), some), "fewer labels than were drawn"
    for method in ("em", "iwmv", "majority"):
        assert not is_trained_on(first, learn(first, method)), "does not look at gold"
    assert not is_trained_on(first, equal_weights(MEMBERS))
    assert not is_trained_on(first, learn(build_table(("x", "y", "z"), first.cells)))


def test_labels_that_taught_the_weights_decide_nothing() -> None:
    for gain in (0.05, -0.05):
        told = accuracy(gain, gain - 0.01, gain + 0.01)
        found = judge(RULES, NO_CHANGE, told, None, 1_000, 500, 0, 1_000, trained_on=True)
        assert found.action == "keep watching"
        assert "the weights were learned from these labels; give others" in found.reason
        # What was seen without labels still counts.
        for slow, failed in ((latency(1.5, 1.3), 0), (None, 40)):
            found = judge(RULES, NO_CHANGE, told, slow, 1_000, 500, failed, 1_000, trained_on=True)
            assert found.action == "roll back"
