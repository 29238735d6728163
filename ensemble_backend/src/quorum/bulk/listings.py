# SPDX-License-Identifier: Apache-2.0
"""Read whole files of listings into memory, and the gold in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from quorum.bulk.callbacks import Note
from quorum.bulk.inputs.parts import PartReader
from quorum.bulk.inputs.records import BadRow, ListingsError, Row
from quorum.bulk.inputs.scan import Scan, scan
from quorum.bulk.mapping import ColumnMap, ColumnNames, Listing, is_pair, parse_gold
from quorum.runtimes.filled_file import ID_NAMES
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.kinds import kind_of

__all__ = [
    "ID_COLUMNS",
    "Listing",
    "ListingsError",
    "check_gold",
    "gold_flaw",
    "gold_names",
    "gold_of",
    "read_listings",
]

ID_COLUMNS = ID_NAMES


def read_listings(
    path: Path,
    text_column: str | Sequence[str] | None = None,
    id_column: str | None = None,
    fields: Sequence[str] = (),
    *,
    can_name: bool = True,
    note: Note | None = None,
) -> list[Listing]:
    """Read every listing of a file, or of the files in a folder; see :func:`quorum.bulk.inputs.scan.scan`.

    The columns are those of :class:`quorum.bulk.mapping.ColumnNames`, of which ``text_column``, ``id_column``
    and ``fields`` may be named. Texts are not checked: they may be empty. ``can_name``: whether the caller
    has an option for the text column, which messages then name. With ``note``, rows that are bad, also those
    whose text no server takes, are left out and remarked on.

    Raises:
        ListingsError: The file cannot be read, has no text column or none of the name given for the id, or a
            row is bad, with ``note`` every row; the first one is named.
    """
    text = (text_column,) if isinstance(text_column, str) else text_column or ()
    names = ColumnNames(
        text=tuple(text),
        id=id_column,
        fields=tuple(fields),
        options=("--text" if can_name else "", "--id"),
    )
    scanned = _scanned(path, refuses_bad=note is None)
    mapping = ColumnMap.of(names, scanned.columns, str(path))
    found: list[Listing] = []
    bad: list[BadRow] = []
    for row in _rows(scanned):
        listing = row if isinstance(row, BadRow) else mapping.listing(row, checked=note is not None)
        if isinstance(listing, BadRow):
            bad.append(listing)
        else:
            found.append(listing)
    if bad:
        first = f"{bad[0].place}: {bad[0].reason}"
        if note is None or not found:
            raise ListingsError(first)
        note(
            f"{len(bad)} of {scanned.rows} rows {'is' if len(bad) == 1 else 'are'} bad and left out: {first}"
        )
    return found


def gold_names(path: Path) -> tuple[str, ...]:
    """The attributes that a file has gold for, in order of first appearance.

    The texts are not looked at: which columns they are made of may depend on the attributes. Raises
    ListingsError as :func:`read_listings` does.
    """
    found: dict[str, None] = {}
    for row in _rows(_scanned(path)):
        assert isinstance(row, Row)
        try:
            found |= dict.fromkeys(parse_gold(row.values.get("gold") or {}))
        except ListingsError as error:
            raise ListingsError(f"{row.place}: {error}") from error
    return tuple(found)


def _scanned(path: Path, *, refuses_bad: bool = True) -> Scan:
    """A scan of a file; raises ListingsError for the first bad row, if that is refused."""
    scanned = scan([str(path)])
    if scanned.bad and refuses_bad:
        first, more = scanned.bad[0], scanned.bad_rows - 1
        others = f" (and {more} more bad rows)" if more else ""
        raise ListingsError(f"{first.place}: {first.reason}{others}")
    return scanned


def _rows(scanned: Scan) -> Iterator[Row | BadRow]:
    with PartReader(scanned) as reader:
        for part in scanned.parts:
            yield from reader.read(part)


def check_gold(listings: Sequence[Listing], catalogue: Catalogue) -> None:
    """Refuse gold of another kind than its attribute, see :func:`gold_flaw`.

    Raises:
        ListingsError: Names the row and the attribute.
    """
    for listing in listings:
        if flaw := gold_flaw(listing, catalogue):
            raise ListingsError(f"{listing.place or listing.product}: {flaw}")


def gold_flaw(listing: Listing, catalogue: Catalogue) -> str:
    """What is wrong with the gold of a listing: pairs where no spans are asked for, or others for spans."""
    for attribute, values in listing.gold.items():
        known = catalogue.get(attribute)
        pairs = kind_of(known).has_pairs
        if wrong := [value for value in values if is_pair(value) != pairs]:
            wanted = "pairs [words, type]" if pairs else f"{known.kind}s, and no pairs"
            return (
                f"gold of {attribute!r} has {wrong[0]!r:.80}, but it is of kind {known.kind!r}; give {wanted}"
            )
    return ""


def gold_of(listing: Listing, attribute: str, catalogue: Catalogue) -> list[str]:
    """The acceptable answers, spelled like votes; a single one for spans, and for many values.

    A value outside a closed set stays unchanged; so do spans that the text does not have.
    """
    if attribute not in listing.gold:
        return []
    known = catalogue.get(attribute)
    return kind_of(known).gold(known, listing.gold[attribute], listing.text)
