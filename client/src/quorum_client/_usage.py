# SPDX-License-Identifier: Apache-2.0
"""Read what an answer cost and took; no answer fails for it."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from quorum_contract import Spent
from quorum_contract.tensors import PRICED, USED


def read_cost(output: Any, raw: bytes) -> float | None:
    """Read what an answer cost; like scores, what makes no sense is not known."""
    if output is None or (output.datatype, list(output.shape), len(raw)) != (PRICED.datatype, [1], 4):
        return None
    return _known(struct.unpack("<f", raw)[0])


def read_usage(output: Any, raw: bytes, *, members: Sequence[str]) -> dict[str, Spent]:
    """Read what each member took; a later release may send more columns."""
    width = len(Spent._fields)
    if output is None or output.datatype != USED.datatype or len(output.shape) != 2:
        return {}
    rows, columns = output.shape
    if rows != len(members) or columns < width or len(raw) != rows * columns * 4:
        return {}
    numbers = [_known(number) for number in struct.unpack(f"<{rows * columns}f", raw)]
    starts = range(0, len(numbers), columns)
    return {name: _spent(numbers[at : at + width]) for name, at in zip(members, starts, strict=True)}


def _spent(figures: Sequence[float | None]) -> Spent:
    calls, prompt, answer, cached, seconds, cost = figures
    return Spent(round(calls or 0), _whole(prompt), _whole(answer), _whole(cached), seconds, cost)


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


def _known(number: float) -> float | None:
    return number if math.isfinite(number) and number >= 0 else None
