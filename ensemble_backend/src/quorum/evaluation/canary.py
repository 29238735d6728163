# SPDX-License-Identifier: Apache-2.0
"""Compare canary and stable on the same products, with intervals, and apply the rules.

Both channels have the same members and only the vote differs, so recorded votes are enough for a paired
comparison: each cell is decided with both versions of the weights. A replay asks both channels about the
same products instead, and measures latencies and failures too. Intervals are percentile bootstraps over
products (Efron & Tibshirani 1993, ch. 13): the cells of a product are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKind, AnswerKinds, kind_in, recorded_kinds
from quorum.decision.catalogue_change import OUTSIDE
from quorum.decision.quorum_rule import QuorumRule
from quorum.decision.weights import Weights
from quorum.deployment.schema import CanarySpec, Guard
from quorum.evaluation import by_attribute, stats
from quorum.evaluation.answers import agreement_of, answer_score, decide_answers
from quorum.evaluation.by_attribute import Judgement, headline
from quorum.evaluation.measures import Flags
from quorum.evaluation.stats import Estimate, is_surely_above, means_over_products, unseen_share
from quorum.evaluation.verdict import Latency, Metric, Verdict, Worse, judge
from quorum.learning.by_kind import is_taught_by_gold
from quorum.records import Record
from quorum.votes import Cell, VotesTable
from quorum.votes.outside import as_one
from quorum.votes.readable import readable
from quorum_contract.errors import QuorumError

STABLE = "stable"
_PLAIN = QuorumRule()


@dataclass(frozen=True, slots=True)
class Decided:
    """One channel's answer on one cell.

    Attributes:
        value: The decision; ``None``: all members abstained, or too few answered for a quorum.
        confidence: In [0, 1].
        agreement: Share of the votes cast that name the value; of answers of other kinds, how like them it is
            (:func:`quorum.evaluation.answers.agreement_of`).
    """

    value: str | None
    confidence: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One cell, decided by both channels; ``gold`` holds acceptable answers, empty without a label.

    ``category`` and ``text`` are those of the product, where they are known; ``kind`` is that of the answer.
    """

    product: str
    attribute: str
    stable: Decided
    canary: Decided
    gold: tuple[str, ...] = ()
    category: str = ""
    kind: AnswerKind = "value"
    text: str = ""

    @property
    def right(self) -> tuple[float, float]:
        """Score of stable and of the canary, 1 where a single value is right; 0 without gold."""
        cell = Cell(self.product, "", self.text, self.attribute, (), self.gold)
        stable, canary = (answer_score(cell, side.value, self.kind) for side in (self.stable, self.canary))
        return stable, canary


@dataclass(frozen=True, slots=True)
class Observed:
    """Latencies and failures of one channel, as callers saw them.

    Attributes:
        latencies_ms: Product -> time to its answer.
        failed: Products that it could not answer, or that stable answered in its place.
    """

    latencies_ms: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Changed:
    """Cells of an attribute that changed from the same decision of stable to the same one of the canary.

    Attributes:
        cells: Number of them.
        better: Labelled cells among them where the canary scores higher, as where it alone is right;
            ``worse``: where stable does.
        product: An example.
    """

    attribute: str
    stable: str | None
    canary: str | None
    cells: int
    better: int
    worse: int
    product: str


@dataclass(frozen=True, slots=True)
class Moved:
    """How often the channels decide the cells of an attribute differently.

    Attributes:
        cells: Number of its cells.
        changed: Share of them that are decided differently.
        agreement: That of the canary minus that of stable, see :class:`Decided`; ``confidence`` likewise.
        stands_out: Whether its share is surely more than twice that of all other cells, and above
            ``max_worse``.
    """

    cells: int
    changed: float
    agreement: float
    confidence: float
    stands_out: bool


@dataclass(frozen=True, slots=True)
class Report(Record):
    """The comparison.

    Attributes:
        products: Products seen; ``gold_products``: those with gold.
        cells: Cells decided by both; ``gold_labels``: those with gold.
        changed: Share of the cells that they decide differently.
        agreement: See :class:`Decided`.
        confidence: See :class:`Decided`; not comparable between methods.
        accuracy: Share of labelled cells decided right, or mean score of answers of other kinds; ``None``
            without gold.
        latency: ``None`` where none was recorded.
        failed: Products that only the canary could not answer, of those that it was asked about.
        asked: Products that the canary was asked about; 0 for recorded votes without such.
        top: The most frequent differences.
        verdict: The verdict of the rules.
        trained_on: Whether a channel's weights were learned from these labels; see :func:`is_trained_on`.
        moved: Attribute -> how much changes there, with or without gold.
        compared: The canary against stable by attribute and category, on the cells with gold; empty without.
    """

    stable_version: int
    canary_version: int
    products: int
    cells: int
    gold_products: int
    gold_labels: int
    changed: Estimate
    agreement: Metric
    confidence: Metric
    accuracy: Metric | None
    latency: Latency | None
    failed: int
    asked: int
    top: list[Changed]
    verdict: Verdict
    trained_on: bool
    moved: Mapping[str, Moved]
    compared: Mapping[str, Judgement]


