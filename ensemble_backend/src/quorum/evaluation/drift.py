# SPDX-License-Identifier: Apache-2.0
"""Test whether a member changed: a day's votes, in their order, against those of earlier days.

Per member: does it disagree with the weighted decision of the others more, or less, than before, and does it
abstain more? Cells are stratified by attribute and by how clear the decision of the others is, so that a day
of harder cells is no change of a member; cells of attributes new to the reference are left out. Where its
votes have scores: is it surer, or less sure, of them, and does it give fewer (:mod:`.drift_scores`)? That
needs no other member. The null hypothesis: the log odds of the rates are within ``z`` standard errors of the
reference, with ``z`` for ``INTERVAL``. The evidence of each test (:mod:`.evidence`) ever exceeds
``tests / alarm`` with a probability of at most ``alarm / tests``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quorum.decision.arrays import Rule, decide
from quorum.decision.patterns import ABSTAIN
from quorum.decision.weights import Weights, WeightsError
from quorum.evaluation.drift_scores import LESS_SURE, SCORE_KINDS, ScoredCells, ScoreDrift, words_of
from quorum.evaluation.evidence import Outcomes, Rates, Strata, evidence, noticeable, reference_rates
from quorum.evaluation.score import as_rule, highest_weights
from quorum.learning.online import State
from quorum.records import Record
from quorum.votes.statistic import Statistic
from quorum.votes.table import VotesTable
from quorum_contract.errors import QuorumError

KINDS = ("disagrees more", "disagrees less", "abstains more")
"""Kinds of change that are tested for each member; a single one can only abstain more."""
_CLEAR = 2.0 / 3.0
_CLARITIES = 3


class DriftError(QuorumError, ValueError):
    """The votes cannot be compared; the message says why."""

    code = "DRIFT_NOT_COMPARABLE"


@dataclass(frozen=True, slots=True)
class Finding:
    """A member that left its interval.

    Attributes:
        kind: One of :data:`KINDS`, or of :data:`quorum.evaluation.drift_scores.SCORE_KINDS`.
        cell: Number of the cell, from 1, at which the evidence reached the bar.
        log_evidence: Natural logarithm of the day's highest evidence.
    """

    member: str
    kind: str
    cell: int
    log_evidence: float


@dataclass(frozen=True, slots=True)
class MemberDrift:
    """How often a member disagreed with the weighted decision of the others; shares of the compared cells.

    Attributes:
        compared: Cells of the day that it and at least one other member answered.
        disagreement: Share of these where it named another value.
        expected: That share in the reference, at the day's mixture of clear and contested cells; its interval
            is ``low`` to ``high``.
        abstained: Share of the day's cells without its answer; ``abstained_before``: of the reference's.
        noticeable: The disagreement, from the first cell on, that the test would notice on about half of
            such days; None: no disagreement is high enough.
    """

    member: str
    compared: int
    disagreement: float
    expected: float
    low: float
    high: float
    abstained: float
    abstained_before: float
    noticeable: float | None


@dataclass(frozen=True, slots=True)
class Drift(Record):
    """The day against the reference.

    Attributes:
        findings: Members that changed, most evidence first.
        cells: Cells of the day.
        reference_cells: Cells of the reference, discounted by forgetting.
        alarm: Bound on the probability that a day without a change has a finding.
        verdict: The result in words.
        scores: How sure the members were whose votes had scores; None: no vote of the reference has one.
    """

    members: Sequence[MemberDrift]
    findings: Sequence[Finding]
    cells: int
    reference_cells: float
    alarm: float
    verdict: str
    scores: Sequence[ScoreDrift] | None = None


def drift(
    reference: Statistic | State, day: VotesTable, *, weights: Weights | None = None, alarm: float = 0.01
) -> Drift:
    """Test whether members still vote as they did.

    A member that changed is left out of the decision of the others, and the rest are tested again. With fewer
    than three members a disagreement cannot be attributed to one of them: then all are named. A single member
    is compared with itself only, by its scores.

    Args:
        reference: Votes from before the day; the day must not be in it.
        day: The votes in the order in which they came.
        weights: Weights of the decisions; None: equal weights.
        alarm: Probability of a finding on a day without change, at most.

    Returns:
        Figures per member and findings. The bound assumes cells that err independently, which cells of one
        product do not quite.

    Raises:
        DriftError: Other members, no votes, or ``alarm`` outside (0, 1).
        WeightsError: Weights for other members.
    """
    statistic = reference.statistic if isinstance(reference, State) else reference
    _check(statistic, day, weights, alarm)
    cells = _Cells(statistic, day, weights)
    bar = math.log(sum(map(len, cells.kinds)) / alarm)
    figures = [_figures(cells, member, bar) for member in range(len(day.members))]
    untested, findings = list(range(len(day.members))), []
    while untested:
        tested = [_test(cells, member, bar) for member in untested]
        changes = sorted((finding for finding in tested if finding), key=lambda f: -f.log_evidence)
        if len(untested) <= 2 or not changes:
            findings += changes
            break
        findings.append(changes[0])
        member = day.members.index(changes[0].member)
        untested.remove(member)
        cells.exclude(member)
    scores = [cells.scored.figures(member) for member in cells.with_scores]
    power = _power(figures) if len(day.members) > 1 else ""
    verdict = _verdict(findings, {s.member: s.scored for s in scores}, len(day), power)
    total = statistic.hist.total
    return Drift(figures, findings, len(day), total, alarm, verdict, scores or None)


class _Cells:
    """Patterns of the reference, then cells of the day; excluded members take no part in their decisions."""

    def __init__(self, statistic: Statistic, day: VotesTable, weights: Weights | None) -> None:
        self.members, self.counts, self.products = day.members, statistic.hist.counts, day.products
        self.codes = np.concatenate([statistic.hist.codes, day.codes])
        self.groups = np.concatenate([statistic.hist.groups, day.groups + len(statistic.groups)])
        names = [*statistic.groups, *day.group_names]
        self.rule = Rule(np.ones((len(names), len(self.members))), np.zeros(len(names)))
        if weights:
            learned = as_rule(weights, names)
            # Without the other biases, so that the confidence is agreement.
            self.rule = Rule(highest_weights(weights, names), learned.na_bias)
        known = {name: i for i, name in enumerate(sorted({attribute for _, attribute in statistic.groups}))}
        self.attribute = np.array([known.get(name, -1) for _, name in names], np.int64)[self.groups]
        self.n_strata = _CLARITIES * len(known)
        self.others = self.codes.copy()
        self.compared: dict[int, tuple[Outcomes, Strata]] = {}
        self.scored = ScoredCells(statistic, day)
        own = range(len(self.members))
        self.with_scores = [j for j in own if statistic.scored is not None and self.scored.has_scores(j)]
        usual = KINDS if len(self.members) > 1 else ("abstains more",)
        self.kinds = [(*usual, *(SCORE_KINDS if j in self.with_scores else ())) for j in own]

    def exclude(self, member: int) -> None:
        """Leave a member out of the decisions of the others."""
        self.others[:, member] = ABSTAIN
        self.compared.clear()

    def against(self, member: int) -> tuple[Outcomes, Strata]:
        """(n,) 1: disagrees with the others, 0: agrees, -1: not compared; (n,) stratum."""
        if member in self.compared:
            return self.compared[member]
        others = self.others.copy()
        others[:, member] = ABSTAIN
        decision = decide(others, self.rule, self.groups)
        winner = np.maximum(decision.winner.astype(np.int64), 0)
        decided = np.take_along_axis(others, winner[:, None], axis=1)[:, 0]
        comparable = (decision.winner >= 0) & (self.codes[:, member] != ABSTAIN) & (self.attribute >= 0)
        outcome = np.where(comparable, self.codes[:, member] != decided, -1).astype(np.int8)
        several = (others != ABSTAIN).sum(axis=1) > 1
        unanimous = several & (decision.confidence >= 1.0 - 1e-9)
        clarity = np.where(unanimous, 2, np.where(several & (decision.confidence >= _CLEAR), 1, 0))
        self.compared[member] = outcome, np.maximum(self.attribute, 0) * _CLARITIES + clarity
        return self.compared[member]

    def abstains(self, member: int) -> tuple[Outcomes, Strata]:
        """(n,) 1: abstained, 0: answered, -1: not compared; (n,) stratum."""
        absent = np.where(self.attribute >= 0, self.codes[:, member] == ABSTAIN, -1)
        return absent.astype(np.int8), np.maximum(self.attribute, 0) * _CLARITIES

    def series(self, member: int, kind: str) -> tuple[Rates, Outcomes, Strata]:
        """What a kind of change of a member is tested on."""
        if kind in SCORE_KINDS:
            return self.scored.series(member, kind)
        return self.split(*(self.abstains(member) if kind == "abstains more" else self.against(member)))

    def split(self, outcome: Outcomes, stratum: Strata) -> tuple[Rates, Outcomes, Strata]:
        """Rates of the reference; outcomes and strata of the day."""
        past = len(self.counts)
        rates = reference_rates(outcome[:past], stratum[:past], self.counts, self.n_strata, _CLARITIES)
        return rates, outcome[past:], stratum[past:]


def _test(cells: _Cells, member: int, bar: float) -> Finding | None:
    """The strongest kind of change of a member whose evidence reached the bar."""
    findings = []
    for kind in cells.kinds[member]:
        rates, outcome, stratum = cells.series(member, kind)
        bounds, up = (rates.low, False) if kind in ("disagrees less", LESS_SURE) else (rates.high, True)
        products = cells.products if kind in SCORE_KINDS else None
        found = evidence(outcome, bounds[stratum], up, products)
        if found.max() >= bar:
            reached = int((found >= bar).argmax()) + 1
            findings.append(Finding(cells.members[member], kind, reached, float(found.max())))
    return max(findings, key=lambda finding: finding.log_evidence, default=None)


def _figures(cells: _Cells, member: int, bar: float) -> MemberDrift:
    rates, outcome, stratum = cells.split(*cells.against(member))
    known = outcome >= 0
    compared = max(int(known.sum()), 1)
    mixture = np.bincount(stratum[known], minlength=cells.n_strata)
    absent, past = cells.codes[:, member] == ABSTAIN, len(cells.counts)
    expected, low, high = (float(mixture / compared @ rate) for rate in (rates.rate, rates.low, rates.high))
    return MemberDrift(
        member=cells.members[member],
        compared=int(known.sum()),
        disagreement=float((outcome == 1).sum() / compared),
        expected=expected,
        low=low,
        high=high,
        abstained=float(absent[past:].mean()),
        abstained_before=float(np.average(absent[:past], weights=cells.counts)),
        noticeable=noticeable(rates, mixture, bar),
    )


def _check(statistic: Statistic, day: VotesTable, weights: Weights | None, alarm: float) -> None:
    if statistic.members != day.members:
        raise DriftError(
            f"the reference has the members {list(statistic.members)}, the day {list(day.members)}; "
            "compare votes of the same members in the same order"
        )
    if weights is not None and weights.members != day.members:
        raise WeightsError(f"weights for {list(weights.members)}, votes of {list(day.members)}")
    if not len(day) or not statistic.hist.total:
        raise DriftError("no votes to compare; both the reference and the day need some")
    if len(day.members) < 2 and statistic.scored is None:
        raise DriftError(
            "a single member has no others to disagree with; drift needs at least 2 members, or earlier "
            "votes with scores"
        )
    if not 0.0 < alarm < 1.0:
        raise DriftError(f"alarm is {alarm}; it is a probability above 0 and below 1")


def _verdict(findings: Sequence[Finding], scored: Mapping[str, int], cells: int, power: str) -> str:
    if not findings:
        return f"No member changed, as far as {cells} cells tell. {power}".rstrip()
    parts = [
        f"{f.member} {words_of(f.kind, scored.get(f.member, 0))} (alarm at cell {f.cell} of {cells})"
        for f in findings
    ]
    return "; ".join(parts) + ". Look at what changed there, then learn the weights again."


def _power(figures: Sequence[MemberDrift]) -> str:
    blind = [figure.member for figure in figures if figure.noticeable is None]
    if blind:
        return f"That is too few to notice any change of {', '.join(blind)}."
    worst = max(figures, key=lambda figure: (figure.noticeable or 0.0) - figure.expected)
    return (
        f"A change shows on about half of such days if {worst.member}, say, disagrees with the others in "
        f"{100 * (worst.noticeable or 0.0):.0f} instead of {100 * worst.expected:.0f} % of the cells."
    )
