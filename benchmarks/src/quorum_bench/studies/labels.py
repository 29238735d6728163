# SPDX-License-Identifier: Apache-2.0
"""Measure what few gold labels give, over many draws of them, and what they cost single attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from quorum.decision.weights import equal_weights
from quorum.deployment import load_deployment
from quorum.deployment.schema import Deployment
from quorum.evaluation.heldout import assign_folds, training
from quorum.evaluation.measures import calibration_error
from quorum.evaluation.score import apply, hits, is_right
from quorum.evaluation.stats import mean_over_products
from quorum.learning import learn, learn_statistic
from quorum.votes import read_votes
from quorum.votes.table import VotesTable
from quorum_bench.studies.score_votes import Counts, Flags, demo_votes, percent, seed_votes

Row = dict[str, Any]
SIZES = (50, 100, 200)
REAL_SIZES = (25, 50, 100, 200, 400, 800, None)
FOLDS = 5
HURT = 3.0
"""Points below majority from which an attribute counts as hurt."""
LEAST_CELLS = 20
WANTED = {50: 87.0, 100: 88.0, 200: 89.0}
"""Wanted mean accuracy by number of labels, on the demo's own listings without scores."""
MOST_BELOW, MOST_HURT, MOST_LOST = 1, 2, 0.1
COMMON: Mapping[str, Any] = {"per_attribute": False}


@dataclass(frozen=True)
class Inputs:
    """Votes that the parts share, read or recorded once.

    Attributes:
        folder: Of the votes on the demo's listings, and on those of further seeds; None: they are not kept.
        deploy: ``deploy.yaml`` of the LLMs.
        ae110k: Recorded votes of LLMs on AE-110K; None, or no such file: left out.
        seeds: Number of further listings.
        draws: Draws of labels per size.
    """

    folder: Path | None
    deploy: Path
    ae110k: Path | None
    seeds: int = 2
    draws: int = 40

    @cached_property
    def tables(self) -> Sequence[tuple[str, VotesTable]]:
        """Votes on the demo's listings, and on as many of each further seed, by a name."""
        own = demo_votes(self.folder, self.deployment)
        return [("demo", own), *seed_votes(self.folder, self.deployment, self.seeds, own.n_products)]

    @cached_property
    def deployment(self) -> Deployment:
        """That of the LLMs."""
        return load_deployment(self.deploy)


def demo(inputs: Inputs) -> Iterator[Row]:
    """Per table, with or without scores, and size: figures of draws, by attribute and with common weights.

    Labels are of the first half of the products; all is judged on the other half.
    """
    counts = inputs.deployment.catalogue().value_counts()
    for name, table in inputs.tables:
        first = table.products < (table.n_products + 1) // 2
        for scores in (False, True):
            votes = table if scores else table.without_scores()
            learn_from, judge = (votes.take(np.flatnonzero(half)) for half in (first, ~first))
            for labels in SIZES:
                row: Row = {"table": name, "scores": scores, "labels": labels}
                yield row | _drawn(learn_from, judge, labels, inputs.draws, counts)


def _drawn(learn_from: VotesTable, judge: VotesTable, labels: int, draws: int, counts: Counts) -> Row:
    names = np.array([cell.attribute for cell in judge.cells])
    attributes = [(name, names == name) for name in np.unique(names).tolist()]
    majority = hits(judge, equal_weights(judge.members))
    seeds = [1000 * labels + draw for draw in range(draws)]
    row: Row = {"seeds": [seeds[0], seeds[-1]], "majority": percent(majority)}
    # Where scores count, attributes have common weights in any case.
    for name, settings in (("by_attribute", {}), ("common", COMMON)):
        learned = (
            learn(
                learn_from, "loglinear", gold_labels=labels, seed=seed, value_counts=counts, settings=settings
            )
            for seed in seeds
        )
        right = np.array([hits(judge, weights) for weights in learned])
        row[name] = _figures(right, majority, attributes)
    return row


def _figures(right: Flags, majority: Flags, attributes: Sequence[tuple[str, Flags]]) -> Row:
    """Of (draws, n) right cells: mean and lowest accuracy, draws below majority, draws that hurt, worst."""
    accuracies = 100.0 * right.mean(axis=1)
    away = {
        name: 100.0 * (right[:, cells].mean(axis=1) - majority[cells].mean()) for name, cells in attributes
    }
    worst = min(away, key=lambda name: float(away[name].min()))
    hurt = np.any([points < -HURT - 1e-9 for points in away.values()], axis=0)
    return {
        "mean": float(accuracies.mean()),
        "lowest": float(accuracies.min()),
        "below": int((accuracies < percent(majority) - 1e-9).sum()),
        "hurt": int(hurt.sum()),
        "worst": [worst, float(away[worst].min())],
    }


DEMO_HEAD = (
    "Draws of gold labels from 200 listings, judged on 200 others; weights by attribute, in brackets common\n"
    "Draw d of n labels has the seed 1000 n + d, from d = 0 on\n"
    "below: draws below majority; hurt: draws with an attribute more than 3 points below majority\n"
    f"{'table':8}{'scores':8}{'labels':>6}{'majority':>10}{'mean':>15}{'lowest':>15}{'below':>10}{'hurt':>10}"
    "  worst attribute"
)


