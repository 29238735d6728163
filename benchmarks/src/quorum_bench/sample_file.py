# SPDX-License-Identifier: Apache-2.0
"""Write and read ``samples.parquet``: a row a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from quorum_bench.samples import OK, Samples

SCHEMA = pa.schema(
    [
        ("point", pa.dictionary(pa.int32(), pa.string())),
        ("run", pa.int32()),
        ("steady", pa.bool_()),
        ("request", pa.int64()),
        ("intended_ns", pa.int64()),
        ("sent_ns", pa.int64()),
        ("done_ns", pa.int64()),
        ("status", pa.int32()),
    ]
)
"""``samples.parquet``: ``point`` and ``run`` as in ``results.json``; ``steady``: counted in the metrics."""


class SampleFile:
    """``samples.parquet``, written run by run."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def add(self, point: str, run: int, samples: Samples, window_ns: tuple[int, int]) -> None:
        """Append a run; ``window_ns`` is the window of its metrics."""
        start, stop = window_ns
        count = len(samples)
        columns: dict[str, Any] = {
            "point": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([point])),
            "run": np.full(count, run, np.int32),
            "steady": (samples.intended_ns >= start) & (samples.intended_ns < stop),
        }
        columns |= {f.name: getattr(samples, f.name) for f in fields(Samples)}
        self._writer.write_table(pa.table(columns, schema=SCHEMA))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_latencies(path: Path) -> Mapping[tuple[str, int], npt.NDArray[np.float64]]:
    """Latencies in ms of the answered requests that count, by point and run, in the order of sending."""
    table = pq.read_table(path, filters=[("steady", "=", True), ("status", "=", OK)])
    points = np.array(table["point"].cast(pa.string()).to_pylist(), dtype=object)
    runs = table["run"].to_numpy()
    latency = (table["done_ns"].to_numpy() - table["intended_ns"].to_numpy()) / 1e6
    keys = sorted(set(zip(points.tolist(), runs.tolist(), strict=True)))
    return {key: latency[(points == key[0]) & (runs == key[1])] for key in keys}
