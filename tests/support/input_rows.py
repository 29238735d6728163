# SPDX-License-Identifier: Apache-2.0
"""Rows of an input, read as a job does."""

from __future__ import annotations

from collections.abc import Iterator

from quorum.bulk.inputs.parts import PartReader
from quorum.bulk.inputs.records import BadRow, Row
from quorum.bulk.inputs.scan import Part, Scan


def read_part(scan: Scan, part: Part) -> Iterator[Row | BadRow]:
    """The rows of one part, read alone."""
    with PartReader(scan) as reader:
        yield from reader.read(part)
