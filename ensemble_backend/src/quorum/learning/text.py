# SPDX-License-Identifier: Apache-2.0
"""Standardise what texts say about values, and turn coefficients learned for it into evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quorum.decision.arrays import Floats, leaders
from quorum.decision.evidence import FEATURES, LIMIT, Coefficients
from quorum.votes.text_rows import TextRows

GOLD_FOR_TEXT = 50
RIDGES = (10.0, 30.0, 100.0)
"""Strengths of the shrinkage of the coefficients to 0, of features with variance 1."""
_DIGITS = 6
_CONSTANT = 1e-6


@dataclass(frozen=True, slots=True)
class Standard:
    """Means and scales of the features.

    Attributes:
        mean: (16,) of the values named in labelled cells, each once a cell.
        scale: (16,) standard deviation; inf for a feature that is constant.
    """

    mean: Floats
    scale: Floats

    def numbers(self, rows: TextRows) -> Floats:
        """(r, m, 16) standardised features, cut off at the limit of evidence; 0 where there is none."""
        away = np.clip((rows.features - self.mean) / self.scale, -LIMIT, LIMIT)
        return np.where(np.isnan(away), 0.0, away)

    def evidence(self, coefficients: Floats) -> Coefficients:
        """The evidence of (16,) coefficients, rounded; features without any are left out."""
        columns = (self.mean.tolist(), self.scale.tolist(), coefficients.round(_DIGITS).tolist())
        terms = zip(FEATURES, *columns, strict=True)
        return {
            name: (mean, scale, weight) for name, mean, scale, weight in terms if weight and scale < np.inf
        }


def standard_of(rows: TextRows) -> Standard:
    """Measure the features on labelled cells."""
    members = rows.features.shape[1]
    once = leaders(rows.hist.codes)[:, :members] & ~np.isnan(rows.features[:, :, 0])
    values, counts = rows.features[once], np.broadcast_to(rows.hist.counts[:, None], once.shape)[once]
    if not len(values):
        return Standard(np.zeros(len(FEATURES)), np.full(len(FEATURES), np.inf))
    mean = np.average(values, axis=0, weights=counts)
    scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=counts))
    # What is learned by rounded numbers decides by the same ones.
    return Standard(mean.round(_DIGITS), np.where(scale > _CONSTANT, scale.round(_DIGITS), np.inf))
