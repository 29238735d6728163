# SPDX-License-Identifier: Apache-2.0
"""Fit the groups of a conditional logit around their mean, both unknown, by Newton and Laplace."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quorum.decision.arrays import Floats
from quorum.learning.newton import NoConvergenceError, Objective

_ARMIJO = 1e-4
_SHORTEST = 2.0**-40
_TOLERANCE = 1e-9
_NEAR = 1e-5
"""Steps may be many where the curvature is far from the Hessian: a last one that gains less than this is
little against the width of the posterior."""
_MAX_ROUNDS = 200


class Hierarchy(NamedTuple):
    """Posterior of the groups' parameters: mode and curvature there.

    Attributes:
        theta: (g, d) mode.
        mean: (d,) mode of the groups' mean.
        covariance: (g, d, d) posterior covariance of each group, uncertainty of the mean included.
        evidence: Laplace approximation of the log evidence.
    """

    theta: Floats
    mean: Floats
    covariance: Floats
    evidence: float


class Prior(NamedTuple):
    """Normal prior of the groups' mean: (d,) center and (d,) ridges; a ridge of inf fixes the parameter."""

    center: Floats
    ridges: Floats


def fit_hierarchy(loss: Objective, prior: Prior, ridges: Floats, start: Hierarchy) -> Hierarchy:
    """Minimise ``loss + 1/2 sum_g |theta_g - mean|^2 + 1/2 |mean - center|^2``, each square with its ridges.

    A Newton step eliminates the groups, whose blocks are tied by the mean only: g systems of d numbers and
    one more, however many groups there are.

    Source: random effects, Laird and Ware 1982, doi:10.2307/2529876; evidence: MacKay 1992,
    doi:10.1162/neco.1992.4.3.415.

    Args:
        loss: Of (g, d) parameters, see :meth:`quorum.learning.design.Design.loss`.
        prior: Of the mean; fixed parameters keep their center in all groups.
        ridges: (d,) how strongly groups are pulled to their mean.
        start: Where to begin, see :func:`at_center`.

    Raises:
        NoConvergenceError: Nowhere near a minimum after 200 steps.
    """
    free = np.flatnonzero(np.isfinite(prior.ridges))
    theta, mean = start.theta.copy(), start.mean.copy()
    pull, tie, center = prior.ridges[free], ridges[free], prior.center[free]

    def state(own: Floats, middle: Floats) -> tuple[float, Floats, Floats]:
        theta[:, free] = own
        value, gradient, curvature = loss(theta)
        away = own - middle
        total = float(value.sum() + 0.5 * (away**2 @ tie).sum() + 0.5 * ((middle - center) ** 2 @ pull))
        return total, gradient[:, free] + away * tie, curvature[:, free][:, :, free] + np.diag(tie)

    own, middle = theta[:, free], mean[free]
    value, slopes, blocks = state(own, middle)
    for _ in range(_MAX_ROUNDS):
        slope = pull * (middle - center) - tie * (own - middle).sum(axis=0)
        inverse = np.linalg.inv(blocks)
        shared = inverse * tie
        left = np.einsum("gij,gj->gi", inverse, slopes)
        step = np.linalg.solve(_complement(shared, pull, tie), -slope - tie * left.sum(axis=0))
        steps = shared @ step - left
        fall = -float((slopes * steps).sum() + slope @ step)
        if not np.isfinite(fall):
            raise NoConvergenceError("the objective is not finite: look for NaN in the counts")
        if fall <= _TOLERANCE * (1.0 + abs(value)):
            break
        length, found = 1.0, state(own + steps, middle + step)
        while not found[0] <= value - _ARMIJO * length * fall and length > _SHORTEST:
            length *= 0.5
            found = state(own + length * steps, middle + length * step)
        if length <= _SHORTEST:
            # Decreases below the rounding error of the value cannot be measured.
            break
        own, middle = own + length * steps, middle + length * step
        value, slopes, blocks = found
    else:
        if fall > _NEAR * (1.0 + abs(value)):
            raise NoConvergenceError(f"no minimum in {_MAX_ROUNDS} Newton steps; raise the ridge")
        inverse = np.linalg.inv(blocks)
        shared = inverse * tie
    theta[:, free], mean[free] = own, middle
    schur = _complement(shared, pull, tie)
    covariance = np.zeros((len(theta), len(mean), len(mean)))
    covariance[np.ix_(np.arange(len(theta)), free, free)] = inverse + shared @ np.linalg.inv(
        schur
    ) @ shared.transpose(0, 2, 1)
    log_det = float(np.linalg.slogdet(blocks)[1].sum() + np.linalg.slogdet(schur)[1])
    log_prior = 0.5 * float(np.log(pull).sum() + len(theta) * np.log(tie).sum())
    return Hierarchy(theta, mean, covariance, log_prior - value - 0.5 * log_det)


def at_center(prior: Prior, groups: int) -> Hierarchy:
    """Begin with all groups at the center of the prior."""
    d = len(prior.center)
    return Hierarchy(
        np.repeat(prior.center[None], groups, axis=0), prior.center, np.zeros((groups, d, d)), 0.0
    )


def _complement(shared: Floats, pull: Floats, tie: Floats) -> Floats:
    """(d, d) curvature of the mean once the groups are eliminated; ``shared`` is inverse blocks times tie."""
    return np.asarray(np.diag(pull + len(shared) * tie) - tie[:, None] * shared.sum(axis=0))
