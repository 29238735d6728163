# SPDX-License-Identifier: Apache-2.0
"""Read the rows of a part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from quorum.bulk.inputs.cursors import cursor_over
from quorum.bulk.inputs.formats.cursor import Flaw, Place
from quorum.bulk.inputs.layout import Source
from quorum.bulk.inputs.opening import reading
from quorum.bulk.inputs.records import BadRow, ListingsError, Row
from quorum.bulk.inputs.scan import Part, Scan, bad_row, row_place


class PartReader:
    """Reads parts; those that follow each other in one go.

    A source that is packed, or in an encoding such as UTF-16, can be read from its start only: a reader goes
    on where it is, and begins again only to go back. Not for several threads.
    """

    def __init__(self, scan: Scan) -> None:
        """Open nothing yet."""
        self._scan = scan
        self._open = ExitStack()
        self._rows: Iterator[Mapping[str, Any] | Flaw] = iter(())
        self._source, self._next = -1, 0

    def __enter__(self) -> PartReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is open."""
        self._open.close()
        self._source = -1

    def read(self, part: Part) -> Iterator[Row | BadRow]:
        """The rows of a part, as the scan saw them; the next part may be asked for before all are taken.

        Raises:
            ListingsError: The source cannot be read, or has fewer rows now.
        """
        source = self._scan.sources[part.source]
        with reading(source.name):
            self._go_to(source, part)
            for index in range(part.first, part.first + part.rows):
                values = self._following(source)
                if isinstance(values, Flaw):
                    yield bad_row(source, index, values)
                else:
                    yield Row(index, row_place(source, index), values)

    def _go_to(self, source: Source, part: Part) -> None:
        if self._source == part.source and self._next == part.first:
            return
        direct = part.offset is not None and part.first > source.first
        if direct or self._source != part.source or self._next > part.first:
            self.close()
            start = Place(part.offset or 0, part.line, part.first - source.first) if direct else None
            self._rows = iter(self._open.enter_context(cursor_over(source, start)))
            self._source, self._next = part.source, part.first if direct else source.first
        while self._next < part.first:
            self._following(source)

    def _following(self, source: Source) -> Mapping[str, Any] | Flaw:
        """The next row of the source."""
        values = next(self._rows, None)
        if values is None:
            raise ListingsError(
                f"{source.name}: ends after row {self._next - source.first}, but had {source.rows} when it "
                "was scanned; put the old file back"
            )
        self._next += 1
        return values
