# SPDX-License-Identifier: Apache-2.0
"""Write the column of usage in Parquet and Arrow: per member a struct of float64 figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from quorum.votes.schema import USAGE_COLUMN, Cell, VotesError
from quorum_contract import Spent

_FIELDS = pa.struct([(name, pa.float64()) for name in Spent._fields])


def check_type(kind: Any) -> None:
    """Refuse, by VotesError, a type that cannot hold usage."""
    if not (pa.types.is_null(kind) or pa.types.is_struct(kind)):
        raise VotesError(
            f"column {USAGE_COLUMN!r} is {kind}; it is what members took, a struct of one struct per member; "
            "give a member of that name another one"
        )


def as_column(cells: Sequence[Cell], members: Sequence[str]) -> Any:
    """Make the column of these cells."""
    fields = []
    for j in range(len(members)):
        known = [cell.usage[j] if cell.usage else None for cell in cells]
        fields.append(pa.array([spent and spent._asdict() for spent in known], _FIELDS))
    return pa.StructArray.from_arrays(fields, names=list(members))
