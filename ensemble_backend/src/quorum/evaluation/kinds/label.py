# SPDX-License-Identifier: Apache-2.0
"""Score labels: right or wrong. Macro-F1 over labels that occur in gold or answers; accuracy, micro-F1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quorum.decision.arrays import Floats
from quorum.evaluation.kinds.base import Counts, Measure, Pairs, divided, f1_of_sums
from quorum.evaluation.kinds.value import VALUE, accuracy


def _measures(pairs: Pairs) -> dict[str, Measure]:
    by_label = _label_counts(pairs)
    return {
        "macro_f1": Measure(by_label.reshape(len(pairs), -1), _macro_f1),
        "accuracy": accuracy(pairs),
        "micro_f1": Measure(by_label.sum(axis=1), f1_of_sums),
    }


def _macro_f1(sums: Floats) -> Floats:
    """Mean F1 of the labels that occur."""
    by_label = sums.reshape(*sums.shape[:-1], -1, 3)
    occurs = by_label[..., 1:].sum(axis=-1) > 0
    figures = np.where(occurs, np.nan_to_num(f1_of_sums(by_label)), 0.0)
    return divided(figures.sum(axis=-1), occurs.sum(axis=-1).astype(np.float64))


def _label_counts(pairs: Pairs) -> Counts:
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


LABEL = replace(VALUE, headline="macro_f1", measures=_measures)
