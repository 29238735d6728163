# SPDX-License-Identifier: Apache-2.0
"""Score answers by the measure of their kind: F1 of labels, strict F1 of spans, ROUGE of texts.

Every measure is a function of sums over cells, so that an interval over products takes one multiplication.
Tested against scikit-learn, seqeval (strict, IOB2) and rouge-score (without stemmer).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.decision.answer_kinds import SET_KINDS, AnswerKind
from quorum.decision.arrays import Floats
from quorum.decision.f1 import set_counts
from quorum.decision.rouge import rouge_l, rouge_n
from quorum.decision.sets import Thing
from quorum.evaluation.answers import answer_score, readable_things
from quorum.evaluation.measures import value_counts
from quorum.evaluation.stats import Estimate, bootstrap_sums, percentile_interval
from quorum.votes.exploded import accepted_sets
from quorum.votes.schema import Cell
from quorum_contract import Status

HEADLINES: Mapping[AnswerKind, str] = {
    "value": "accuracy", "label": "macro_f1", "spans": "f1", "values": "f1", "text": "rouge_l",
}  # fmt: skip
"""The measure that stands first, by kind."""
Counts = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of answers.

    Attributes:
        counts: (n, k) what each cell adds.
        figure: Maps (..., k) sums to (...,) figures in [0, 1].
    """

    counts: Floats | Counts
    figure: Callable[[Floats], Floats]

    @property
    def value(self) -> float:
        """The figure of all cells; nan if there is nothing to measure."""
        return float(self.figure(self.counts.sum(axis=0, dtype=np.float64)))


def measures(kind: AnswerKind, cells: Sequence[Cell], answers: Sequence[str | None]) -> dict[str, Measure]:
    """The measures of answers to labelled cells of one attribute.

    ``value``: accuracy, and micro-F1 of extracting values, "n/a" being no value. ``label``: macro-F1 (over
    the labels that occur in gold or answers), accuracy and micro-F1. ``spans``: micro-F1 over spans, of which
    type and both borders must be right, and the share of answers that are right as a whole; ``values``
    likewise. ``text``: ROUGE-L, -1 and -2, each the mean over references.

    Args:
        kind: Of the attribute.
        cells: With gold; of several acceptable answers the one that fits best counts. A cell whose gold
            cannot be read counts for nothing.
        answers: One per cell; None or "" for none, which is wrong, but no false positive.
    """
    pairs = list(zip(cells, (answer or None for answer in answers), strict=True))
    if kind == "text":
        scores: dict[str, Callable[[str, str], float]] = {
            "rouge_l": rouge_l, "rouge_1": partial(rouge_n, n=1), "rouge_2": partial(rouge_n, n=2),
        }  # fmt: skip
        return {
            name: _mean([_to_references(score, *pair) for pair in pairs]) for name, score in scores.items()
        }
    if kind in SET_KINDS:
        return {
            "f1": Measure(_array([_set_counts(*pair) for pair in pairs], 3), _f1),
            "exact": Measure(_array([_exact(*pair, kind) for pair in pairs], 2), _ratio),
        }
    accuracy = {"accuracy": _mean([float(cell.is_right(answer)) for cell, answer in pairs])}
    if kind == "label":
        by_label = _label_counts(pairs)
        return {
            "macro_f1": Measure(by_label.reshape(len(pairs), -1), _macro_f1),
            **accuracy,
            "micro_f1": Measure(by_label.sum(axis=1), _f1),
        }
    return {**accuracy, "micro_f1": Measure(_array([value_counts(*pair) for pair in pairs], 3), _f1)}


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


def _mean(scores: Sequence[float]) -> Measure:
    return Measure(_array([(score, 1.0) for score in scores], 2), _ratio)


def _array(rows: Sequence[Sequence[float]], width: int) -> Floats:
    return np.array(rows, np.float64).reshape(len(rows), width)


def _ratio(sums: Floats) -> Floats:
    return _divided(sums[..., 0], sums[..., 1])


def _f1(sums: Floats) -> Floats:
    """F1 of the last axis: right, answered, wanted."""
    return _divided(2.0 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _macro_f1(sums: Floats) -> Floats:
    """Mean F1 of the labels that occur."""
    by_label = sums.reshape(*sums.shape[:-1], -1, 3)
    occurs = by_label[..., 1:].sum(axis=-1) > 0
    figures = np.where(occurs, np.nan_to_num(_f1(by_label)), 0.0)
    return _divided(figures.sum(axis=-1), occurs.sum(axis=-1).astype(np.float64))


def _divided(above: Floats, below: Floats) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0))


def _to_references(score: Callable[[str, str], float], cell: Cell, answer: str | None) -> float:
    return 0.0 if answer is None else sum(score(answer, text) for text in cell.gold) / len(cell.gold)


def _label_counts(pairs: Sequence[tuple[Cell, str | None]]) -> Counts:
    """(n, labels, 3) right, answered and wanted, of each label that is gold or an answer; a byte each."""
    wanted = [
        answer if answer is not None and cell.is_right(answer) else cell.gold[0] for cell, answer in pairs
    ]
    given = [answer for _, answer in pairs]
    index = {name: at for at, name in enumerate(sorted({*wanted, *(name for name in given if name)}))}
    counts = np.zeros((len(pairs), len(index), 3), np.int8)
    for row, (gold, answer) in enumerate(zip(wanted, given, strict=True)):
        counts[row, index[gold], 2] = 1
        if answer is not None:
            counts[row, index[answer], 1] = 1
            counts[row, index[answer], 0] = answer == gold
    return counts


def _exact(cell: Cell, answer: str | None, kind: AnswerKind) -> tuple[float, float]:
    return float(answer_score(cell, answer, kind) >= 1.0), float(bool(accepted_sets(cell)))


def _set_counts(cell: Cell, answer: str | None) -> tuple[float, float, float]:
    """Shared, named and wanted things; nothing where the gold cannot be read, as for a cell without gold."""
    accepted = accepted_sets(cell)
    if not accepted:
        return 0.0, 0.0, 0.0
    things: frozenset[Thing] = frozenset()
    if answer is not None:
        things = readable_things(answer, cell.title) or things
    return set_counts(things, accepted)
