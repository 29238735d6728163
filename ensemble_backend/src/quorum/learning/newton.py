# SPDX-License-Identifier: Apache-2.0
"""Minimise many small bounded problems at once, by damped Newton with line search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quorum.decision.arrays import Floats
from quorum_contract.errors import QuorumError

Flags = npt.NDArray[np.bool_]
Objective = Callable[[Floats], tuple[Floats, Floats, Floats]]
"""Points (g, d) -> values (g,), gradients (g, d), positive semidefinite curvatures (g, d, d)."""

_ARMIJO = 1e-4
_HALVINGS = 40
_TOLERANCE = 1e-8
_MAX_ROUNDS = 200


class NoConvergenceError(QuorumError, ArithmeticError):
    """The minimum was not reached; the message gives the last slope and the fix."""

    code = "NO_CONVERGENCE"


def minimise(objective: Objective, start: Floats, lower: Floats, fixed: Flags | None = None) -> Floats:
    """Minimise g independent functions of d numbers by projected Newton steps.

    A step is halved until the value decreases enough (Armijo's rule): without that, steps from flat regions
    cost points of accuracy.

    Source: Bertsekas 1982, Projected Newton Methods for Optimization Problems with Simple Constraints,
    doi:10.1137/0320018.

    Args:
        objective: Values, gradients and curvatures at g points.
        start: (g, d) initial points.
        lower: (d,) lower bounds, -inf for none.
        fixed: (d,) parameters that keep their start value; None: none.

    Returns:
        (g, d) minima: no component of a projected gradient exceeds ``1e-8 (1 + |value|)``.

    Raises:
        NoConvergenceError: No minimum within 200 steps, or a value is not finite.
    """
    held = np.zeros(start.shape[1], np.bool_) if fixed is None else fixed
    point = np.where(held, start, np.maximum(start, lower))
    value, gradient, curvature = objective(point)
    for _ in range(_MAX_ROUNDS):
        if not np.isfinite(value).all():
            raise NoConvergenceError("the objective is not finite: look for NaN in the counts")
        pinned = held | ((point <= lower) & (gradient > 0.0))
        slope = np.where(pinned, 0.0, gradient)
        scale = 1.0 + np.abs(value)
        direction = _direction(slope, curvature, pinned)
        fall = -(slope * direction).sum(axis=1)
        # Decreases below the rounding error of the value cannot be measured by a line search.
        done = (np.abs(slope).max(axis=1) <= _TOLERANCE * scale) | (fall <= 1e-13 * scale)
        if done.all():
            return point
        trial, state = _search(objective, point, value, slope, np.where(done[:, None], 0.0, direction), lower)
        if state is None:
            return point
        point, (value, gradient, curvature) = trial, state
    raise NoConvergenceError(
        f"no minimum in {_MAX_ROUNDS} Newton steps, slope still {np.abs(slope).max():.2g}; raise the ridge"
    )


def _direction(slope: Floats, curvature: Floats, pinned: Flags) -> Floats:
    d = slope.shape[1]
    free = ~pinned
    block = np.where(free[:, :, None] & free[:, None, :], curvature, 0.0)
    damping = 1e-10 * np.maximum(1.0, np.trace(block, axis1=1, axis2=2))
    block = block + np.eye(d) * np.where(pinned, 1.0, damping[:, None])[:, None, :]
    return np.asarray(-np.linalg.solve(block, slope[:, :, None])[:, :, 0])


def _search(
    objective: Objective, point: Floats, value: Floats, slope: Floats, direction: Floats, lower: Floats
) -> tuple[Floats, tuple[Floats, Floats, Floats] | None]:
    """Halve the steps of problems whose value did not decrease enough; None once no step decreases any."""

    def step(length: Floats) -> Floats:
        return np.where(direction == 0.0, point, np.maximum(point + length[:, None] * direction, lower))

    length = np.ones(len(point))
    for _ in range(_HALVINGS):
        trial = step(length)
        state = objective(trial)
        enough = state[0] <= value + _ARMIJO * (slope * (trial - point)).sum(axis=1)
        if enough.all():
            return trial, state
        length = np.where(enough, length, 0.5 * length)
    length = np.where(enough, length, 0.0)
    trial = step(length)
    return trial, objective(trial) if length.any() else None
