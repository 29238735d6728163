# SPDX-License-Identifier: Apache-2.0
"""Likelihood and penalised fit of the conditional logit to gold labels, for all groups at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats, agreeing, leaders
from quorum.decision.histogram import Histogram, right_members
from quorum.decision.patterns import NA
from quorum.decision.scores import NO_SCORE, log_odds_of
from quorum.learning.newton import Objective, minimise

_CHUNK = 2048
_TINY = 1e-300


class Design:
    """Features of each candidate: the members that named it, is it "n/a", is it "none of these".

    With scores, the features of the members are followed by as many more: by how much the score of the
    member that named the candidate, as log odds, is above its usual one; 0 without a score. With numbers of
    values, these stand before "n/a".

    Args:
        hist: Votes; only the labelled rows count.
        n_groups: Number of groups, those without gold included.
        members: The columns of ``hist`` that are members; a further one holds the value that is part of
            others, and is a feature like a member that names it. None: all are members.
        usual: (members,) usual log odds of each member's scores; None: without scores.
        numbers: (r, members, k) numbers of the value that each member named, for rows that are all labelled;
            None: there are none.
    """

    def __init__(
        self,
        hist: Histogram,
        n_groups: int = 1,
        members: int | None = None,
        usual: Floats | None = None,
        numbers: Floats | None = None,
    ) -> None:
        hist = hist.labelled()
        self.members = hist.members if members is None else members
        codes, m = hist.codes, hist.members
        lead = leaders(codes)
        features = np.zeros((len(codes), m + 1, m + 2), np.int8)
        features[:, :m, :m] = agreeing(codes) & lead[:, :, None]
        features[:, :m, m] = lead & (codes == NA)
        features[:, m, m + 1] = 1
        self.features: npt.NDArray[Any] = features
        if usual is not None:
            self.features = _with_scores(features, hist, self.members, usual)
        if numbers is not None:
            self.features = _with_numbers(self.features, lead[:, : self.members], numbers)
        self.possible = np.concatenate([lead, np.ones((len(codes), 1), np.bool_)], axis=1)
        right = right_members(hist.right, m) & lead
        self.right = np.concatenate([right, ~right.any(axis=1, keepdims=True)], axis=1)
        self.counts, self.groups, self.n_groups = hist.counts, hist.groups, n_groups
        if numbers is not None:
            self._close_gaps()

    def _close_gaps(self) -> None:
        """Leave no more places for candidates than a row has: rows that are not merged are many."""
        width = int(self.possible.sum(axis=1).max(initial=1))
        places = np.argsort(~self.possible, axis=1, kind="stable")[:, :width]
        self.features = np.take_along_axis(self.features, places[:, :, None], axis=1)
        self.possible, self.right = (
            np.take_along_axis(part, places, axis=1) for part in (self.possible, self.right)
        )

    def loss(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Negative log-likelihood per group, gradients and Gauss-Newton curvatures.

        Args:
            theta: (g, d) weights, slopes if with scores, bias of parts if there are any, coefficients if with
                numbers, n/a bias, none bias.

        Returns:
            (g,), (g, d) and (g, d, d).
        """
        d = theta.shape[1]
        value = np.zeros(self.n_groups)
        gradient, curvature = np.zeros((self.n_groups, d)), np.zeros((self.n_groups, d, d))
        for start in range(0, len(self.counts), _CHUNK):
            part = slice(start, start + _CHUNK)
            x = self.features[part].astype(np.float64)
            groups, counts = self.groups[part], self.counts[part]
            scores = np.where(self.possible[part], np.einsum("rcd,rd->rc", x, theta[groups]), -np.inf)
            terms = np.exp(scores - scores.max(axis=1, keepdims=True))
            hits = np.where(self.right[part], terms, 0.0)
            total, hit = terms.sum(axis=1), np.maximum(hits.sum(axis=1), _TINY)
            p, q = terms / total[:, None], hits / hit[:, None]
            mean = np.einsum("rc,rcd->rd", p, x)
            slopes = counts[:, None] * (mean - np.einsum("rc,rcd->rd", q, x))
            weighted = p[:, :, None] * x
            second = np.matmul(weighted.transpose(0, 2, 1), x) - mean[:, :, None] * mean[:, None, :]
            # Rows of a histogram are sorted by group.
            first = np.flatnonzero(np.diff(groups, prepend=-1))
            present = groups[first]
            value[present] += np.add.reduceat(counts * (np.log(total) - np.log(hit)), first)
            gradient[present] += np.add.reduceat(slopes, first)
            curvature[present] += np.add.reduceat(counts[:, None, None] * second, first)
        return value, gradient, curvature


def _with_scores(
    features: npt.NDArray[np.int8], hist: Histogram, members: int, usual: Floats
) -> npt.NDArray[np.float32]:
    """Insert the features of scores behind those of the members."""
    levels = hist.all_levels()[:, :members]
    above = np.where(levels == NO_SCORE, 0.0, log_odds_of(levels) - usual)
    named = features[:, :, :members]
    both = [named, named * above[:, None, :], features[:, :, members:]]
    return np.asarray(np.concatenate(both, axis=2), np.float32)


def _with_numbers(
    features: npt.NDArray[Any], lead: npt.NDArray[np.bool_], numbers: Floats
) -> npt.NDArray[np.float32]:
    """Insert the numbers of values before the last two features."""
    more = np.zeros((*features.shape[:2], numbers.shape[2]), np.float32)
    more[:, : lead.shape[1]] = np.where(lead[:, :, None], numbers, 0.0)
    both = [features[:, :, :-2], more, features[:, :, -2:]]
    return np.asarray(np.concatenate(both, axis=2), np.float32)


def within(loss: Objective, basis: Floats) -> Objective:
    """A loss as a function of (g, k) coordinates in the columns of a (d, k) basis."""

    def loss_of(z: Floats) -> tuple[Floats, Floats, Floats]:
        value, gradient, curvature = loss(z @ basis.T)
        return value, gradient @ basis, basis.T @ curvature @ basis

    return loss_of


class Fit(NamedTuple):
    """Penalised fits of all groups.

    Attributes:
        theta: (g, d) parameters.
        evidence: Laplace approximation of the log evidence, all groups together.
    """

    theta: Floats
    evidence: float


def fit_around(loss: Objective, center: Floats, ridges: Floats, weights: int) -> Fit:
    """Minimise ``loss + 1/2 sum_i ridges_i (theta_i - center_i)^2`` per group.

    Source of the evidence: MacKay 1992, doi:10.1162/neco.1992.4.3.415.

    Args:
        loss: That of :class:`Design`, of d parameters.
        center: (g, d) prior mean per group.
        ridges: (d,) strength of the penalty; inf fixes the parameter.
        weights: How many of the first parameters are >= 0.
    """
    fixed = np.isinf(ridges)
    pull = np.where(fixed, 0.0, ridges)

    def objective(theta: Floats) -> tuple[Floats, Floats, Floats]:
        value, gradient, curvature = loss(theta)
        away = theta - center
        return value + 0.5 * (away**2) @ pull, gradient + pull * away, curvature + np.diag(pull)

    lower = np.where(np.arange(len(ridges)) < weights, 0.0, -np.inf)
    theta = center if fixed.all() else minimise(objective, center, lower, fixed)
    value, _, curvature = objective(theta)
    free = ~fixed
    _, log_det = np.linalg.slogdet(curvature[:, free][:, :, free])
    prior = 0.5 * len(center) * np.log(pull[free]).sum()
    return Fit(theta, float(prior - value.sum() - 0.5 * log_det.sum()))