class NothingToCompareError(QuorumError, ValueError):
    """There is no evidence about the two versions."""

    code = "NOTHING_TO_COMPARE"


def pairs_from_votes(
    table: VotesTable,
    stable: Weights,
    canary: Weights,
    rule: QuorumRule = _PLAIN,
    kinds: AnswerKinds | None = None,
) -> list[Pair]:
    """Decide recorded votes, of whichever channel, with the weights of both; withhold as the server does."""
    known, sides = kinds or {}, []
    table, _ = readable(table, known)
    for weights in (stable, canary):
        side = decide_answers(table, weights, known)
        of_cells = [kind_in(known, cell.attribute) for cell in table.cells]
        decided = map(_decided, table.cells, side.values, side.confidence.tolist(), of_cells)
        sides.append([_withheld(rule, weights, *pair) for pair in zip(table.cells, decided, strict=True)])
    cells = zip(table.cells, *sides, strict=True)
    return [
        Pair(
            cell.product, cell.attribute, was, now, cell.gold, cell.category,
            kind_in(known, cell.attribute), cell.title,
        )
        for cell, was, now in cells
    ]  # fmt: skip


def is_trained_on(table: VotesTable, weights: Weights) -> bool:
    """Whether weights were learned from the labels of this table, by the hashes in their provenance.

    Detects a whole table, with all of its gold or a drawn part, alone or among others (``learn --update``);
    not a part of a table, a table that was labelled further, or Parquet, which leaves no hash.
    """
    record = weights.provenance
    labels, seed = record.get("gold_labels"), record.get("seed")
    if not is_taught_by_gold(weights) or not labels or sorted(table.members) != sorted(weights.members):
        return False
    table = table.of_members(weights.members)
    if OUTSIDE in recorded_kinds(weights.settings) and isinstance(weights.catalogue, Mapping):
        table = as_one(table, weights.catalogue)
    if seed is not None:
        if labels > table.labelled.sum():
            return False
        table = table.sample_gold(labels, seed)
    return table.data_hash() in (record.get("data_hash"), *record.get("labelled_tables", ()))


def compare_channels(
    pairs: Sequence[Pair],
    versions: tuple[int, int],
    rules: CanarySpec,
    observed: tuple[Observed, Observed] | None = None,
    top: int = 10,
    trained_on: bool = False,
    guard: Guard = "overall",
) -> Report:
    """Compare the channels and apply the rules.

    Args:
        pairs: Cells decided by both.
        versions: Of the stable channel and of the canary.
        rules: When to promote, when to roll back.
        observed: Latencies and failures of stable and canary.
        top: Number of the most frequent differences to list.
        trained_on: Whether the weights of a channel were learned from the gold; then it does not decide.
        guard: ``rollout.guard``: whether an attribute that is worse ends a canary, or only holds it back.

    Raises:
        NothingToCompareError: No cells.
    """
    if not pairs:
        raise NothingToCompareError("no product was answered by both channels; nothing to compare")
    index = {name: i for i, name in enumerate(dict.fromkeys(pair.product for pair in pairs))}
    products = np.array([index[pair.product] for pair in pairs], np.int32)
    gold = np.array([bool(pair.gold) for pair in pairs])
    tail = (1 - rules.confidence) / 2
    decided = [(pair.stable, pair.canary) for pair in pairs]
    measures = [
        [(s.agreement, c.agreement), (s.confidence, c.confidence), (0.0, s.value != c.value)]
        for s, c in decided
    ]
    agreement, confidence, change = _metrics(measures, products, tail)
    share = change.delta if change.canary else Estimate(0.0, 0.0, unseen_share(len(index), tail))
    accuracy = _accuracy([pair for pair in pairs if pair.gold], products[gold], tail)
    stable, canary = observed or (Observed(), Observed())
    latency = _latency(stable.latencies_ms, canary.latencies_ms, tail)
    failed = len(canary.failed - stable.failed)
    asked = len(canary.latencies_ms.keys() | canary.failed)
    seen, labelled = len(index), len(np.unique(products[gold]))
    compared = _compared(pairs, products, gold, rules.max_worse)
    moved = _moved(pairs, products, rules.max_worse, tail)
    judged = compared[STABLE].by_attribute if compared else {}
    known = {name for name, found in judged.items() if found.verdict != "too few cells"}
    unknown = ", ".join(name for name, m in moved.items() if m.stands_out and name not in known)
    worse = Worse(headline(compared), unknown, ends=guard == "per_attribute")
    verdict = judge(rules, share, accuracy, latency, seen, labelled, failed, asked, trained_on, worse)
    return Report(
        *(*versions, seen, len(pairs), labelled, int(gold.sum())),
        changed=share,
        agreement=agreement,
        confidence=confidence,
        accuracy=accuracy,
        latency=latency,
        failed=failed,
        asked=asked,
        top=_top(pairs, top),
        verdict=verdict,
        trained_on=trained_on,
        moved=moved,
        compared=compared,
    )


