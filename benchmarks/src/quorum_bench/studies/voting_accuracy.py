# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the voting methods on simulated members, against the best decision that votes allow."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from quorum.decision.arrays import Rule, decide, equal_rule
from quorum.decision.histogram import compress, histogram, right_mask
from quorum.decision.patterns import ABSTAIN
from quorum.evaluation.stats import half_width
from quorum.learning.em import OneCoin, log_odds
from quorum.learning.iwmv import Iwmv
from quorum.learning.loglinear import LogLinear
from quorum.learning.simulate import accuracy_percent, bayes_winner, independent, with_bloc

Row = dict[str, Any]
MISSING = 0.1


def gaps_of_independent(seeds: int) -> list[Row]:
    """Return accuracy minus that of MAP with the true accuracies, points; members err independently."""
    rows = []
    for cells, members, values in itertools.product((1_000, 10_000), (3, 5, 8), (3, 10, 50)):
        gaps: dict[str, list[float]] = {name: [] for name in ("oracle", "majority", "iwmv", "em")}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            accuracy = rng.permutation(np.linspace(0.55, 0.95, members))
            codes, truth = independent(rng, cells, accuracy, values, MISSING)
            hist = histogram(codes)
            rules = {
                "oracle": Rule(log_odds(accuracy, values)[None], np.zeros(1)),
                "majority": equal_rule(members),
                "iwmv": Iwmv(float(values)).fit(hist).rule_,
                "em": OneCoin(float(values), per_group=False).fit(hist).rule_,
            }
            for name, rule in rules.items():
                gaps[name].append(accuracy_percent(decide(codes, rule), codes, truth))
        rows.append({"cells": cells, "members": members, "values": values, **_gaps(gaps, "oracle")})
    return rows


def gaps_with_bloc(seeds: int) -> list[Row]:
    """Return the same with a bloc whose members repeat each other, against the exact Bayes decision."""
    rows = []
    for share, members, values in itertools.product((0.3, 0.6), (5,), (3, 10)):
        names = ("oracle", "majority", "iwmv", "em", "loglinear 200", "loglinear 1000")
        gaps: dict[str, list[float]] = {name: [] for name in names}
        phi = []
        bloc = list(range(members // 2 + members % 2))
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            accuracy = rng.permutation(np.linspace(0.55, 0.95, members))
            codes, truth = with_bloc(rng, 10_000, accuracy, values, bloc, share)
            wrong = codes[:, bloc] != truth[:, None]
            phi.append(np.corrcoef(wrong.T)[np.triu_indices(len(bloc), 1)].mean())
            hist, where = compress(codes)
            winner = bayes_winner(hist, accuracy, values, bloc, share)[where]
            gaps["oracle"].append(100.0 * float(np.mean(codes[np.arange(len(codes)), winner] == truth)))
            rules = {
                "majority": equal_rule(members),
                "iwmv": Iwmv(float(values)).fit(hist).rule_,
                "em": OneCoin(float(values), per_group=False).fit(hist).rule_,
            }
            order = rng.permutation(len(codes))
            for labels in (200, 1000):
                gold = np.where(np.isin(np.arange(len(codes)), order[:labels]), truth, ABSTAIN)
                fit = LogLinear(labels=float(values)).fit(histogram(codes, None, right_mask(codes, gold)))
                rules[f"loglinear {labels}"] = fit.rule_
            for name, rule in rules.items():
                gaps[name].append(accuracy_percent(decide(codes, rule), codes, truth))
        rows.append({"share": share, "phi": float(np.mean(phi)), "members": members, "bloc": len(bloc),
                     "values": values, **_gaps(gaps, "oracle")})  # fmt: skip
    return rows


def _gaps(accuracies: dict[str, list[float]], base: str) -> Row:
    """Mean of the base and, for the others, mean difference to it with half its 95 % interval."""
    best = np.array(accuracies.pop(base))
    row: Row = {base: float(best.mean())}
    for name, values in accuracies.items():
        gap = np.array(values) - best
        row[name] = {"gap": float(gap.mean()), "half": half_width(gap)}
    return row
