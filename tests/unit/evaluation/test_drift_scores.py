# SPDX-License-Identifier: Apache-2.0
"""A member whose scores change is named without gold; quiet days are quiet, also where products differ."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest

from quorum.decision.cell import Parameters
from quorum.decision.patterns import ABSTAIN
from quorum.decision.scores import LEVELS
from quorum.decision.weights import Weights
from quorum.evaluation.drift import DriftError, drift
from quorum.evaluation.drift_scores import LESS_SURE, SURER, UNSCORED
from quorum.evaluation.evidence import BLOCK, evidence
from quorum.votes import Cell, VotesTable
from quorum.votes.statistic import Statistic, count

MEMBERS = ("a", "b", "c")
GROUPS = tuple(("shoes", f"x{i}") for i in range(6))
USUAL = np.array([2.0, 1.5, 1.0])


def day(
    rng: np.random.Generator,
    products: int,
    members: int = 3,
    *,
    temper: float = 1.0,
    hard: float = 0.0,
    unscored: float = 0.0,
    easy_attributes: bool = False,
) -> VotesTable:
    """Votes on products of which some are easier than others, for all members and attributes.

    The scores of the first member are ``temper`` times those that it should give; ``hard`` makes it wrong,
    and less sure, more often.
    """
    n = 6 * products
    groups = np.tile(np.arange(6, dtype=np.int32), products)
    if easy_attributes:
        groups = np.sort(rng.choice(3, n).astype(np.int32).reshape(products, 6), axis=1).ravel()
    odds = USUAL[:members] + rng.normal(0, 1, products).repeat(6)[:, None] - 0.5 * groups[:, None]
    odds = odds + rng.normal(0, 1, (n, members))
    odds[:, 0] -= hard
    sure = 1.0 / (1.0 + np.exp(-odds))
    codes = np.where(rng.random((n, members)) < sure, 1, rng.integers(2, 6, (n, members))).astype(np.int8)
    codes[groups == 5] = np.where(codes[groups == 5] == 1, 0, codes[groups == 5])
    codes[rng.random((n, members)) < 0.05] = ABSTAIN
    scores = np.log(sure).astype(np.float32)
    scores[:, 0] *= temper
    scores[rng.random((n, members)) < unscored] = np.nan
    scores[codes == ABSTAIN] = np.nan
    blank = np.full(n, -1, np.int64)
    cells = (Cell("p", "shoes", "", "x0", (None,) * members),) * n
    numbers = np.arange(products, dtype=np.int32).repeat(6)
    return VotesTable(
        MEMBERS[:members], cells, codes, blank, groups, GROUPS, numbers, blank.astype(np.int8), scores
    )


def reference(table: VotesTable) -> Statistic:
    arrays = (table.codes, table.groups, table.right, table.parts, len(table) // 6, table.scores)
    return count(table.members, table.group_names, *arrays)


def named(past: VotesTable, today: VotesTable) -> list[tuple[str, str]]:
    return [(finding.member, finding.kind) for finding in drift(reference(past), today).findings]


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 3])
def test_quiet_days_raise_an_alarm_less_than_once_in_a_hundred(members: int) -> None:
    """Cells of one product are far from independent here."""
    alarms = 0
    days = 300 if os.environ.get("QUORUM_LONG") else 100
    for seed in range(days):
        rng = np.random.default_rng([1, members, seed])
        past, today = day(rng, 600, members), day(rng, 300, members)
        found = drift(reference(past), today).findings
        alarms += any(finding.kind in (SURER, LESS_SURE, UNSCORED) for finding in found)
    assert alarms <= days / 100


@pytest.mark.parametrize(("temper", "kind"), [(1.5, LESS_SURE), (0.6, SURER)])
@pytest.mark.parametrize("members", [1, 3])
def test_a_model_whose_scores_change_is_named(temper: float, kind: str, members: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng([2, seed])
        past, today = day(rng, 1500, members), day(rng, 600, members, temper=temper)
        assert named(past, today) == [("a", kind)]


def test_a_harder_prompt_makes_a_member_less_sure() -> None:
    rng = np.random.default_rng(3)
    found = drift(reference(day(rng, 1500, 1)), day(rng, 600, 1, hard=0.7)).findings
    assert [(finding.member, finding.kind) for finding in found] == [("a", LESS_SURE)]
    assert found[0].cell % 6 == 0


def test_a_member_that_stops_to_give_scores_is_named() -> None:
    rng = np.random.default_rng(4)
    past = day(rng, 600)
    assert sorted(named(past, day(rng, 60, unscored=1.0))) == [(name, UNSCORED) for name in MEMBERS]
    assert sorted(named(past, day(rng, 300, unscored=0.3))) == [(name, UNSCORED) for name in MEMBERS]
    assert named(day(rng, 600, unscored=0.3), day(rng, 300, unscored=0.3)) == []
    assert named(day(rng, 600, unscored=0.3), day(rng, 300)) == []


def test_a_member_that_gives_no_scores_any_more_says_so() -> None:
    rng = np.random.default_rng(14)
    past, today = day(rng, 600), day(rng, 100)
    today.scores[:, 1] = np.nan
    report = drift(reference(past), today)
    assert [(f.member, f.kind) for f in report.findings] == [("b", UNSCORED)]
    assert report.verdict.startswith("b gives no scores any more (alarm at cell ")
    assert report.scores is not None
    assert math.isnan(report.scores[1].sure)
    assert report.to_json()["scores"][1]["sure"] is None
    assert report.scores[1].unscored == 1.0


def test_the_others_of_a_member_are_heard_by_the_weight_of_a_sure_vote() -> None:
    """Without its scores only the first of the others would have a say, and the third would follow it."""
    rng = np.random.default_rng(15)
    past, today = day(rng, 300), day(rng, 300)
    sure = ((0.0,) * LEVELS, (0.0,) * (LEVELS - 1) + (5.0,), (0.0,) * LEVELS)
    found = [
        drift(reference(past), today, weights=Weights("em", MEMBERS, parameters)).members[2]
        for parameters in (Parameters((1.0, 5.0, 1.0)), Parameters((1.0, 0.0, 1.0), scores=sure))
    ]
    assert found[0] == found[1]


def test_another_mix_of_attributes_makes_nobody_surer() -> None:
    rng = np.random.default_rng(5)
    report = drift(reference(day(rng, 1500)), day(rng, 600, easy_attributes=True))
    assert report.findings == []
    assert report.scores is not None
    for member in report.scores:
        assert abs(member.sure - member.expected) < 0.03


def test_figures_of_scores() -> None:
    rng = np.random.default_rng(6)
    past, today = day(rng, 1000, unscored=0.1), day(rng, 400, unscored=0.1, temper=2.0)
    report = drift(reference(past), today)
    assert report.scores is not None
    first, second, _ = report.scores
    assert first.sure < first.low < first.expected < first.high
    assert second.low - 0.02 < second.sure < second.high + 0.02
    assert 0.4 < second.expected < 0.6
    assert first.unscored == pytest.approx(0.1, abs=0.02)
    assert first.unscored_before == pytest.approx(0.1, abs=0.02)
    assert first.scored == int((~np.isnan(today.scores[:, 0])).sum())
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["scores"][0]["member"] == "a"
    assert report.verdict.startswith("a is less sure than before (alarm at cell ")


def without_scores(table: VotesTable) -> VotesTable:
    return VotesTable(
        *(getattr(table, name) for name in VotesTable.__slots__[:-1]), np.full_like(table.scores, np.nan)
    )


def test_a_reference_without_scores_is_compared_as_before() -> None:
    rng = np.random.default_rng(7)
    past, today = day(rng, 600), day(rng, 300, temper=3.0)
    report = drift(reference(without_scores(past)), today)
    assert report.scores is None
    assert "scores" not in report.to_json()
    assert report == drift(reference(without_scores(past)), without_scores(today))
    with pytest.raises(DriftError, match="at least 2 members, or earlier votes with scores"):
        drift(reference(without_scores(day(rng, 50, 1))), day(rng, 50, 1))


def test_more_tests_raise_the_bar_for_each() -> None:
    """At the same votes, what needs just enough evidence without scores needs more with them."""
    rng = np.random.default_rng(8)
    past, today = day(rng, 600), day(rng, 300)
    plain, scored = (
        drift(reference(t), today, alarm=0.05).members[0].noticeable for t in (without_scores(past), past)
    )
    assert plain is not None
    assert scored is not None
    assert plain <= scored
    with_bar = [
        drift(reference(t), day(rng, 40), alarm=0.5).members[0].noticeable
        for t in (without_scores(past), past)
    ]
    assert with_bar[0] != with_bar[1]


def test_cells_of_a_product_count_as_one() -> None:
    rng = np.random.default_rng(9)
    outcome = rng.integers(-1, 2, 4 * BLOCK).astype(np.int8)
    bound = rng.uniform(0.3, 0.6, len(outcome))
    products = np.arange(len(outcome), dtype=np.int32) // 5
    found = evidence(outcome, bound, True, products)
    starts = range(0, len(outcome), BLOCK)
    mass = [0.5] + [0.5 / (len(starts) - 1)] * (len(starts) - 1)
    expected = []
    for end in range(5, len(outcome) + 1, 5):
        total = 0.0
        for shift in (0.5, 1.0, 1.5):
            odds = bound / (1 - bound) * np.exp(shift)
            other = odds / (1 + odds)
            ratio = np.where(outcome == 1, other / bound, (1 - other) / (1 - bound))
            for start, share in zip(starts, mass, strict=True):
                value = share / 3
                for at in range(start, end, 5):
                    known = [ratio[i] for i in range(at, at + 5) if outcome[i] >= 0]
                    value *= np.mean(known) if known else 1.0
                total += value
        expected.append(np.log(total))
    assert np.allclose(found[4::5], expected)
    alone = np.arange(len(outcome), dtype=np.int32)
    assert np.allclose(evidence(outcome, bound, True, alone), evidence(outcome, bound, True))


def test_the_evidence_seldom_grows_at_the_bound_whatever_the_cells_of_a_product_share() -> None:
    rng = np.random.default_rng(10)
    products = np.arange(1800, dtype=np.int32) // 6
    bound, highest = np.full(1800, 0.5), []
    for _ in range(500):
        same = (rng.random(300) < 0.5).astype(np.int8).repeat(6)
        highest.append([evidence(same, bound, True, kind).max() for kind in (products, None)])
    joined, apart = (np.array(highest) > np.log(20)).sum(axis=0)
    # Ville: at most 25 of 500 beyond log 20, less three standard errors; cell by cell it would be far more.
    assert joined <= 25
    assert apart > 100


def by_attribute(table: VotesTable) -> VotesTable:
    """The same cells, sorted by attribute: those of a product are far from each other."""
    order = np.argsort(table.groups, kind="stable")
    arrays = {name: getattr(table, name)[order] for name in ("codes", "right", "groups", "products", "parts")}
    return VotesTable(
        members=table.members, cells=table.cells, group_names=table.group_names, scores=table.scores[order],
        **arrays,
    )  # fmt: skip


def test_a_day_sorted_by_attribute_raises_no_more_alarms() -> None:
    apart = joined = 0
    for seed in range(40):
        rng = np.random.default_rng([11, seed])
        past, today = day(rng, 600, 1), day(rng, 300, 1)
        findings = drift(reference(past), by_attribute(today), alarm=0.2).findings
        apart += bool(findings)
        joined += bool(drift(reference(past), today, alarm=0.2).findings)
    assert apart <= joined + 1
    rng = np.random.default_rng(12)
    past, today = day(rng, 1500, 1), day(rng, 600, 1, temper=1.5)
    (found,) = drift(reference(past), by_attribute(today)).findings
    assert (found.member, found.kind) == ("a", LESS_SURE)
    # The products are complete in the last attribute only.
    assert found.cell > 5 * 600


def test_cells_of_a_product_count_as_one_wherever_they_stand() -> None:
    rng = np.random.default_rng(13)
    highest = []
    for _ in range(300):
        same = np.tile((rng.random(50) < 0.5).astype(np.int8), 10)
        products, bound = np.tile(np.arange(50, dtype=np.int32), 10), np.full(len(same), 0.5)
        highest.append(evidence(same, bound, True, products).max())
    assert (np.array(highest) > np.log(20)).sum() <= 15
