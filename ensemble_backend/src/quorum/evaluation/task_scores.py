# SPDX-License-Identifier: Apache-2.0
"""Score answers by the measure of their kind: F1 of labels, strict F1 of spans, ROUGE of texts.

Every measure is a function of sums over cells, so that an interval over products takes one multiplication.
Tested against scikit-learn, seqeval (strict, IOB2) and rouge-score (without stemmer).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import AnswerKind
from quorum.decision.arrays import Floats
from quorum.evaluation.kinds import KINDS, Measure
from quorum.evaluation.stats import Estimate, bootstrap_sums, percentile_interval
from quorum.votes.schema import Cell
from quorum_contract import Status


def measures(kind: AnswerKind, cells: Sequence[Cell], answers: Sequence[str | None]) -> dict[str, Measure]:
    """The measures of answers to labelled cells of one attribute.

    They are those of :mod:`quorum.evaluation.kinds`.

    Args:
        kind: Of the attribute.
        cells: With gold; of several acceptable answers the one that fits best counts. A cell whose gold
            cannot be read counts for nothing.
        answers: One per cell; None or "" for none, which is wrong, but no false positive.
    """
    return KINDS[kind].measures(list(zip(cells, (answer or None for answer in answers), strict=True)))


def score_answers(kind: AnswerKind, cells: Sequence[Cell], answers: Sequence[str | None]) -> dict[str, float]:
    """The figures of :func:`measures`, those of the kind's headline first."""
    return {name: measure.value for name, measure in measures(kind, cells, answers).items()}


def intervals(
    measured: Sequence[Measure], products: npt.NDArray[np.int32], seed: int = 0
) -> tuple[list[Estimate], Floats]:
    """Figures with 95 % intervals over products, drawn with replacement, the same for all.

    Args:
        measured: Measures of the same (n,) cells.
        products: (n,) product of each.
        seed: Of the draws.

    Returns:
        The figures, and (R, c) figures of each draw, for differences.
    """
    _, index = np.unique(products, return_inverse=True)
    sums = []
    for measure in measured:
        own = np.zeros((int(index.max(initial=-1)) + 1, measure.counts.shape[1]))
        np.add.at(own, index, measure.counts)
        sums.append(own)
    draws = np.concatenate(
        [
            np.stack([m.figure(part) for m, part in zip(measured, parts, strict=True)], axis=1)
            for parts in bootstrap_sums(sums, seed=seed)
        ]
    )
    low, high = percentile_interval(np.nan_to_num(draws))
    ends = zip(measured, low.tolist(), high.tolist(), strict=True)
    return [Estimate(measure.value, *both) for measure, *both in ends], draws


def parse_share(statuses: Sequence[int]) -> float:
    """Share of the answers that could be read: ANSWERED of ANSWERED and UNPARSABLE; nan without either.

    Votes of another status say nothing about it.
    """
    read = sum(status == Status.ANSWERED for status in statuses)
    asked = read + sum(status == Status.UNPARSABLE for status in statuses)
    return read / asked if asked else float("nan")


def answered_share(cells: Sequence[Cell], member: int) -> float:
    """Share of cells with a vote of a member; nan without cells.

    A table keeps no statuses: an abstention is null whatever its reason. So the share of a member's answers
    that could be read is at least this one.
    """
    return sum(cell.values[member] is not None for cell in cells) / len(cells) if cells else float("nan")
