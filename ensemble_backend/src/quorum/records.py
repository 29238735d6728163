# SPDX-License-Identifier: Apache-2.0
"""Results as JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """A result with a JSON form, the one that ``--json`` prints."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values by the names of the fields, without those that are None or "" as by default."""
        values = {field: getattr(self, field.name) for field in fields(self)}
        return {f.name: plain(v) for f, v in values.items() if v not in (None, "") or v != f.default}


def plain(value: Any) -> Any:
    """JSON values of records, dataclasses, containers and paths; nan is None. Others raise TypeError."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} has no JSON form")
    return None if isinstance(value, float) and math.isnan(value) else value
