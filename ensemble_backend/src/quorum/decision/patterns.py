# SPDX-License-Identifier: Apache-2.0
"""Encode cells as agreement patterns: which members agree, which name "n/a", which abstain.

A cell is one row of ``codes``: per member the id of the candidate it named, local to the cell. Every
label-symmetric method depends on a cell only through its pattern (674 of them for 5 members, with "n/a"
kept apart), so cells are encoded as pattern keys in one pass and all further work is per pattern.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

ABSTAIN = -1
"""Code of a member without a vote (failed, not asked)."""
NA = 0
"""Code of the value "n/a"; named values are 1 and up, with ids local to the cell."""
MAX_MEMBERS = 18
"""The most members whose pattern fits a 64-bit key."""

Codes = npt.NDArray[np.signedinteger[Any]]
"""(n, m) codes of the candidates that the members named."""
Keys = npt.NDArray[np.signedinteger[Any]]
"""(n,) keys of patterns, ids of groups, or indices."""
Scalar = TypeVar("Scalar", bound=np.generic)

# Rows whose columns, a byte each, stay in a 1 MB cache.
_BLOCK = 1 << 16
_BYTE = 1 << 8


def key_space(members: int) -> int:
    """Number of possible keys, reachable or not: ``3 * 4 * ... * (members + 2)``."""
    return math.factorial(members + 2) // 2


def check_codes(codes: npt.NDArray[np.generic]) -> None:
    """Raise ValueError if an array is no matrix of signed integers, or has too many members."""
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.signedinteger):
        raise ValueError(
            f"codes must be (cells, members) signed integers, not {codes.dtype} of shape {codes.shape}"
        )
    if not 1 <= codes.shape[1] <= MAX_MEMBERS:
        raise ValueError(f"{codes.shape[1]} members; between 1 and {MAX_MEMBERS} are possible")


def pattern_keys(codes: Codes) -> Keys:
    """Encode each cell's pattern as one integer: keys are equal exactly where patterns are.

    Digit ``j`` of the key, in mixed radix ``j + 3``, is the first of these that member ``j`` equals:
    abstained, "n/a", member 0, 1, ..., j - 1; or ``j + 2`` when it named a new value.

    Returns:
        Keys in ``[0, key_space(m))``, in the smallest of int16, int32, int64 that holds them.

    Raises:
        ValueError: See :func:`check_codes`; or a code below -1.
    """
    check_codes(codes)
    n, m = codes.shape
    keys = np.empty(n, narrowest(key_space(m)))
    for start in range(0, n, _BLOCK):
        rows = codes[start : start + _BLOCK]
        if (low := rows.min()) < ABSTAIN:
            raise ValueError(f"a code is {low}; -1 means abstained, 0 n/a, 1 and up a value")
        narrow = rows.dtype.itemsize == 1 or rows.max() <= np.iinfo(np.int8).max
        columns = np.ascontiguousarray(rows.T, dtype=np.int8 if narrow else rows.dtype)
        _block_keys(columns, keys[start : start + _BLOCK])
    return keys


def narrowest(space: int) -> np.dtype[np.signedinteger[Any]]:
    """Smallest of int16, int32, int64 that holds 0 .. ``space``, to save memory traffic."""
    types = (np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.int64))
    return next(kind for kind in types if space <= np.iinfo(kind).max)


def spread(table: npt.NDArray[Scalar], where: Keys) -> npt.NDArray[Scalar]:
    """``table[where]`` for a small table and many indices, all known to be in range."""
    out = np.empty(len(where), table.dtype)
    for start in range(0, len(where), _BLOCK):
        block = slice(start, start + _BLOCK)
        # A mode other than "raise" writes straight into the result; fancy indexing takes twice as long.
        np.take(table, where[block].astype(np.intp), out=out[block], mode="clip")
    return out


def _block_keys(columns: Codes, keys: Keys) -> None:
    """Write the keys of (m, b) columns; digits are multiplied together in bytes as long as they fit."""
    m, n = columns.shape
    differs, unmatched, digit, packed = np.empty((4, n), np.uint8)
    radix, written = 1, False
    for j in range(m):
        # 0 abstained, 1 "n/a", 2 a value; then the count of leading non-matches is the index of the first
        # match: only SIMD-friendly byte operations.
        np.sign(columns[j], out=digit.view(np.int8), casting="unsafe")
        np.add(digit, 1, out=digit)
        np.greater(columns[j], NA, out=unmatched.view(np.bool_))
        for other in columns[:j]:
            np.not_equal(columns[j], other, out=differs.view(np.bool_))
            np.bitwise_and(unmatched, differs, out=unmatched)
            np.add(digit, unmatched, out=digit)
        if radix * (j + 3) > _BYTE:
            _append(keys, packed, radix, written)
            radix, written = 1, True
        if radix == 1:
            packed, digit = digit, packed
        else:
            np.multiply(packed, j + 3, out=packed)
            np.add(packed, digit, out=packed)
        radix *= j + 3
    _append(keys, packed, radix, written)


def _append(keys: Keys, packed: npt.NDArray[np.uint8], radix: int, written: bool) -> None:
    if written:
        np.multiply(keys, radix, out=keys)
        np.add(keys, packed, out=keys)
    else:
        np.copyto(keys, packed)


def decode_keys(keys: Keys, members: int) -> npt.NDArray[np.int8]:
    """(p, members) canonical codes of (p,) keys: values numbered 1, 2, ... in order of first appearance."""
    codes = np.empty((len(keys), members), np.int8)
    digits = np.empty((len(keys), members), np.int64)
    rest = keys.astype(np.int64)
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
