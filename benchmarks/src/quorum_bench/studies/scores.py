# SPDX-License-Identifier: Apache-2.0
"""Measure what scores add to votes: accuracy on many draws, against noise, and without gold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from quorum.evaluation.score import apply
from quorum.evaluation.stats import mean_over_products
from quorum.learning import learn
from quorum.learning.learn import METHODS
from quorum.votes import read_votes
from quorum.votes.table import CodedVotes
from quorum_bench.studies.score_noise import KINDS, changed, simulated, with_drawn_scores
from quorum_bench.studies.score_votes import (
    Flags,
    Halves,
    by_attribute,
    drawn_gold,
    halved,
    hits,
    learned,
    member_hits,
    percent,
    seed_tables,
)

Row = dict[str, Any]
GOLD = 100
LEAST_GAIN = 3.0
LEAST_MEAN = 89.0
MOST_LOST = 0.3
ADDED = ("em_to_better", "em_to_em", "loglinear_to_loglinear")
"""Comparisons: em with scores to the better of em without and majority, and to em; loglinear to loglinear."""


@dataclass(frozen=True)
class Inputs:
    """Votes that the parts share, read or recorded once.

    Attributes:
        folder: Of the votes on the listings of each seed; None: they are not kept.
        deploy: ``deploy.yaml`` of the LLMs.
        ae110k: Recorded votes of LLMs on AE-110K, without scores; None, or no such file: left out.
        seeds: Number of seeds.
    """

    folder: Path | None
    deploy: Path
    ae110k: Path | None
    seeds: int = 10

    @cached_property
    def tables(self) -> Sequence[Halves]:
        """The votes on the listings of each seed."""
        return seed_tables(self.folder, self.deploy, self.seeds)

    @cached_property
    def real(self) -> CodedVotes | None:
        """The votes on AE-110K."""
        return read_votes(self.ae110k).coded() if self.ae110k and self.ae110k.is_file() else None


def seeds(inputs: Inputs) -> Iterator[Row]:
    """Per seed, without gold: accuracies, the gain over the best LLM, and the worst attribute."""
    for table in inputs.tables:
        judge = table.judge
        members = member_hits(judge)
        best = int(members.mean(axis=0).argmax())
        majority = hits(judge)
        plain = hits(judge, learned(table.learn, "em", table.counts, scores=False))
        weights = learned(table.learn, "em", table.counts)
        scored = hits(judge, weights)
        attributes = {
            name: _gain(scored[cells], majority[cells], judge.products[cells])
            for name, cells in by_attribute(judge)
        }
        yield {
            "table": table.name,
            "best_llm": percent(members[:, best]),
            "majority": percent(majority),
            "em": percent(plain),
            "em_scores": percent(scored),
            "gain": _gain(scored, members[:, best], judge.products),
            "attributes": attributes,
            "worst_attribute": min(attributes, key=lambda name: attributes[name][0]),
            "below_majority": [name for name, (_, _, high) in attributes.items() if high < 0.0],
            "score_slopes": list(weights.settings["score_slopes"]),
        }


SEEDS_HEAD = (
    "Without gold, learned on one half of the listings, judged on the other; points with 95 % intervals\n"
    f"{'table':9}{'best LLM':>9}{'majority':>9}{'em':>7}{'em+scores':>10}  {'gain over best LLM':22}"
    "worst attribute, to majority"
)


def seeds_line(row: Row) -> str:
    """Return a row as a line."""
    worst = row["worst_attribute"]
    return (
        f"{row['table']:9}{row['best_llm']:9.1f}{row['majority']:9.1f}{row['em']:7.1f}"
        f"{row['em_scores']:10.1f}  {_interval(row['gain']):22}{worst} {_interval(row['attributes'][worst])}"
    )


def seeds_summary(rows: Sequence[Row]) -> str:
    """Return mean, spread and worst gain, and what is below majority."""
    gains = np.array([row["gain"][0] for row in rows])
    below = [f"{name} ({row['table']})" for row in rows for name in row["below_majority"]]
    columns = ("best_llm", "majority", "em", "em_scores")
    means = [float(np.mean([row[name] for row in rows])) for name in columns]
    spread = gains.std(ddof=1) if len(gains) > 1 else 0.0
    return (
        f"{'mean':9}{means[0]:9.1f}{means[1]:9.1f}{means[2]:7.1f}{means[3]:10.1f}\n"
        f"gain: mean {gains.mean():+.2f}, spread (sd) {spread:.2f}, worst {gains.min():+.2f}; "
        f"wanted no seed below +{LEAST_GAIN:g}: {_verdict(bool(gains.min() >= LEAST_GAIN))}\n"
        f"attributes below majority by more than their interval: {', '.join(below) or 'none'}; "
        f"wanted none: {_verdict(not below)}"
    )


def draws(inputs: Inputs, per_table: int = 4) -> Iterator[Row]:
    """Per draw of gold labels: accuracy of loglinear with and without scores, of em and of majority."""
    for number, table in enumerate(inputs.tables, start=1):
        votes, judge = table.learn, table.judge
        majority = hits(judge)
        em = percent(hits(judge, learned(votes, "em", table.counts)))
        for draw in range(per_table):
            gold = drawn_gold(votes, GOLD, 100 * number + draw)
            weights = learned(votes, "loglinear", table.counts, gold)
            scored = hits(judge, weights)
            plain = hits(judge, learned(votes, "loglinear", table.counts, gold, scores=False))
            yield {
                "table": table.name,
                "draw": draw,
                "loglinear_scores": percent(scored),
                "loglinear": percent(plain),
                "em_scores": em,
                "majority": percent(majority),
                "uses_scores": bool(weights.settings["scores"]),
                "attributes": {
                    name: percent(scored[cells]) - percent(majority[cells])
                    for name, cells in by_attribute(judge)
                },
            }


def draws_table(rows: Sequence[Row]) -> str:
    """Return the table of a part: a line per method, then one per attribute."""
    majority = np.array([row["majority"] for row in rows])
    lines = [
        f"{len(rows)} draws of {GOLD} random gold labels",
        f"{'method':20}{'mean':>8}{'lowest':>8}{'to majority: mean':>19}{'worst':>8}{'below':>8}",
    ]
    for name in ("majority", "em_scores", "loglinear", "loglinear_scores"):
        own = np.array([row[name] for row in rows])
        away = own - majority
        lines.append(
            f"{name:20}{own.mean():8.2f}{own.min():8.2f}{away.mean():+19.2f}{away.min():+8.2f}"
            f"{int((away < 0).sum()):8d}"
        )
    lines += ["", f"{'loglinear_scores by attribute':39}{'mean':>8}{'worst':>8}{'below':>8}"]
    for name in rows[0]["attributes"]:
        away = np.array([row["attributes"][name] for row in rows])
        lines.append(f"{name:39}{away.mean():+8.2f}{away.min():+8.2f}{int((away < 0).sum()):8d}")
    scored = np.array([row["loglinear_scores"] for row in rows])
    below = int((scored < majority).sum())
    lines.append(f"scores used in {sum(row['uses_scores'] for row in rows)} of {len(rows)} draws")
    lines.append(f"wanted mean >= {LEAST_MEAN:g}: {_verdict(bool(scored.mean() >= LEAST_MEAN))}")
    lines.append(f"wanted none below majority: {_verdict(not below)}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Plain:
    """A table, and its accuracies without scores; ``golds`` are the draws of labels for loglinear."""

    table: Halves
    golds: Sequence[Flags]
    em: float
    majority: float
    loglinear: float

    def added(self, kind: str, seed: int) -> dict[str, float]:
        """Points that changed scores add, by the names of :data:`ADDED`."""
        votes = changed(self.table.votes, kind, np.random.default_rng(seed))
        table = replace(self.table, votes=votes)
        em = percent(hits(table.judge, learned(table.learn, "em", table.counts)))
        loglinear = _by_loglinear(table, self.golds)
        figures = (em - max(self.em, self.majority), em - self.em, loglinear - self.loglinear)
        return dict(zip(ADDED, figures, strict=True))


def noise(inputs: Inputs, gold_draws: int = 3) -> Iterator[Row]:
    """Per world and kind of scores: points that scores add to em and to loglinear, per table."""
    for world, tables in _worlds(inputs):
        plain = [_judge_plain(table, gold_draws) for table in tables]
        for kind, (_, is_noise) in KINDS.items():
            added = [one.added(kind, seed) for seed, one in enumerate(plain)]
            figures = {name: [one[name] for one in added] for name in ADDED}
            yield {"world": world, "kind": kind, "noise": is_noise, **figures}


def _worlds(inputs: Inputs) -> Iterator[tuple[str, Sequence[Halves]]]:
    yield "demo", inputs.tables
    if inputs.real is not None:
        drawn = [with_drawn_scores(inputs.real, np.random.default_rng(n)) for n in range(inputs.seeds)]
        yield "AE-110K", [halved(f"split {n}", votes, {}, n) for n, votes in enumerate(drawn)]
    for members in (3, 5):
        accuracy = np.linspace(0.65, 0.85, members)
        votes = [simulated(seed, 600, accuracy) for seed in range(inputs.seeds)]
        yield f"simulated {members}", [halved(f"seed {n}", one, {}) for n, one in enumerate(votes)]


def _judge_plain(table: Halves, draws_: int) -> _Plain:
    votes, judge = table.learn, table.judge
    golds = [drawn_gold(votes, GOLD, seed) for seed in range(draws_)]
    em = percent(hits(judge, learned(votes, "em", table.counts, scores=False)))
    return _Plain(table, golds, em, percent(hits(judge)), _by_loglinear(table, golds, scores=False))


def _by_loglinear(table: Halves, golds: Sequence[Flags], scores: bool = True) -> float:
    """Mean accuracy over draws of gold."""
    votes, judge = table.learn, table.judge
    weights = (learned(votes, "loglinear", table.counts, gold, scores) for gold in golds)
    return float(np.mean([percent(hits(judge, own)) for own in weights]))


_PAIR = f"{'mean':>8}{'worst':>8}"
NOISE_HEAD = (
    f"Points that scores add, mean and worst table; loglinear: {GOLD} gold labels\n"
    f"{'':32}{'em, to the better':>18}{'em, to':>16}{'loglinear,':>16}\n"
    f"{'':32}{'of em, majority':>18}{'em without':>16}{'to without':>16}\n"
    f"{'votes':13}{'scores':19}  {_PAIR}{_PAIR}{_PAIR}  verdict"
)


def noise_line(row: Row) -> str:
    """Return a row as a line."""
    figures = "".join(f"{np.mean(row[name]):+8.2f}{min(row[name]):+8.2f}" for name in ADDED)
    return f"{row['world']:13}{row['kind']:19}  {figures}  {noise_verdict(row)}".rstrip()


def noise_verdict(row: Row) -> str:
    """Return whether no table lost more than wanted, and whether the scores are to blame if one did."""
    better, without, loglinear = (min(row[name]) >= -MOST_LOST for name in ADDED)
    if better and without and loglinear:
        return "met"
    return "em is as low" if without and loglinear else "MISSED"


def noise_summary(rows: Sequence[Row]) -> str:
    """Return the worst row of noise and of other scores."""
    lines = [
        f"wanted: no table more than {MOST_LOST:g} below (`em is as low`: without scores, too, em is below)"
    ]
    for title, is_noise in (("other scores", False), ("noise", True)):
        own = [row for row in rows if row["noise"] is is_noise]
        missed = sum(noise_verdict(row) == "MISSED" for row in own)
        lines.append(f"{title}: {len(own)} rows, {missed} missed; the worst:")
        lines.append(noise_line(min(own, key=worst_of)))
    return "\n".join(lines)


def worst_of(row: Row) -> float:
    """Return what scores cost at most in a table, of em and of loglinear."""
    return float(min(*row[ADDED[1]], *row[ADDED[2]]))


def equal(inputs: Inputs) -> Iterator[Row]:
    """Hash what is learned and decided by votes without scores, to compare with other commits."""
    if inputs.ae110k is None or inputs.real is None:
        return
    table = read_votes(inputs.ae110k)
    created = datetime(2026, 1, 1, tzinfo=UTC)
    yield {"what": "votes", "hash": table.data_hash()}
    for method in sorted(METHODS):
        for labels in (None, GOLD):
            weights = learn(table, method, gold_labels=labels, created=created)
            decision = apply(table, weights)
            digest = hashlib.sha256(decision.winner.tobytes() + decision.confidence.tobytes())
            name = f"{method}, {'all gold' if labels is None else f'{labels} labels'}"
            yield {"what": f"{name}: weights", "hash": weights.content_hash}
            yield {"what": f"{name}: decisions", "hash": f"sha256:{digest.hexdigest()}"}


def equal_line(row: Row) -> str:
    """Return a row of hashes as a line."""
    return f"{row['what']:34}{row['hash'][:39]}"


def _gain(own: Flags, other: Flags, products: Any) -> tuple[float, float, float]:
    """Points by which one is right more often, with the interval over products."""
    estimate = mean_over_products(own.astype(np.float64) - other, products)
    return 100.0 * estimate.value, 100.0 * estimate.low, 100.0 * estimate.high


def _interval(figures: Sequence[float]) -> str:
    value, low, high = figures
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"
