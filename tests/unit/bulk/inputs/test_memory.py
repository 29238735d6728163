# SPDX-License-Identifier: Apache-2.0
"""Memory does not grow with the rows."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from quorum.bulk.inputs import ids
from quorum.bulk.inputs.ids import Ids
from quorum.bulk.inputs.parts import PartReader
from quorum.bulk.inputs.scan import Scan, scan
from quorum.bulk.mapping import ColumnNames


def peak_of(call: Callable[[], object]) -> int:
    """The most memory that a call had at once, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read(found: Scan) -> int:
    with PartReader(found) as reader:
        return sum(1 for part in found.parts for _ in reader.read(part))


@pytest.mark.parametrize("packed", [False, True])
def test_six_times_the_rows_take_the_same_memory(tmp_path: Path, packed: bool) -> None:
    row = 'sku-{0},"a shoe ""{0}"", red",' + "x" * 60 + "\n"
    scanning, reading = [], []
    for rows in (2_000, 12_000):
        path = tmp_path / f"{rows}.csv{'.gz' if packed else ''}"
        content = ("sku,title,about\n" + "".join(row.format(n) for n in range(rows))).encode()
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        scanning.append(peak_of(partial(scan, [str(path)], columns=ColumnNames())))
        found = scan([str(path)])
        reading.append(peak_of(partial(read, found)))
    # The large file has 1.2 MB. Of each row the scan holds 16 bytes while it compares ids.
    assert scanning[1] < scanning[0] + 1_000_000
    assert reading[1] < reading[0] + 300_000


@pytest.mark.parametrize("at_once", [4, 1 << 20])
def test_repeated_ids_are_found_slice_by_slice(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(ids, "_AT_ONCE", at_once)
    known = Ids()
    for row in range(100):
        known.add(f"id-{row % 97}", row)
    assert known.repeated() == (3, ((0, 97), (1, 98), (2, 99)))
    mark = known.mark()
    known.add("id-50", 100)
    known.forget(mark)
    known.add("id-51", 100)
    assert known.repeated(9) == (4, ((0, 97), (1, 98), (2, 99), (51, 100)))
