# SPDX-License-Identifier: Apache-2.0
"""Damped Newton with line search for few parameters, some of them bounded from below."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quorum.voting.decide import Floats

Objective = Callable[[Floats], tuple[float, Floats, Floats]]
"""Parameters (d,) -> value, gradient (d,), positive semidefinite curvature (d, d)."""

_ARMIJO = 1e-4
_SHORTEST = 2.0**-40


class NoConvergenceError(ArithmeticError):
    """The minimum was not reached; the message says how far off the last point was."""


def minimise(
    objective: Objective, start: Floats, lower: Floats, tolerance: float = 1e-8, max_rounds: int = 200
) -> Floats:
    """Minimise by projected Newton steps that are halved until the value falls enough.

    Source: Bertsekas 1982, Projected Newton Methods for Optimization Problems with Simple Constraints,
    doi:10.1137/0320018.

    Args:
        objective: Value, gradient and curvature at a point.
        start: (d,) first point.
        lower: (d,) lower bounds, -inf for none.
        tolerance: Stop when no component of the projected gradient exceeds this times ``1 + |value|``.
        max_rounds: Newton steps at most.

    Returns:
        (d,) the minimum.

    Raises:
        NoConvergenceError: Not reached within ``max_rounds``, or the objective is not finite.
    """
    point = np.maximum(start, lower)
    value, gradient, curvature = objective(point)
    for _ in range(max_rounds):
        if not np.isfinite(value):
            raise NoConvergenceError("the objective is not finite: look for NaN in the counts")
        pinned = (point <= lower) & (gradient > 0.0)
        slope = np.where(pinned, 0.0, gradient)
        if np.abs(slope).max(initial=0.0) <= tolerance * (1.0 + abs(value)):
            return point
        direction = _newton_direction(slope, curvature, ~pinned)
        # Below the rounding of the value itself no line search can tell up from down.
        if -float(slope @ direction) <= 1e-13 * (1.0 + abs(value)):
            return np.maximum(point + direction, lower)
        length = 1.0
        while True:
            trial = np.maximum(point + length * direction, lower)
            trial_value, trial_gradient, trial_curvature = objective(trial)
            if trial_value <= value + _ARMIJO * float(slope @ (trial - point)):
                break
            length *= 0.5
            if length < _SHORTEST:
                return point
        point, value, gradient, curvature = trial, trial_value, trial_gradient, trial_curvature
    raise NoConvergenceError(
        f"no minimum in {max_rounds} Newton steps, slope still {np.abs(slope).max():.2g}; raise the ridge"
    )


def _newton_direction(
    slope: Floats, curvature: Floats, free: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Floats:
    direction = np.zeros_like(slope)
    if free.any():
        block = curvature[np.ix_(free, free)]
        damping = 1e-10 * max(1.0, float(np.trace(block)))
        direction[free] = -np.linalg.solve(block + damping * np.eye(len(block)), slope[free])
    return direction
