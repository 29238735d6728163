# SPDX-License-Identifier: Apache-2.0
"""Gather a file of keyphrases into the table of a version: one row for each normal form."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quorum.files import replacing
from quorum.retrieval.keyphrase_lines import Broken, Keyphrase, KeyphrasesError, read_lines

MAX_BAD = "1%"
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Gathered:
    """Keyphrases of a file.

    Attributes:
        table: Arrow table with the columns of ``keyphrases.parquet``: ``keyphrase``, ``categories`` (empty:
            all) and ``normal``; in the order of the file.
        lines: How many there were, of Parquet rows.
        broken: Reason -> lines that cannot be used.
        duplicates: Lines whose normal form had a line before; their categories were added to its row.
        blocked: Lines that the blocklist names.
    """

    table: Any
    lines: int
    broken: Counter[str]
    duplicates: int
    blocked: int

    @property
    def texts(self) -> Any:
        """(n,) Arrow array of the keyphrases."""
        return self.table.column("keyphrase").combine_chunks()


def gather_keyphrases(
    path: Path, dead_letters: Path, max_bad: str = MAX_BAD, blocked: Collection[str] = ()
) -> Gathered:
    """Read a file, merge what is the same for a buyer, and write broken lines to a file of their own.

    Memory grows with the usable keyphrases, by about 300 bytes each.

    Args:
        path: See :func:`quorum.retrieval.keyphrase_lines.read_lines`.
        dead_letters: JSON lines {line, reason, content} of the broken ones; no file where there are none.
        max_bad: Lines that may be broken: a number, or a share of all such as "1%".
        blocked: Normal forms that are left out.

    Raises:
        KeyphrasesError: Too many lines are broken, nothing is left, or the file cannot be read.
        OSError: The dead letters cannot be written.
    """
    allowed = _allowed(max_bad)
    sorter = _Sorter(blocked)
    dead_letters.parent.mkdir(parents=True, exist_ok=True)
    with replacing(dead_letters) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in read_lines(path):
            if isinstance(line, Broken):
                sorter.broken[_kind(line.reason)] += 1
                # A lone surrogate has no UTF-8.
                file.write(json.dumps(line._asdict()) + "\n")
            else:
                sorter.add(line)
    bad = sum(sorter.broken.values())
    if not bad:
        with suppress(FileNotFoundError):
            dead_letters.unlink()
    lines = bad + sorter.usable
    if not lines:
        raise KeyphrasesError(f"{path} is empty; write keyphrases into it, one a line")
    if bad > allowed(lines):
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorter.broken.most_common(3))
        raise KeyphrasesError(
            f"{path}: {bad} of {lines} lines are broken ({reasons}), more than --max-bad {max_bad} allows;"
            f" nothing was written but {dead_letters}, which names them"
        )
    table = sorter.table()
    if not len(table):
        raise KeyphrasesError(f"{path}: all {sorter.usable} keyphrases are on the blocklist; nothing is left")
    duplicates = sorter.usable - sorter.left_out - len(table)
    return Gathered(table, lines, sorter.broken, duplicates, sorter.left_out)


def read_broken(dead_letters: Path) -> Counter[str]:
    """Reason -> broken lines, of a file that :func:`gather_keyphrases` wrote; none where there is no file."""
    if not dead_letters.exists():
        return Counter()
    with dead_letters.open(encoding="utf-8") as file:
        return Counter(_kind(json.loads(line)["reason"]) for line in file)


def _kind(reason: str) -> str:
    return reason.partition(" (")[0]


def _allowed(max_bad: str) -> Callable[[int], float]:
    """Lines of all that may be broken."""
    number = max_bad.strip().removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise KeyphrasesError(f"--max-bad {max_bad!r}; give a number of lines, or a share such as 1%")
    return lambda lines: value / 100 * lines if max_bad.strip().endswith("%") else value


class _Sorter:
    """Usable lines, held in Arrow's memory: a third of what Python's strings take."""

    def __init__(self, blocked: Collection[str]) -> None:
        self.broken: Counter[str] = Counter()
        self.usable = self.left_out = 0
        self._blocked = frozenset(blocked)
        self._rows: list[Keyphrase] = []
        self._tables: list[Any] = []

    def add(self, keyphrase: Keyphrase) -> None:
        self.usable += 1
        if keyphrase.normal in self._blocked:
            self.left_out += 1
            return
        self._rows.append(keyphrase)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._tables.append(_table(self._rows))
        self._rows = []

    def table(self) -> Any:
        """One row for each normal form, in the order of their first lines."""
        import pyarrow as pa

        self._flush()
        table = pa.concat_tables(self._tables).combine_chunks()
        return _merged(table) if len(table) else table


def _table(rows: Iterable[Keyphrase]) -> Any:
    import pyarrow as pa

    rows = list(rows)
    columns = {
        "keyphrase": pa.array([row.text for row in rows], pa.string()),
        "categories": pa.array([row.categories for row in rows], pa.list_(pa.string())),
        "normal": pa.array([row.normal for row in rows], pa.string()),
    }
    return pa.table(columns)


def _merged(table: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    # Numbered in the order of their first appearance.
    forms = pc.dictionary_encode(table.column("normal").combine_chunks())
    row_of = forms.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, first = np.unique(row_of, return_index=True)
    lists = table.column("categories").combine_chunks()
    return pa.table(
        {
            "keyphrase": table.column("keyphrase").combine_chunks().take(pa.array(first)),
            "categories": _united(lists, row_of, len(first)),
            "normal": forms.dictionary,
        }
    )


def _united(lists: Any, row_of: npt.NDArray[np.int64], rows: int) -> Any:
    """Categories of the lines of each row, each once, in the order of the file; all, if one line has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    fits_all = np.zeros(rows, np.bool_)
    fits_all[row_of[lengths == 0]] = True
    named = pc.dictionary_encode(lists.flatten())
    owners = np.repeat(row_of, lengths)
    numbers = named.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, first = np.unique(owners * max(1, len(named.dictionary)) + numbers, return_index=True)
    kept = first[~fits_all[owners[first]]]
    kept = kept[np.lexsort((kept, owners[kept]))]
    ends = np.cumsum(np.bincount(owners[kept], minlength=rows))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    values = named.dictionary.take(pa.array(numbers[kept]))
    return pa.ListArray.from_arrays(offsets, values)
