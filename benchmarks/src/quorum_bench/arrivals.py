# SPDX-License-Identifier: Apache-2.0
"""Compute the intended send times of an open loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]
"""Nanoseconds since the start of the load, ascending."""


def poisson(rate_per_s: float, seconds: float, seed: int) -> Offsets:
    """Draw independent arrivals: exponentially distributed gaps of mean ``1 / rate_per_s`` seconds.

    Raises:
        ValueError: A rate or a time that is not above 0.
    """
    if not (rate_per_s > 0 and seconds > 0):
        raise ValueError(f"rate {rate_per_s} per s for {seconds} s: both must be above 0")
    rng = np.random.default_rng(seed)
    # Given their number, Poisson arrivals are uniform: no sum of gaps that might fall short of the end.
    count = rng.poisson(rate_per_s * seconds)
    return np.sort(rng.uniform(0.0, seconds * 1e9, count)).astype(np.int64)


def replayed(path: Path, seconds: float | None = None, speed: float = 1.0) -> Offsets:
    """Read recorded arrivals: one time in seconds a line, any start; ``speed`` 2 plays them twice as fast.

    Args:
        path: Text file; empty lines and lines that start with ``#`` are skipped.
        seconds: Keep arrivals before this time of the load; all by default.
        speed: Above 0.

    Raises:
        ValueError: A line that is no time, times that go backwards, an empty file, or a speed not above 0.
    """
    times: list[float] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            times.append(float(text))
        except ValueError:
            raise ValueError(f"{path}:{number}: {text!r} is no time in seconds; write one a line") from None
        if not np.isfinite(times[-1]) or (len(times) > 1 and times[-1] < times[-2]):
            raise ValueError(f"{path}:{number}: {text} comes before {times[-2:][0]}; sort the times")
    if not times:
        raise ValueError(f"{path}: no arrival times; write one a line, in seconds")
    if not speed > 0:
        raise ValueError(f"speed {speed}: give a number above 0")
    offsets = ((np.array(times) - times[0]) / speed * 1e9).astype(np.int64)
    return offsets if seconds is None else offsets[offsets < seconds * 1e9]
