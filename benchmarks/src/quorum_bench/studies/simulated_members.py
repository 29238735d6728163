# SPDX-License-Identifier: Apache-2.0
"""Compare learned weights with the best that can be known at all, on simulated members."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Rule, decide
from quorum.decision.histogram import compress, histogram, right_mask
from quorum.decision.patterns import ABSTAIN
from quorum.evaluation import apply
from quorum.evaluation.heldout import assign_folds
from quorum.evaluation.score import as_rule, is_right
from quorum.evaluation.stats import half_width
from quorum.learning import learn, learn_statistic
from quorum.learning.em import OneCoin, log_odds
from quorum.learning.loglinear import LogLinear
from quorum.learning.simulate import accuracy_percent, bayes_winner, independent, with_bloc
from quorum.review.choose import choose
from quorum.votes import read_votes
from quorum.votes.statistic import Statistic

Row = dict[str, Any]
PARTS = ("em", "gold", "shrinkage", "blocs", "label")
SIZES = {1_000: 0.25, 10_000: 0.05}
LABELS = {200: 1.5, 1000: 0.75}
HEAD = (
    "Points of accuracy lost (+-: half the 95 % interval of the mean over seeds)\n\n"
    f"{'part':10}{'setting':42}{'reference':>10}{'want':>7}{'got':>7}{'+-':>6}  verdict"
)


def rows_of(part: str, quick: bool, votes: Path | None = None) -> Iterator[Row]:
    """Yield a row per setting of a part, as soon as it is known.

    Args:
        part: One of :data:`PARTS`.
        quick: Fewer settings and seeds.
        votes: Recorded votes with gold; the part ``label`` needs them.

    Raises:
        ValueError: ``label`` without votes.
    """
    if part == "label":
        if votes is None:
            raise ValueError("the part label needs recorded votes with gold: --votes FILE")
        rows = _label(votes, quick)
    else:
        rows = {"em": _em, "gold": _gold, "shrinkage": _shrinkage, "blocs": _blocs}[part](quick)
    for row in rows:
        yield {"part": part, **row}


def line(row: Row) -> str:
    """Return a row as a line of the table under :data:`HEAD`."""
    verdict = "met" if row["got"] <= row["want"] else "MISSED"
    return (
        f"{row['part']:10}{row['setting']:42}{row['reference']:10.2f}{row['want']:7.2f}{row['got']:7.2f}"
        f"{row['half']:6.2f}  {verdict}"
    )


def summary(part: str, rows: list[Row]) -> str:
    """Return the last line of a part."""
    missed = sum(row["got"] > row["want"] for row in rows)
    return f"{part:10}{len(rows)} settings, {missed} missed, worst {max(r['got'] for r in rows):.2f}"


def _em(quick: bool) -> Iterator[Row]:
    """Independent members: em against MAP with the true accuracies."""
    members = (3, 5, 8) if quick else (3, 4, 5, 6, 7, 8)
    for (cells, want), m, values in itertools.product(SIZES.items(), members, (3, 10, 50)):
        lost, best = [], []
        for seed in range(8 if quick else 20):
            rng = np.random.default_rng(seed)
            accuracy = rng.permutation(np.linspace(0.55, 0.95, m))
            codes, truth = independent(rng, cells, accuracy, values)
            oracle = decide(codes, Rule(log_odds(accuracy, values)[None], np.zeros(1)))
            fitted = OneCoin(float(values), per_group=False).fit(histogram(codes)).predict(codes)
            best.append(accuracy_percent(oracle, codes, truth))
            lost.append(best[-1] - accuracy_percent(fitted, codes, truth))
        yield _row(f"{cells} cells, {m} members, K {values}", best, want, lost)


def _gold(quick: bool) -> Iterator[Row]:
    """Members of which some repeat each other: loglinear from few labels against the exact Bayes decision."""
    blocs = [(5, 3), (8, 4)] if quick else [(5, 2), (5, 3), (5, 5), (6, 3), (8, 3), (8, 5)]
    for phi, (m, size), values in itertools.product((0.3, 0.6), blocs, (3, 10)):
        lost: dict[int, list[float]] = {labels: [] for labels in LABELS}
        best, seen = [], []
        for seed in range(4 if quick else 8):
            rng = np.random.default_rng(seed)
            accuracy = rng.permutation(np.linspace(0.7, 0.9, m))
            bloc = list(range(size))
            codes, truth = with_bloc(rng, 10_000, accuracy, values, bloc, _share(accuracy[:size], phi))
            seen.append(_phi(codes[:, :size] != truth[:, None]))
            hist, where = compress(codes)
            winner = bayes_winner(hist, accuracy, values, bloc, _share(accuracy[:size], phi))[where]
            best.append(100.0 * float(np.mean(codes[np.arange(len(codes)), winner] == truth)))
            order = rng.permutation(len(codes))
            for labels in LABELS:
                gold = np.where(np.isin(np.arange(len(codes)), order[:labels]), truth, ABSTAIN)
                fit = LogLinear(labels=float(values)).fit(histogram(codes, None, right_mask(codes, gold)))
                lost[labels].append(best[-1] - accuracy_percent(fit.predict(codes), codes, truth))
        for labels, want in LABELS.items():
            name = f"{labels} labels, phi {np.mean(seen):.2f}, {size} of {m}, K {values}"
            yield _row(name, best, want, lost[labels])


def _shrinkage(quick: bool) -> Iterator[Row]:
    """20 attributes: shrunk accuracies against the better of shared and separate ones."""
    for m, spread, cells in itertools.product(
        (3, 5), (0.0, 0.5, 1.0), (20, 100) if quick else (20, 100, 500)
    ):
        hits = []
        for seed in range(4 if quick else 10):
            rng = np.random.default_rng(seed)
            groups = np.repeat(np.arange(20, dtype=np.int32), cells)
            base = rng.permutation(np.linspace(0.55, 0.95, m))
            logit = np.log(base / (1.0 - base)) + spread * rng.normal(size=(20, m))
            codes, truth = independent(rng, len(groups), (1.0 / (1.0 + np.exp(-logit)))[groups], 10)
            hist = histogram(codes, groups)
            shrunk = accuracy_percent(OneCoin(10.0).fit(hist).predict(codes, groups), codes, truth)
            shared = accuracy_percent(
                OneCoin(10.0, per_group=False).fit(hist).predict(codes, groups), codes, truth
            )
            alone = [
                accuracy_percent(OneCoin(10.0).fit(histogram(part)).predict(part), part, truth[groups == g])
                for g in range(20)
                for part in [codes[groups == g]]
            ]
            hits.append([shrunk, shared, float(np.mean(alone))])
        table = np.array(hits)
        other = table[:, 1 + int(table[:, 1:].mean(axis=0).argmax())]
        yield _row(f"{m} members, spread {spread}, {cells} cells each", other, 0.15, other - table[:, 0])


def _blocs(quick: bool) -> Iterator[Row]:
    """Independent members: em that looks for blocs against em that does not, also with K taken for 10."""
    members = (4, 8) if quick else (4, 5, 6, 8)
    for m, values, known in itertools.product(members, (3, 10, 50), (True, False)):
        if known and values == 10:
            continue
        lost, best = [], []
        for seed in range(4 if quick else 10):
            rng = np.random.default_rng(seed)
            accuracy = rng.permutation(np.linspace(0.55, 0.95, m))
            codes, truth = independent(rng, 5_000, accuracy, values)
            statistic = Statistic(tuple(map(str, range(m))), (("", "a"),), histogram(codes))
            counts = {"a": values} if known else {}
            with_, without = (
                accuracy_percent(decide(codes, as_rule(weights, statistic.groups)), codes, truth)
                for weights in (
                    learn_statistic(statistic, "em", value_counts=counts, settings={"blocs": blocs})
                    for blocs in (True, False)
                )
            )
            best.append(without)
            lost.append(without - with_)
        yield _row(f"{m} members, K {values}, {'known' if known else 'taken for 10'}", best, 0.5, lost)


def _label(votes: Path, quick: bool) -> Iterator[Row]:
    """50 chosen labels against 100 random ones, on products that gave no label."""
    table = read_votes(votes)
    hidden = table.with_gold(np.zeros(len(table), np.bool_))
    lost, best = [], []
    for seed in range(4 if quick else 20):
        fold = assign_folds(table.products, 5, seed)
        chosen, drawn = np.zeros(len(table)), np.zeros(len(table))
        for part in range(5):
            rows = np.flatnonzero((fold != part) & table.labelled)
            picks = rows[[c.index for c in choose(hidden.take(rows), 50, seed=seed)]]
            for marks, hits in (
                (picks, chosen),
                (np.random.default_rng(seed).choice(rows, 100, replace=False), drawn),
            ):
                keep = np.zeros(len(table), np.bool_)
                keep[marks] = True
                right = is_right(table, apply(table, learn(table.with_gold(keep), "loglinear")))
                hits[fold == part] = right[fold == part]
        best.append(100.0 * float(drawn[table.labelled].mean()))
        lost.append(best[-1] - 100.0 * float(chosen[table.labelled].mean()))
    yield _row(f"50 chosen, 100 random, {len(table.members)} members", best, 0.0, lost)


def _share(accuracy: npt.NDArray[np.float64], phi: float) -> float:
    """How often a pair must repeat each other for a mean error correlation of ``phi``."""
    wrong = 1.0 - accuracy
    spread = np.sqrt(wrong * accuracy)
    full = (np.minimum.outer(wrong, wrong) - np.outer(wrong, wrong)) / np.outer(spread, spread)
    return float(min(1.0, phi / full[np.triu_indices(len(wrong), 1)].mean()))


def _phi(wrong: npt.NDArray[np.bool_]) -> float:
    return float(np.corrcoef(wrong.T)[np.triu_indices(wrong.shape[1], 1)].mean())


def _row(setting: str, best: Any, want: float, lost: Any) -> Row:
    values = np.asarray(lost, np.float64)
    return {
        "setting": setting,
        "reference": float(np.mean(best)),
        "want": want,
        "got": float(values.mean()),
        "half": half_width(values),
        "seeds": len(values),
    }
