# SPDX-License-Identifier: Apache-2.0
"""What a user may say about input files; what is not said is detected."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Literal

from quorum.bulk.inputs.records import ListingsError

Format = Literal["csv", "jsonl", "parquet"]
Compression = Literal["", "gz", "bz2", "xz", "zst"]

PART_ROWS = 1_000
"""Rows of a part, unless another number is given."""
NO_QUOTES = "none"
"""As ``quote``: quotes are characters like all others."""
_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How to read every input.

    Attributes:
        format: "csv" (TSV too), "jsonl" or "parquet"; None: by the ending of the name, else by the content.
        encoding: Name of a codec of Python's, such as "cp1252"; None: detected. With a name given, a row that
            the encoding does not allow is a bad row.
        delimiter: Character between the cells of CSV, or "tab"; None: detected.
        quote: Character around cells, or "none"; None: detected.
        compression: "gz", "bz2", "xz" or "zst", "" for none; None: by the first bytes.

    Raises:
        ListingsError: A value that cannot work.
    """

    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    compression: Compression | None = None

    def __post_init__(self) -> None:
        if self.format not in (None, "csv", "jsonl", "parquet"):
            raise ListingsError(f"format {self.format!r}; give csv, jsonl or parquet")
        if self.compression not in (None, "", "gz", "bz2", "xz", "zst"):
            raise ListingsError(f"compression {self.compression!r}; give gz, bz2, xz or zst")
        if self.encoding is not None:
            try:
                "a".encode(self.encoding)
            except (LookupError, ValueError) as error:
                raise ListingsError(
                    f"encoding {self.encoding!r} is not known; give one such as utf-8 or cp1252"
                ) from error
        if self.delimiter is not None and len(self.separator or "") != 1:
            raise ListingsError(f"delimiter {self.delimiter!r}; give one character, or 'tab'")
        if self.quote is not None and self.quote != NO_QUOTES and len(self.quote) != 1:
            raise ListingsError(f"quote {self.quote!r}; give one character, or 'none'")
        if self.quote is not None and self.quote == self.separator:
            raise ListingsError(f"quote and delimiter are both {self.quote!r}")

    @property
    def codec(self) -> str | None:
        """The usual name of the encoding."""
        return None if self.encoding is None else codecs.lookup(self.encoding).name

    @property
    def separator(self) -> str | None:
        """The delimiter as a character."""
        return None if self.delimiter is None else _DELIMITERS.get(self.delimiter, self.delimiter)
