# SPDX-License-Identifier: Apache-2.0
"""Durations as people write them: ``90s``, ``10m``, ``1h30m``."""

from __future__ import annotations

import re

from quorum_contract.errors import InvalidRequest

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])\s*")


def parse_duration(text: str) -> float:
    """The seconds of a duration with its unit, as in ``90s``, ``10m`` or ``1h30m``; ``0`` needs none.

    Raises:
        InvalidRequest: It has no unit, or is no duration.
    """
    given = text.strip().lower()
    if given == "0":
        return 0.0
    parts, end = 0.0, 0
    while match := _PART.match(given, end):
        parts, end = parts + float(match[1]) * _UNITS[match[2]], match.end()
    if not given or end < len(given):
        raise InvalidRequest(f"{text!r} is no duration: write a number with its unit, as in 90s, 10m or 2h")
    return parts


def in_words(seconds: float) -> str:
    """A duration for people: ``0.4 s``, ``12 s``, ``10 min``, ``1 h 30 min``."""
    if seconds < 1:
        return f"{seconds:.1g} s" if seconds else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