def _compared(
    pairs: Sequence[Pair], products: npt.NDArray[np.int32], gold: Flags, margin: float
) -> dict[str, Judgement]:
    labelled = [pair for pair in pairs if pair.gold]
    if not labelled:
        return {}
    kinds = [(pair.category, pair.attribute) for pair in labelled]
    stable, canary = np.array([pair.right for pair in labelled], np.float64).T
    return {STABLE: by_attribute.judge(kinds, products[gold], canary, stable, STABLE, margin=margin)}


def _moved(
    pairs: Sequence[Pair], products: npt.NDArray[np.int32], max_worse: float, tail: float
) -> dict[str, Moved]:
    """Change of each attribute; one stands out by an exact test over products, all attributes together."""
    names = np.array([pair.attribute for pair in pairs])
    changed = np.array([pair.stable.value != pair.canary.value for pair in pairs])
    gains = np.array([_gain(pair) for pair in pairs])
    found, attributes = {}, np.unique(names)
    for name in attributes:
        own = names == name
        share, rest = float(changed[own].mean()), 1.0 if own.all() else float(changed[~own].mean())
        agreement, confidence = gains[own].mean(axis=0).tolist()
        moved, seen = len(np.unique(products[own & changed])), len(np.unique(products[own]))
        bar = min(1.0, max(2 * rest, max_worse))
        stands_out = is_surely_above(moved, seen, bar, tail / len(attributes))
        found[str(name)] = Moved(int(own.sum()), share, agreement, confidence, stands_out)
    return found


def _gain(pair: Pair) -> tuple[float, float]:
    was, now = pair.stable, pair.canary
    return now.agreement - was.agreement, now.confidence - was.confidence


def _decided(cell: Cell, value: str, confidence: float, kind: AnswerKind) -> Decided:
    return Decided(value or None, confidence, agreement_of(value, cell.values, kind, cell.title))


def _withheld(rule: QuorumRule, weights: Weights, cell: Cell, decided: Decided) -> Decided:
    """The answer that a caller gets: without a value where the members that answered are no quorum."""
    if decided.value is None or rule.is_plain:
        return decided
    answered = [value is not None for value in cell.values]
    met = rule.is_met(weights.parameters(cell.attribute, cell.category), answered)
    return decided if met else Decided(None, 0.0, 0.0)


def _accuracy(pairs: Sequence[Pair], products: npt.NDArray[np.int32], tail: float) -> Metric | None:
    if not pairs:
        return None
    right = [pair.right for pair in pairs]
    (metric,) = _metrics([[sides] for sides in right], products, tail)
    if any(was != now for was, now in right):
        return metric
    unseen = unseen_share(len(np.unique(products)), tail)
    return Metric(metric.stable, metric.canary, Estimate(0.0, -unseen, unseen))


def _metrics(
    values: Sequence[Sequence[tuple[float, float]]], products: npt.NDArray[np.int32], tail: float
) -> list[Metric]:
    """Figures of k measures from (n, k, 2) values: of stable and of the canary, per cell."""
    sides = np.array(values, np.float64)
    deltas = means_over_products(sides[:, :, 1] - sides[:, :, 0], products, tail)
    means = sides.mean(axis=0).tolist()
    return [Metric(was, now, delta) for (was, now), delta in zip(means, deltas, strict=True)]


def _latency(stable: dict[str, float], canary: dict[str, float], tail: float) -> Latency | None:
    if not stable or not canary:
        return None
    both = [name for name in stable if name in canary]
    # Paired where the channels answered mostly the same products, as in a replay; else two samples.
    paired = 2 * len(both) >= min(len(stable), len(canary))
    left, right = (np.array([side[name] for name in (both if paired else side)]) for side in (stable, canary))
    ratio = stats.median_ratio(right, left, paired=paired, tail=tail, resamples=stats.RESAMPLES // 2)
    (s50, s95), (c50, c95) = (stats.quantiles(side, (0.5, 0.95)).tolist() for side in (left, right))
    return Latency(s50, s95, c50, c95, ratio, min(len(left), len(right)))


def _top(pairs: Sequence[Pair], count: int) -> list[Changed]:
    kinds: dict[tuple[str, str | None, str | None], list[Pair]] = {}
    for pair in pairs:
        if pair.stable.value != pair.canary.value:
            kinds.setdefault((pair.attribute, pair.stable.value, pair.canary.value), []).append(pair)
    changes = []
    for kind, same in sorted(kinds.items(), key=lambda item: -len(item[1]))[:count]:
        right = [pair.right for pair in same]
        better, worse = sum(now > was for was, now in right), sum(now < was for was, now in right)
        changes.append(Changed(*kind, len(same), better, worse, same[0].product))
    return changes
