# SPDX-License-Identifier: Apache-2.0
"""Format figures and their intervals, in one style for all reports and tables: ``84.7 [83.0, 86.2]``."""

from __future__ import annotations

import math
from typing import Protocol

NONE = "–"
"""What stands where there is no figure."""


class Interval(Protocol):
    """A figure with its interval."""

    @property
    def value(self) -> float:
        """The figure."""

    @property
    def low(self) -> float:
        """Lower end."""

    @property
    def high(self) -> float:
        """Upper end."""


def percent(share: float | None) -> str:
    """A share in per cent with one decimal; a dash where it is not known."""
    return NONE if share is None or math.isnan(share) else _plain(f"{100 * share:.1f}")


def points(share: float | None) -> str:
    """A difference of shares in points, with its sign; a dash where it is not known."""
    return NONE if share is None or math.isnan(share) else _plain(f"{100 * share:+.1f}")


def percent_interval(estimate: Interval) -> str:
    """A share with its interval, in per cent: ``84.7 [83.0, 86.2]``."""
    return bracketed(*map(percent, (estimate.value, estimate.low, estimate.high)))


def points_interval(estimate: Interval) -> str:
    """A difference with its interval, in points: ``+1.2 [-0.3, +2.7]``."""
    return bracketed(*map(points, (estimate.value, estimate.low, estimate.high)))


def points_in_words(estimate: Interval) -> str:
    """A difference with its interval, with its unit: ``+1.2 points [-0.3, +2.7]``."""
    value, low, high = map(points, (estimate.value, estimate.low, estimate.high))
    return bracketed(f"{value} points", low, high)


def number_interval(estimate: Interval) -> str:
    """A number of any size with its interval; see :func:`number`."""
    return bracketed(*map(number, (estimate.value, estimate.low, estimate.high)))


def bracketed(value: str, low: str, high: str) -> str:
    """A figure and its interval as text; the figure alone where there is no interval."""
    return value if NONE in (low, high) else f"{value} [{low}, {high}]"


def number(value: float) -> str:
    """A number with three significant digits, never an exponent; a dash where it is not known."""
    if math.isnan(value):
        return NONE
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.9995:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.01 else f"{value:.2g}"


def _plain(text: str) -> str:
    """Without the sign of a zero."""
    return text.lstrip("+-") if float(text) == 0 else text
