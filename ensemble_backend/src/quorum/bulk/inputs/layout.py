# SPDX-License-Identifier: Apache-2.0
"""What one input file is: where, of which format, encoding and dialect, and who can tell that it changed."""

from __future__ import annotations

from dataclasses import dataclass

from quorum.bulk.inputs.dialect import Dialect
from quorum.bulk.inputs.options import Compression, Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file.

    Attributes:
        url: Path or URL to open.
        name: As messages call it: what the user gave, or "standard input".
        format: Format of its rows.
        compression: How it is packed; "" for not.
        encoding: Codec of its text; "" of Parquet.
        dialect: Of CSV; None of other formats.
        columns: Its columns, in order; of JSON Lines in order of appearance.
        size: Bytes, as it lies there.
        digest: ``sha256:...`` of its bytes, of a URL the hash or version that its store has, and the size; ""
            where a store has none.
        first: Index of its first row over all sources, from 0.
        rows: Number of its rows, bad ones too.
    """

    url: str
    name: str
    format: Format
    compression: Compression = ""
    encoding: str = ""
    dialect: Dialect | None = None
    columns: tuple[str, ...] = ()
    size: int = 0
    digest: str = ""
    first: int = 0
    rows: int = 0

    def in_words(self) -> str:
        """Such as "CSV, cells separated by semicolons, in cp1252, gz"."""
        words = {"csv": "CSV", "jsonl": "JSON Lines", "parquet": "Parquet"}[self.format]
        if self.dialect is not None:
            words += f", {self.dialect.in_words()}"
        if self.encoding:
            words += f", in {self.encoding}"
        return words + (f", packed as {self.compression}" if self.compression else "")