def demo_line(row: Row) -> str:
    """Return a row as a line."""
    new, old = row["by_attribute"], row["common"]
    pairs = "".join(f"{f'{new[name]:.2f} ({old[name]:.2f})':>15}" for name in ("mean", "lowest"))
    counts = "".join(f"{f'{new[name]} ({old[name]})':>10}" for name in ("below", "hurt"))
    worst, points = new["worst"]
    return (
        f"{row['table']:8}{'yes' if row['scores'] else 'no':8}{row['labels']:6d}{row['majority']:10.2f}"
        f"{pairs}{counts}  {worst} {points:+.1f}"
    )


def demo_summary(rows: Sequence[Row], draws: int) -> str:
    """Return what was wanted of the demo's own listings, and whether it came out."""
    lines = []
    for row in rows:
        if row["table"] != "demo" or row["scores"]:
            continue
        labels, new = row["labels"], row["by_attribute"]
        met = new["mean"] >= WANTED[labels] and new["below"] <= MOST_BELOW and new["hurt"] <= MOST_HURT
        lines.append(
            f"{labels} labels, demo, no scores: wanted mean >= {WANTED[labels]:g}, below <= {MOST_BELOW} and "
            f"hurt <= {MOST_HURT} of {draws}: {_verdict(met)}"
        )
    return "\n".join(lines)


def real(inputs: Inputs, seeds: int = 5) -> Iterator[Row]:
    """Per size, on AE-110K: held-out accuracy by attribute and with common weights, paired, and ECE."""
    if inputs.ae110k is None or not inputs.ae110k.is_file():
        return
    table = read_votes(inputs.ae110k)
    names = np.array([cell.attribute for cell in table.cells])
    majority = is_right(table, apply(table, equal_weights(table.members)))
    large = [name for name in np.unique(names).tolist() if (names == name).sum() >= LEAST_CELLS]
    for labels in REAL_SIZES:
        new, confidences = _held_out(table, labels, seeds, {})
        old, _ = _held_out(table, labels, seeds, COMMON)
        errors = [calibration_error(*pair) for pair in zip(confidences, new, strict=True)]
        gain = mean_over_products((new.mean(axis=0) - old.mean(axis=0)), table.products)
        attributes = {}
        for name in large:
            cells = names == name
            away = new[:, cells].mean(axis=0) - majority[cells]
            found = mean_over_products(away, table.products[cells])
            attributes[name] = [100.0 * figure for figure in (found.value, found.low, found.high)]
        yield {
            "labels": labels,
            "seeds": seeds,
            "majority": percent(majority),
            "by_attribute": percent(new),
            "common": percent(old),
            "gain": [100.0 * figure for figure in (gain.value, gain.low, gain.high)],
            "ece": 100.0 * float(np.mean(errors)),
            "attributes": attributes,
            "worse": [name for name, (_, _, high) in attributes.items() if high < 0.0],
        }


def _held_out(
    table: VotesTable, labels: int | None, seeds: int, settings: Mapping[str, Any]
) -> tuple[Flags, Any]:
    """(seeds, n) right cells and their confidences, folds and labels drawn as ``quorum evaluate`` does."""
    right, confidence = np.zeros((seeds, len(table)), np.bool_), np.zeros((seeds, len(table)))
    for seed in range(seeds):
        fold = assign_folds(table.products, FOLDS, seed)
        for part, seen in enumerate(training(table, fold, labels, seed)):
            decision = apply(table, learn_statistic(seen.statistic(), "loglinear", settings=settings))
            test = fold == part
            right[seed, test] = is_right(table, decision)[test]
            confidence[seed, test] = decision.confidence[test]
    return right, confidence


REAL_HEAD = (
    f"AE-110K, five runs, {FOLDS}-fold cross-validation over products, mean of 5 seeds (0 to 4)\n"
    f"{'labels':>6}{'majority':>10}{'by attribute':>14}{'common':>8}{'difference':>24}{'ECE':>6}"
    f"  attributes of {LEAST_CELLS} cells and more that are worse than majority beyond their interval"
)


def real_line(row: Row) -> str:
    """Return a row as a line."""
    value, low, high = row["gain"]
    labels = "all" if row["labels"] is None else str(row["labels"])
    return (
        f"{labels:>6}{row['majority']:10.2f}{row['by_attribute']:14.2f}{row['common']:8.2f}"
        f"{f'{value:+.2f} [{low:+.2f}, {high:+.2f}]':>24}{row['ece']:6.2f}  "
        f"{', '.join(row['worse']) or 'none'}"
    )


def real_summary(rows: Sequence[Row]) -> str:
    """Return whether weights by attribute cost nothing where attributes are alike."""
    lowest = min(row["gain"][0] for row in rows)
    worse = sum(len(row["worse"]) for row in rows)
    return (
        f"wanted: nowhere more than {MOST_LOST:g} below common weights: {_verdict(lowest >= -MOST_LOST)}; "
        f"no attribute worse than majority: {_verdict(not worse)}"
    )


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"
