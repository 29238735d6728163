# SPDX-License-Identifier: Apache-2.0
"""Read and write the column of scores in Parquet and Arrow: a struct of one float32 per member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quorum.votes.schema import SCORES_COLUMN, Cell, VotesError
from quorum_contract.scores import LOWEST_SCORE, ROUNDING


def check_type(kind: Any, members: Sequence[str]) -> None:
    """Refuse, by VotesError, a type that cannot hold scores of these members; some may be missing."""
    if pa.types.is_null(kind):
        return
    if not pa.types.is_struct(kind):
        raise VotesError(f"column {SCORES_COLUMN!r} is {kind}; a struct of one number per member is needed")
    fields = [kind.field(at) for at in range(kind.num_fields)]
    names = [field.name for field in fields]
    strange = sorted({name for name in names if name not in members or names.count(name) > 1})
    if strange:
        raise VotesError(f"column {SCORES_COLUMN!r} names {strange}; the members, each once, are {members}")
    for field in fields:
        if not (_is_number(field.type) or pa.types.is_null(field.type)):
            raise VotesError(f"column {SCORES_COLUMN!r} has {field.type} for {field.name!r}; use float32")


def read_column(column: Any, members: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the (n, m) numbers of a column that :func:`check_type` lets pass, nan where there is none."""
    numbers = np.full((len(column), len(members)), np.nan)
    for j, name in enumerate(members):
        at = -1 if pa.types.is_null(column.type) else column.type.get_field_index(name)
        if at >= 0:
            field = pc.struct_field(column, [at]).cast(pa.float64(), safe=False)
            numbers[:, j] = field.to_numpy(zero_copy_only=False)
    return numbers


def misfits(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which numbers :func:`quorum_contract.scores.valid_score` would not let pass; nan is none."""
    return ~np.isnan(numbers) & ~((numbers >= LOWEST_SCORE) & (numbers <= ROUNDING))


def as_column(cells: Sequence[Cell], members: Sequence[str]) -> Any:
    """Make the column of these cells."""
    fields = [
        pa.array([cell.scores[j] if cell.scores else None for cell in cells], pa.float32())
        for j in range(len(members))
    ]
    return pa.StructArray.from_arrays(fields, names=list(members))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
