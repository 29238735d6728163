# SPDX-License-Identifier: Apache-2.0
"""Read ``keyphrases.parquet`` of a version: texts, categories and normal forms, by row.

Columns: ``keyphrase`` (string), ``categories`` (list of strings; empty: all) and ``normal`` (string, by
:func:`quorum.retrieval.filters.normal_form`). They stay in Arrow's memory, which is much less than strings.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.retrieval.filters import Mask, category_form
from quorum.retrieval.manifest import KEYPHRASES_FILE, ManifestError, first_line

_COLUMNS = {"keyphrase": "string", "categories": "list<string>", "normal": "string"}
_ANY, _UNKNOWN = -1, -2
_CACHED = 32
_FEW = 16
"""Where fewer than one of so many keyphrases fit, they are searched alone, and not among all."""


class Fitting(NamedTuple):
    """The keyphrases that fit a category.

    Attributes:
        mask: (n,) which of them.
        rows: Their rows, if they are few.
    """

    mask: Mask
    rows: npt.NDArray[np.int64] | None


class Keyphrases:
    """The keyphrases of a version, numbered as its vectors are.

    Attributes:
        forms: (n,) int32 number of each one's normal form; equal ones have equal numbers.
    """

    def __init__(self, folder: Path, blocked: Collection[str] = ()) -> None:
        """Read them from a version's folder.

        Args:
            folder: The folder.
            blocked: Normal forms of those that are never recommended.

        Raises:
            ManifestError: The file cannot be read, or has other columns.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        table = _read(folder / KEYPHRASES_FILE)
        self._texts = table.column("keyphrase").combine_chunks()
        normal = pc.dictionary_encode(table.column("normal").combine_chunks())
        self.forms: npt.NDArray[np.int32] = normal.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        is_blocked = pc.is_in(normal.dictionary, value_set=pa.array(sorted(blocked), normal.dictionary.type))
        self._open: Mask = ~is_blocked.to_numpy(zero_copy_only=False).astype(np.bool_)[self.forms]
        lists = pc.fill_null(table.column("categories").combine_chunks(), [])
        named = pc.dictionary_encode(lists.flatten())
        # Spellings of one category have one number.
        numbers: dict[str, int] = {}
        of_name = [
            numbers.setdefault(category_form(name), len(numbers)) for name in named.dictionary.to_pylist()
        ]
        self._numbers = numbers
        self._categories = np.array(of_name, np.int32)[named.indices.to_numpy(zero_copy_only=False)]
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._everywhere: Mask = self._open & (lengths == 0)
        # Each holds a byte per keyphrase.
        self._fitting = lru_cache(maxsize=_CACHED)(self._find)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.forms)

    def texts(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The keyphrases of these rows."""
        return [self._texts[row].as_py() for row in rows.tolist()]

    def fitting(self, category: str) -> Fitting:
        """Which keyphrases may be recommended for an item of a leaf category; "" is all categories.

        A keyphrase without a category fits every item.
        """
        return self._fitting(self._numbers.get(category_form(category), _UNKNOWN) if category else _ANY)

    def _find(self, number: int) -> Fitting:
        mask = self._open if number == _ANY else self._everywhere.copy()
        if number >= 0:
            named = np.flatnonzero(self._categories == number)
            rows = np.searchsorted(self._ends, named, side="right")
            mask[rows] = self._open[rows]
        few = np.count_nonzero(mask) * _FEW <= len(mask)
        return Fitting(mask, np.flatnonzero(mask) if few else None)


def _read(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=[*_COLUMNS])
        wanted = {"keyphrase": pa.string(), "categories": pa.list_(pa.string()), "normal": pa.string()}
        table = table.cast(pa.schema(wanted))
        if any(table.column(name).null_count for name in ("keyphrase", "normal")):
            raise ValueError("a row has no keyphrase, or no normal form")
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        columns = ", ".join(f"{name}: {kind}" for name, kind in _COLUMNS.items())
        raise ManifestError(
            f"{path}: cannot be read ({first_line(error)}), expected are the columns {columns}; make the"
            " version again with `quorum index`"
        ) from error
    return table
