# SPDX-License-Identifier: Apache-2.0
"""Judge a canary: apply the rules of ``rollout.canary`` to the figures of a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from quorum.deployment.schema import CanarySpec
from quorum.evaluation.stats import Estimate, is_surely_above
from quorum.reports.figures import bracketed, points_in_words

Action = Literal["promote", "roll back", "keep watching"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure for both channels, and ``canary - stable`` with its interval."""

    stable: float
    canary: float
    delta: Estimate


@dataclass(frozen=True, slots=True)
class Latency:
    """Median and 95th percentile in milliseconds, as callers saw them.

    Attributes:
        ratio: Median canary / median stable.
        products: Measured products, of the channel with fewer.
    """

    stable_p50: float
    stable_p95: float
    canary_p50: float
    canary_p95: float
    ratio: Estimate
    products: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of the rules: the action, and why, for people.

    Attributes:
        more_products: About how many more products would decide; ``None`` when no number would.
    """

    action: Action
    reason: str
    more_products: int | None = None


@dataclass(frozen=True, slots=True)
class Worse:
    """Attributes on which the canary is worse than stable, beyond the margin.

    Attributes:
        words: Their names and differences, for people; "": none.
        unknown: Attributes that change far more than the others and have too little gold to tell how.
        ends: Whether they end the canary (``rollout.guard: per_attribute``), or only hold it back.
    """

    words: str
    unknown: str
    ends: bool


NOT_WORSE = Worse("", "", ends=False)


def judge(
    rules: CanarySpec,
    changed: Estimate,
    accuracy: Metric | None,
    latency: Latency | None,
    products: int,
    gold_products: int,
    failed: int,
    asked: int,
    trained_on: bool = False,
    worse: Worse = NOT_WORSE,
) -> Verdict:
    """Apply the rules; arguments as in :class:`quorum.evaluation.canary.Report`.

    Labels that a version was learned from cannot measure it: then only failures and latency decide. Without
    gold the sign of a difference is unknown, but accuracy cannot drop by more than the share of the
    decisions that change: a canary that changes fewer than ``max_worse`` of them can be promoted. Whatever
    the accuracy over all, a canary that is worse on an attribute is not promoted.
    """
    if is_surely_above(failed, asked, rules.max_failed, (1 - rules.confidence) / 2):
        return Verdict("roll back", f"the canary alone failed on {failed} of {asked} products")
    if latency and latency.products >= rules.min_products and latency.ratio.low > rules.max_latency_ratio:
        return Verdict("roll back", f"the canary takes {_times(latency.ratio)} as long as stable")
    if trained_on:
        return Verdict(
            "keep watching",
            "the weights were learned from these labels; give others, from which no weights were learned",
        )
    # With few labels the bound by the share of changed decisions is the tighter one.
    by_gold = gold_products >= rules.min_products or changed.high > rules.max_worse
    if accuracy is not None and by_gold:
        delta, seen, kind = accuracy.delta, gold_products, "products with gold"
        words = f"difference in accuracy {points_in_words(delta)}"
    else:
        # Bounds: all changed decisions are wrong, or all are right.
        delta, seen, kind = Estimate(0.0, -changed.high, changed.high), products, "products"
        words = (
            f"{'little' if gold_products else 'no'} gold; at most {changed.high:.1%} of the decisions change"
        )
    if seen < rules.min_products:
        missing = rules.min_products - seen
        return Verdict("keep watching", f"{seen} {kind} seen, {rules.min_products} wanted", missing)
    if held_back := _held_back(rules, delta, gold_products, worse):
        return held_back
    if delta.low >= -rules.max_worse:
        most = f"{100 * rules.max_worse:.3g}"
        reason = f"{words}: at most {most} {'point' if most == '1' else 'points'} worse"
        if latency and latency.ratio.value > rules.max_latency_ratio:
            return Verdict("keep watching", f"{reason}, but it takes {_times(latency.ratio)} as long")
        if asked and failed / asked > rules.max_failed:
            return Verdict("keep watching", f"{reason}, but it failed on {failed} of {asked} products")
        return Verdict("promote", reason)
    if delta.high < 0:
        return Verdict("roll back", f"{words}: worse")
    if accuracy is None:
        return Verdict("keep watching", f"{words}: label cells (`quorum label`) to tell better from worse")
    return Verdict("keep watching", f"{words}: not decided yet", _more(delta, rules.max_worse, seen))


def _held_back(rules: CanarySpec, delta: Estimate, gold_products: int, worse: Worse) -> Verdict | None:
    """The verdict where an attribute speaks against the canary, whatever the accuracy over all."""
    promotable = delta.low >= -rules.max_worse
    if worse.words and worse.ends and gold_products >= rules.min_products:
        return Verdict("roll back", f"{worse.words}, which rollout.guard: per_attribute forbids")
    if worse.words and (promotable or delta.high >= 0):
        return Verdict("keep watching", f"{worse.words}; over all {points_in_words(delta)}")
    if promotable and worse.ends and worse.unknown:
        return Verdict("keep watching", f"{worse.unknown}: far more changes there; label cells of it")
    return None


def _more(delta: Estimate, max_worse: float, seen: int) -> int | None:
    """Products until a bound decides, if the difference stays and the width shrinks with the root of n."""
    bounds = [(delta.value + max_worse, delta.value - delta.low), (-delta.value, delta.high - delta.value)]
    needed = [math.ceil(seen * (width / room) ** 2) for room, width in bounds if room > 0]
    return max(1, min(needed) - seen) if needed else None


def _times(ratio: Estimate) -> str:
    return bracketed(f"{ratio.value:.2f} times", f"{ratio.low:.2f}", f"{ratio.high:.2f}")
