# SPDX-License-Identifier: Apache-2.0
"""Learn what texts say about values: standardise its numbers, and fit a coefficient to each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quorum.decision.arrays import Floats, leaders
from quorum.decision.evidence import FEATURES, LIMIT, Coefficients
from quorum.learning.attributes import NONE_RIDGE
from quorum.learning.design import Design, Fit, fit_around, within
from quorum.learning.hierarchy import Prior, at_center, fit_hierarchy
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


@dataclass(frozen=True, slots=True)
class Start:
    """Parameters that are fitted together with the coefficients of the text.

    Attributes:
        center: (1, k) where they are pulled to.
        ridges: (k,) how strongly; inf fixes a parameter.
        basis: (d, k) what each adds to the d parameters of :class:`quorum.learning.design.Design`.
        bounded: How many of the first are >= 0.
        least: Lowest value of the first in the end.
    """

    center: Floats
    ridges: Floats
    basis: Floats
    bounded: int
    least: float = 0.0


@dataclass(frozen=True, slots=True)
class TextFit:
    """Parameters that count together with the text.

    Attributes:
        theta: (1, d) parameters of candidates, without the coefficients.
        coefficients: (16,) of the standardised features.
        standard: Means and scales of these.
        ridge: Chosen for the coefficients.
    """

    theta: Floats
    coefficients: Floats
    standard: Standard
    ridge: float

    @property
    def evidence(self) -> Coefficients:
        """The coefficients as weights hold them."""
        return self.standard.evidence(self.coefficients)

    def around(self, rows: TextRows, members: int, groups: int, prior: Prior, ridge: float) -> Floats:
        """(g, d) parameters of each group, tied to their mean, while the coefficients stay."""
        design = Design(rows.hist, groups, members, None, self.standard.numbers(rows))
        k = len(self.coefficients)
        fixed = Prior(
            np.concatenate([prior.center[:-2], self.coefficients, prior.center[-2:]]),
            np.concatenate([prior.ridges[:-2], np.full(k, np.inf), prior.ridges[-2:]]),
        )
        ridges = np.full(len(fixed.center), ridge)
        ridges[-1] = NONE_RIDGE
        theta = fit_hierarchy(design.loss, fixed, ridges, at_center(fixed, groups)).theta.copy()
        theta[:, :members] = np.maximum(theta[:, :members], 0.0)
        return np.asarray(np.delete(theta, np.s_[-2 - k : -2], axis=1))


def fit_text(
    rows: TextRows, members: int, usual: Floats | None, start: Start, least: float | None = None
) -> TextFit | None:
    """Fit coefficients together with other parameters; None where the evidence is against the text.

    Args:
        rows: Labelled cells, in one group.
        members: Number of members.
        usual: As in :class:`quorum.learning.design.Design`.
        start: The other parameters.
        least: Log evidence without the text; None: it is computed.
    """
    standard, k = standard_of(rows), len(FEATURES)
    design = Design(rows.hist, 1, members, usual, standard.numbers(rows))
    (d, n), inner = start.basis.shape, slice(-2 - k, -2)
    basis = np.zeros((d + k, n + k))
    basis[: d - 2, :n], basis[d - 2 + k :, :n] = start.basis[:-2], start.basis[-2:]
    basis[inner, n:] = np.eye(k)
    loss, center = within(design.loss, basis), np.concatenate([start.center, np.zeros((1, k))], axis=1)

    def fit(ridge: float) -> Fit:
        return fit_around(loss, center, np.concatenate([start.ridges, np.full(k, ridge)]), start.bounded)

    best, ridge = max(((fit(ridge), ridge) for ridge in RIDGES), key=lambda pair: pair[0].evidence)
    if best.evidence <= (fit(np.inf).evidence if least is None else least):
        return None
    z = best.theta.copy()
    z[:, 0] = np.maximum(z[:, 0], start.least)
    theta = z @ basis.T
    return TextFit(np.delete(theta, inner, axis=1), theta[0, inner], standard, ridge)
