# SPDX-License-Identifier: Apache-2.0
"""Agreement patterns: who agrees with whom, who said "n/a", who abstained.

A cell is one row of ``codes``: per member the id of the candidate it named, local to the cell. Every
label-symmetric method depends on a cell only through its pattern (674 of them for 5 members with "n/a"
told apart), so cells are turned into pattern keys in one pass and all further work is on patterns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

ABSTAIN = -1
"""Code of a member that gave no vote (failed, not asked)."""
NA = 0
"""Code of the value "n/a"; named values are 1 and up."""
MAX_MEMBERS = 18
"""Beyond this a pattern no longer fits a 64-bit key."""

Codes = npt.NDArray[np.signedinteger[Any]]
Keys = npt.NDArray[np.int64]

_BLOCK = 1 << 16


def key_space(members: int) -> int:
    """Number of possible keys, reachable or not: ``3 * 4 * ... * (members + 2)``."""
    return math.factorial(members + 2) // 2


def check_codes(codes: npt.NDArray[np.generic]) -> None:
    """Refuse what is not a matrix of codes.

    Raises:
        ValueError: Not two-dimensional, not signed integers, too many members, or a code below -1.
    """
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.signedinteger):
        raise ValueError(
            f"codes must be (cells, members) signed integers, not {codes.dtype} of shape {codes.shape}"
        )
    if not 1 <= codes.shape[1] <= MAX_MEMBERS:
        raise ValueError(f"{codes.shape[1]} members; between 1 and {MAX_MEMBERS} are possible")


def pattern_keys(codes: Codes) -> Keys:
    """One integer per cell; two cells have the same key exactly when their patterns are the same.

    Digit ``j`` of the key, in mixed radix ``j + 3``, is the first of these that member ``j`` equals:
    abstained, "n/a", member 0, 1, ..., j - 1; or ``j + 2`` when it named something new.

    Args:
        codes: (n, m) signed integers: -1 abstained, 0 "n/a", 1 and up a value, ids local to the row.

    Returns:
        (n,) int64 in ``[0, key_space(m))``.

    Raises:
        ValueError: See :func:`check_codes`.
    """
    check_codes(codes)
    n, m = codes.shape
    keys = np.empty(n, np.int64)
    dtype = np.int32 if key_space(m) < 2**31 else np.int64
    for start in range(0, n, _BLOCK):
        rows = codes[start : start + _BLOCK]
        narrow = rows.dtype.itemsize > 1 and rows.min() >= -128 and rows.max() <= 127
        block = np.ascontiguousarray(rows.T, dtype=np.int8 if narrow else rows.dtype)
        keys[start : start + _BLOCK] = _block_keys(block, np.dtype(dtype))
    return keys


def _block_keys(columns: Codes, dtype: np.dtype[np.signedinteger[Any]]) -> npt.NDArray[np.generic]:
    m, n = columns.shape
    total = np.zeros(n, dtype)
    different = np.empty(n, np.bool_)
    unmatched = np.empty(n, np.uint8)
    digit = np.empty(n, np.uint8)
    for j in range(m):
        np.not_equal(columns[j], ABSTAIN, out=different)
        np.copyto(unmatched, different.view(np.uint8))
        np.copyto(digit, unmatched)
        # The count of leading non-matches is the index of the first match: only SIMD-friendly byte
        # operations.
        for other in (NA, *columns[:j]):
            np.not_equal(columns[j], other, out=different)
            np.bitwise_and(unmatched, different.view(np.uint8), out=unmatched)
            np.add(digit, unmatched, out=digit)
        total *= j + 3
        total += digit
    return total


def decode_keys(keys: Keys, members: int) -> npt.NDArray[np.int8]:
    """Turn keys back into canonical codes: values numbered 1, 2, ... in order of first appearance.

    Args:
        keys: (p,) keys from :func:`pattern_keys`.
        members: Number of members.

    Returns:
        (p, members) int8 codes.
    """
    codes = np.empty((len(keys), members), np.int8)
    digits = np.empty((len(keys), members), np.int64)
    rest = keys.copy()
    for j in range(members - 1, -1, -1):
        rest, digits[:, j] = np.divmod(rest, j + 3)
    seen = np.zeros(len(keys), np.int8)
    rows = np.arange(len(keys))
    for j in range(members):
        digit = digits[:, j]
        new = digit == j + 2
        seen += new
        codes[:, j] = np.where(new, seen, codes[rows, np.clip(digit - 2, 0, max(j - 1, 0))])
        codes[digit == 0, j] = ABSTAIN
        codes[digit == 1, j] = NA
    return codes
