# SPDX-License-Identifier: Apache-2.0
"""Compute the figures of members and methods from held-out decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKinds
from quorum.decision.arrays import Floats
from quorum.evaluation.answers import is_single, is_written, member_answer_scores
from quorum.evaluation.by_attribute import Judgement, judge, kinds_of
from quorum.evaluation.draws import Draws, resampled, right_cells
from quorum.evaluation.measures import (
    ReliabilityBin,
    accuracy_at,
    calibration_error,
    micro_f1,
    reliability,
)
from quorum.evaluation.stats import Estimate, percentile_interval
from quorum.votes.table import VotesTable


@dataclass(frozen=True, slots=True)
class MethodResult:
    """Held-out figures of one method; shares in [0, 1], intervals are 95 %, bootstrapped over products.

    Where labels are drawn several times, figures are means over the draws, and intervals are over these too.

    Attributes:
        accuracy: Share of labelled cells decided right; ``ci95`` is its interval.
        f1: Micro-F1 of extracting values, "n/a" being no value.
        ece: Expected calibration error of the confidence, 15 bins of equal mass.
        accuracy_at_80: Accuracy on the 80 % of the cells with the highest confidence.
        questions_saved: Share of the questions, one per member and cell, that asking in turn until settled
            saves, with the same decisions; nan where the method cannot stop early.
        delta_best_member: Accuracy minus that of the best single member, chosen in hindsight.
        delta_majority: Accuracy minus that of majority.
        confidence: "agreement", "calibrated" or, overconfident when members repeat each other, "posterior".
        by_attribute: Attribute -> (accuracy, labelled cells).
        compared: Against majority, and other weights that were named, by attribute and category; empty for
            majority.
        reliability: Bins of the reliability diagram.
    """

    accuracy: float
    ci95: tuple[float, float]
    f1: float
    ece: float
    accuracy_at_80: float
    questions_saved: float
    delta_best_member: float
    delta_best_member_ci95: tuple[float, float]
    delta_majority: float
    delta_majority_ci95: tuple[float, float]
    confidence: str
    by_attribute: Mapping[str, tuple[float, int]]
    reliability: Sequence[ReliabilityBin]
    compared: Mapping[str, Judgement]


def results(
    table: VotesTable,
    rows: npt.NDArray[np.int64],
    held: Mapping[str, Draws],
    others: Mapping[str, Floats],
    seed: int,
    kinds: AnswerKinds | None = None,
    best_member: str | None = None,
) -> tuple[dict[str, Estimate], dict[str, MethodResult]]:
    """Figures of each member and of each method.

    Args:
        table: Votes.
        rows: (n,) its labelled cells.
        held: Method -> its held-out decisions; majority stands first.
        others: Name of other weights -> (n,) which of these cells they decide right.
        seed: Of the intervals.
        kinds: Kinds of the attributes; None: all have single values. Reliability and calibration leave out
            written texts, and take a set as right only as a whole; F1 is of single values alone.
        best_member: The member that methods are compared with; None: that of the highest accuracy.
    """
    known = kinds or {}
    voted = member_answer_scores(table, known)[rows]
    columns = [voted[:, j, None] for j in range(len(table.members))]
    columns += [right_cells(rows, draws) for draws in held.values()]
    single = rows[is_single(table, known)[rows]]
    certain = rows[~is_written(table, known)[rows]]
    means = resampled(columns, table.products[rows], seed)
    shares = [float(column.mean()) for column in columns]
    majority = len(table.members)
    best = table.members.index(best_member) if best_member else int(np.argmax(shares[:majority]))
    attributes = np.array([attribute for _, attribute in kinds_of(table)])
    plain = right_cells(rows, held["majority"])
    others = {name: cells for name, cells in others.items() if not np.array_equal(cells, plain[:, 0])}
    against = {"majority": plain, **others}

    def interval(column: int, minus: int | None = None) -> tuple[float, float]:
        low, high = percentile_interval(means[:, column] - (0.0 if minus is None else means[:, minus]))
        return float(low), float(high)

    def mean(figures: Iterable[float]) -> float:
        return float(np.mean(list(figures)))

    def result(column: int, name: str, draws: Draws) -> MethodResult:
        right = right_cells(rows, draws)
        pairs = [(out.confidence[certain], out.right[certain] >= 1.0) for out in draws]
        confidences, flags = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        return MethodResult(
            accuracy=shares[column],
            ci95=interval(column),
            f1=mean(micro_f1(table, [out.values[i] for i in single.tolist()], single) for out in draws),
            ece=mean(calibration_error(*pair) for pair in pairs),
            accuracy_at_80=mean(accuracy_at(*pair) for pair in pairs) if len(certain) else math.nan,
            questions_saved=mean(out.saved for out in draws),
            delta_best_member=shares[column] - shares[best],
            delta_best_member_ci95=interval(column, best),
            delta_majority=shares[column] - shares[majority],
            delta_majority_ci95=interval(column, majority),
            confidence=draws[0].kind,
            by_attribute={
                str(key): (float(right[attributes == key].mean()), int((attributes == key).sum()))
                for key in np.unique(attributes)
            },
            reliability=reliability(confidences, flags),
            compared=_compared(table, right, {n: cells for n, cells in against.items() if n != name}, seed),
        )

    members = {name: Estimate(shares[j], *interval(j)) for j, name in enumerate(table.members)}
    return members, {
        name: result(column, name, draws) for column, (name, draws) in enumerate(held.items(), majority)
    }


def _compared(
    table: VotesTable, right: Floats, against: Mapping[str, Floats], seed: int
) -> dict[str, Judgement]:
    """Judge a method, right on (n, d) of the labelled cells, against others by their names."""
    kinds, products = kinds_of(table), table.products[table.labelled]
    return {name: judge(kinds, products, right, cells, name, seed=seed) for name, cells in against.items()}
